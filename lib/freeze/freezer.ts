/**
 * Freezing flows: their clients are told that the window is closed, for as long as a lease lasts.
 *
 * @module
 */
import type { Batch, BpfMap } from "../../ffi/bpf_map.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { Injector, PcapError } from "../../ffi/libpcap.ts";
import { PacketSocket, VNET_HEADER } from "../../ffi/packet_socket.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import { pause } from "../clock.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { FLOW, FLOW_KEY, MARK_INJECTED, Mode } from "../flow/layout.ts";
import { Injection } from "../heal/injection.ts";
import { macOf, mtuOf } from "../host/links.ts";
import { isPinned, openPinnedMaps } from "../program/instance.ts";
import { type InstanceRecord, readRecord } from "../program/run_dir.ts";
import { Control, shadowKind } from "../shadow/programs.ts";
import { Flag, nobodysFrame, NOTHING, SegmentFrames } from "../takeover/frames.ts";
import { type FlowPlace, FlowSegments } from "../takeover/segments.ts";
import { FROZEN, FrozenFlag, MARK_FROZEN } from "./layout.ts";
import { EVERY_FLOW, isSelected, type Selection } from "./selection.ts";

/** How long a freeze outlives the process that does not renew it any more, in milliseconds. */
export const GRACE = 1000;
/** How often it is to be renewed, in milliseconds. */
export const RENEWAL = 200;
/** Between two looks at whether another process's freeze is over, in milliseconds. */
const LOOK = 10;
/** When clients are told of an open window, in milliseconds: a pure acknowledgement is not sent again if it is lost. */
const THAWS: readonly number[] = [0, 10, 50];
/** How long the programs let these out, in milliseconds. */
const THAW_GRACE = 500;
/** How often the code of the event runs before it; enough for V8 to compile it. */
const REHEARSALS = 200;

/** Ethernet, IPv6, TCP and timestamps, in bytes. */
const MAX_HEADERS = 14 + 40 + 20 + 12;
/** The programs fill in the rest. */
const TEMPLATE = { toClient: true, seq: 0, ack: 0, window: 0, flags: Flag.ACK, payload: NOTHING };

/** How flows are frozen. */
export interface Freeze {
  /** For how long at most, in milliseconds; see {@linkcode Freezer.renew}. */
  lease: number;
  /** Which; all unless given. */
  selection?: Selection;
  /**
   * Acknowledge only what the primary has acknowledged, so that it can go on. Otherwise the client forgets what the
   * replica has, and where it sends again after a thaw without a takeover, the primary may lack bytes for ever.
   */
  revocable?: boolean;
}

/** What {@linkcode Freezer.thaw} has begun. */
export interface Thaw {
  /** How many flows were frozen. */
  flows: number;
  /** Resolves once their clients have been told for the last time; to be awaited before the freezer is closed. */
  done: Promise<void>;
}

/** Freezes and thaws flows of the shadow in a run directory: maps, sockets and code are ready before the event. */
export class Freezer implements Disposable {
  /** The interface that carries the flows. */
  readonly interface: string;
  /** The services, as the user wrote them. */
  readonly services: string[];
  /** Frames that could not be sent, so far. */
  unsent = 0;
  readonly #runDir: string;
  readonly #ifindex: number;
  readonly #maps: Map<string, BpfMap>;
  readonly #control: Control;
  readonly #wire: PacketSocket;
  readonly #segments: FlowSegments;
  readonly #injection: Injection;
  readonly #frames = new SegmentFrames();
  readonly #buffer = new Uint8Array(VNET_HEADER + MAX_HEADERS);
  readonly #mac: Uint8Array;
  readonly #opened: DisposableStack;
  readonly #flow = new Uint8Array(FLOW.size);
  #batch: Batch;
  /** When the lease is over for good, in nanoseconds of CLOCK_MONOTONIC. */
  #end = 0n;

  private constructor(
    runDir: string,
    record: InstanceRecord,
    maps: Map<string, BpfMap>,
    opened: DisposableStack,
  ) {
    this.#runDir = runDir;
    this.interface = record.interface;
    this.#ifindex = interfaceIndex(record.interface);
    this.services = record.services;
    this.#maps = maps;
    this.#opened = opened;
    this.#control = opened.use(new Control(this.map("control")));
    this.#wire = opened.use(new PacketSocket(record.interface, MARK_FROZEN));
    const inward = opened.use(new Injector(record.interface, MARK_INJECTED));
    this.#segments = new FlowSegments(inward, inward);
    this.#injection = new Injection(inward, mtuOf(record.interface));
    this.#mac = macOf(record.interface);
    this.#batch = this.map("flows").entries();
    this.#rehearse(inward);
  }

  /**
   * Opens what `shadow` pinned under `runDir`.
   *
   * @throws {Failure} with status UNAVAILABLE where no shadow was started there
   */
  static prepare(runDir: string): Freezer {
    const record = readRecord(runDir, shadowKind.name);
    const maps = record === undefined ? undefined : openPinnedMaps(shadowKind, runDir);
    if (record === undefined || maps === undefined) {
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `No shadow was started in run directory "${runDir}"`,
        { mend: "start t2cp shadow first, or name its directory with --run-dir" },
      );
    }
    const opened = new DisposableStack();
    try {
      for (const map of maps.values()) opened.use(map);
      return new Freezer(runDir, record, maps, opened);
    } catch (error) {
      opened.dispose();
      throw error;
    }
  }

  /** Whether the shadow is still the one that this was prepared for. */
  isCurrent(): boolean {
    return isPinned(shadowKind, this.#runDir, this.map("control")) &&
      interfaceIndex(this.interface) === this.#ifindex;
  }

  /** The mode that the host is in. Only in shadow mode is anything frozen. */
  get mode(): number {
    return this.#control.mode;
  }

  /** The map `name` of the shadow. */
  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new TypeError(`Map "${name}" is not open`);
    return map;
  }

  /**
   * Waits until what a process has frozen that was killed is over. Returns early where that process lives and renews it,
   * and once `stop` is aborted.
   */
  async whenFree(stop: AbortSignal): Promise<void> {
    const first = this.#control.frozenUntil;
    while (this.#isTaken() && this.#control.frozenUntil <= first && !stop.aborted) {
      await pause(LOOK, stop);
    }
  }

  /**
   * Freezes flows: from now on the programs answer their clients. Each client is told once now; it hears nothing more
   * once the lease is over, or for {@linkcode GRACE} was not renewed. Returns how many there are; none where this host
   * has taken over.
   *
   * @throws {Failure} with status TEMPORARY where another process freezes already
   */
  freeze({ lease, selection = EVERY_FLOW, revocable = false }: Freeze): number {
    if (this.mode !== Mode.SHADOW) return 0;
    const before = this.#requireFree();
    this.#forgetAll();
    const entry = this.#entry(revocable ? FrozenFlag.REVOCABLE : 0);
    const batch = this.#batch = this.map("flows").entries(this.#batch);
    const places = placesOf(batch).filter(({ keyAt, flows, at }) =>
      flows.getUint8(at + FLOW.replica_reset) === 0 && isSelected(selection, batch.keys, keyAt)
    );
    if (places.length === 0) return 0;
    for (const { keyAt } of places) this.map("frozen").update(keyOf(batch, keyAt), entry);
    const now = nanos();
    const end = now + millis(lease);
    if (!this.#control.moveFrozenUntil(before, earlier(now + millis(GRACE), end))) throw busy();
    this.#end = end;
    for (const [index, place] of places.entries()) {
      // Many flows take longer than the grace.
      if (index % 256 === 255) this.renew();
      // From here on another process talks to the clients.
      if (this.mode !== Mode.SHADOW) break;
      // First the replica acknowledges what it may have kept for itself so far.
      this.#try(() => this.#injection.probe(place, false));
      this.#try(() => this.#advertise(place));
    }
    return places.length;
  }

  /**
   * Puts off the end of the freeze; to be called every {@linkcode RENEWAL}. Returns false where it is over: another
   * process has thawed the flows or taken over, the lease has ended, or this call comes too late.
   */
  renew(): boolean {
    const now = nanos(), until = this.#control.frozenUntil;
    if (this.mode !== Mode.SHADOW || until <= now || this.#end <= now) return false;
    const next = earlier(now + millis(GRACE), this.#end);
    return next <= until || this.#control.moveFrozenUntil(until, next);
  }

  /** Whether some process has thawed all that was frozen. */
  get isThawed(): boolean {
    return this.#control.frozenUntil === 0n;
  }

  /** The flows that were frozen last, as the shadow's map has them now; those that have ended are left out. */
  *frozen(): Generator<FlowPlace> {
    for (const key of this.#frozenKeys(EVERY_FLOW)) {
      const place = this.#find(key);
      if (place !== undefined) yield place;
    }
  }

  /**
   * Thaws flows, whichever process has frozen them: their clients are told of the primary's window as it was, or after
   * a takeover the replica is made to tell them of its own. The first time this is done when the call returns.
   */
  thaw(selection: Selection = EVERY_FLOW): Thaw {
    const keys = this.#frozenKeys(selection);
    if (this.mode === Mode.SHADOW && keys.length > 0) {
      for (const key of keys) this.#markThawing(key);
      const until = nanos() + millis(THAW_GRACE);
      if (this.#control.frozenUntil < until) this.#control.frozenUntil = until;
    }
    this.#tell(keys);
    return { flows: keys.length, done: this.#finishThaw(keys) };
  }

  /** Closes maps and sockets. What is frozen stays so for {@linkcode GRACE}. */
  [Symbol.dispose](): void {
    this.#opened.dispose();
  }

  async #finishThaw(keys: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
    const start = performance.now();
    for (const due of keys.length === 0 ? [] : THAWS.slice(1)) {
      await new Promise((resolve) => setTimeout(resolve, start + due - performance.now()));
      this.#tell(keys);
    }
    for (const key of keys) this.map("frozen").delete(key);
    if (this.#frozenKeys(EVERY_FLOW).length > 0) return;
    this.#control.frozenUntil = 0n;
    this.#end = 0n;
  }

  #markThawing(key: Uint8Array<ArrayBuffer>): void {
    const entry = new Uint8Array(FROZEN.size);
    if (!this.map("frozen").lookup(key, entry)) return;
    entry[FROZEN.flags]! |= FrozenFlag.THAWING;
    this.map("frozen").update(key, entry);
  }

  /** Tells the clients that the window is open. */
  #tell(keys: readonly Uint8Array<ArrayBuffer>[]): void {
    for (const key of keys) {
      const place = this.#find(key);
      // A flow that has gone has ended, or after a takeover goes on by itself.
      if (place === undefined) continue;
      this.#try(() =>
        this.mode === Mode.SHADOW ? this.#advertise(place) : this.#segments.wake(place)
      );
    }
  }

  /** Lets the programs make an advertisement: what they send is theirs, but for the flow that it is of. */
  #advertise({ keys, keyAt, flows, at }: FlowPlace): void {
    const frame = this.#frames.build(keys, keyAt, flows, at, TEMPLATE);
    this.#buffer.set(frame, VNET_HEADER);
    this.#wire.send(this.#buffer.subarray(0, VNET_HEADER + frame.length));
  }

  #find(key: Uint8Array<ArrayBuffer>): FlowPlace | undefined {
    if (!this.map("flows").lookup(key, this.#flow)) return undefined;
    return {
      keys: new DataView(key.buffer, key.byteOffset, FLOW_KEY.size),
      keyAt: 0,
      flows: new DataView(this.#flow.buffer),
      at: 0,
    };
  }

  #frozenKeys(selection: Selection): Uint8Array<ArrayBuffer>[] {
    const batch = this.map("frozen").entries();
    return Array.from({ length: batch.count }, (_, i) => i * FLOW_KEY.size)
      .filter((at) => isSelected(selection, batch.keys, at))
      .map((at) => keyOf(batch, at));
  }

  /** Until when flows are frozen, unless another process has frozen them. */
  #requireFree(): bigint {
    const until = this.#control.frozenUntil;
    if (this.#isTaken()) throw busy();
    return until;
  }

  /** Whether another process has frozen flows. */
  #isTaken(): boolean {
    const now = nanos();
    return this.#control.frozenUntil > now && this.#end <= now;
  }

  /** What a process left that was killed is not frozen any more. */
  #forgetAll(): void {
    for (const key of this.#frozenKeys(EVERY_FLOW)) this.map("frozen").delete(key);
  }

  #entry(flags: number): Uint8Array<ArrayBuffer> {
    const entry = new Uint8Array(FROZEN.size);
    entry.set(this.#mac, FROZEN.own_mac);
    entry[FROZEN.flags] = flags;
    return entry;
  }

  /** One frame that cannot be sent must not keep the others from being sent. */
  #try(send: () => void): void {
    try {
      send();
    } catch (error) {
      if (!(error instanceof PcapError || error instanceof SystemError)) throw error;
      this.unsent += 1;
    }
  }

  /** Runs the code of the event on made-up flows, so that it is compiled when the event comes. */
  #rehearse(inward: Injector): void {
    const nothing = nobodysFrame();
    const injection = new Injection({ send: () => inward.send(nothing) }, 1500);
    const place: FlowPlace = {
      keys: new DataView(new ArrayBuffer(FLOW_KEY.size)),
      keyAt: 0,
      flows: new DataView(new ArrayBuffer(FLOW.size)),
      at: 0,
    };
    // The programs keep it: it is no segment.
    this.#buffer.set(nothing, VNET_HEADER);
    const unheard = this.#buffer.subarray(0, VNET_HEADER + nothing.length);
    for (let i = 0; i < REHEARSALS; i++) {
      injection.probe(place, false);
      this.#frames.build(place.keys, 0, place.flows, 0, TEMPLATE);
      this.#wire.send(unheard);
      isSelected(EVERY_FLOW, this.#batch.keys, 0);
      this.#batch = this.map("flows").entries(this.#batch);
    }
  }
}

function busy(): Failure {
  return new Failure(ExitStatus.TEMPORARY, "Another process has frozen flows of this shadow", {
    mend: "stop it first, or: t2cp freeze --thaw --now",
  });
}

function keyOf({ keys }: Batch, at: number): Uint8Array<ArrayBuffer> {
  return keys.slice(at, at + FLOW_KEY.size);
}

function placesOf({ keys, values, count }: Batch): FlowPlace[] {
  const [keyView, flows] = [new DataView(keys.buffer), new DataView(values.buffer)];
  return Array.from({ length: count }, (_, i) => ({
    keys: keyView,
    keyAt: i * FLOW_KEY.size,
    flows,
    at: i * FLOW.size,
  }));
}

/** CLOCK_MONOTONIC in nanoseconds. */
function nanos(): bigint {
  return BigInt(Math.round(monotonicMicros() * 1000));
}

function millis(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1e6));
}

function earlier(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
