/**
 * Letting go of held flows: their clients get the reset that was kept from them.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { RawSocket } from "../../ffi/raw_socket.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import type { Service } from "../address.ts";
import { Failure } from "../failure.ts";
import {
  FLOW,
  FLOW_KEY,
  type FlowEnds,
  readFlowKey,
  SERVICE_KEY,
  serviceKey,
} from "../flow/layout.ts";
import { destroySockets } from "../shadow/sweep.ts";
import { Flag, NOTHING, SegmentFrames } from "../takeover/frames.ts";
import { askForClaims } from "./claims.ts";
import { GUARDED, HELD, MARK_RELEASE } from "./layout.ts";

/** How long before the bound other hosts are asked, at each look, whether they have the address; in milliseconds. */
const ASK = 2000;
/** So often they are asked before a flow is let go, each time a look before; after a stall that is later than the bound. */
const ASKS = 3;
/** Between two looks while flows are held, in milliseconds. */
const LOOK = 100;
/** The same where all of them are another host's. */
const LOOK_MOVED = 1000;
/** Flows that another host goes on with are forgotten after this, in milliseconds: no socket of theirs lives so long. */
const FORGET = 900_000;
/** Sockets removed by one call of ss(8). */
const CHUNK = 50;
/** Length of an Ethernet header. */
const ETHERNET = 14;

/** A held flow. */
export interface HeldFlow extends FlowEnds {
  /** The process that has crashed. */
  pid: number;
  /** Since when, in milliseconds. */
  held_ms: number;
  /** Segments that did not leave. */
  hidden: number;
}

/** What has become of flows that were held. */
export interface ReleaseCounts {
  /** Their clients got a reset. */
  reset: number;
  /** The reset could not be sent. */
  unsent: number;
  /** Another host went on with them, a quarter of an hour ago. */
  forgotten: number;
}

/** Settings of a {@linkcode Release}. */
export interface ReleaseOptions {
  /** Maps `flows` and `services`. */
  readonly flows: BpfMap;
  /** What has become of the services. */
  readonly states: BpfMap;
  /** The interface to the clients. */
  readonly interface: string;
  /** The services. */
  readonly services: readonly Service[];
  /** How long flows are held where no takeover follows, in milliseconds. */
  readonly bound: number;
}

/** A held flow as the map has it: a `struct flow_key` and a `struct held`. */
interface Entry {
  keys: DataView<ArrayBuffer>;
  keyAt: number;
  values: DataView<ArrayBuffer>;
  valueAt: number;
}

/** Looks after the held flows. */
export class Release implements Disposable {
  readonly #options: ReleaseOptions;
  readonly #sockets = new Map<4 | 6, RawSocket>();
  readonly #frames = new SegmentFrames();
  #next = 0;
  #busyUntil = 0;
  #pending = 0;
  #idle = false;
  /** When was asked last, {@linkcode ASKS} times, the oldest first; CLOCK_MONOTONIC in nanoseconds. */
  #asked: number[] = [];
  /** Processes whose flows are let go at once. */
  readonly #dismissed = new Set<number>();
  #reset = 0;
  #unsent = 0;
  #forgotten = 0;

  /** Flows of an earlier start may be held from the begin. */
  constructor(options: ReleaseOptions) {
    this.#options = options;
  }

  /** What has become of the flows that were let go. */
  get counts(): ReleaseCounts {
    return { reset: this.#reset, unsent: this.#unsent, forgotten: this.#forgotten };
  }

  /** Whether no flow is held and the crashes are long enough ago. */
  get idle(): boolean {
    return this.#idle;
  }

  /** How many flows are held of which it is open whether another host goes on with them. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Removes the sockets of the flows that are held still: another host goes on with them, and nobody will hide what
   * the kernel would send for them.
   */
  async end(): Promise<void> {
    const flows = [...this.flows()];
    for (let i = 0; i < flows.length; i += CHUNK) await destroySockets(flows.slice(i, i + CHUNK));
  }

  /** Whether no crash has left a service without listener. */
  get listening(): boolean {
    return ![...this.#states()].some(({ view }) =>
      view.getBigUint64(GUARDED.crashed_ns, true) !== 0n
    );
  }

  /** A process has crashed: there are flows to look after, or will be. */
  begin(now: number = performance.now()): void {
    this.#idle = false;
    this.#pending = Math.max(1, this.#pending);
    this.#busyUntil = now + this.#options.bound + LOOK;
    // What is to be said of the crash goes first.
    this.#next = now + LOOK;
  }

  /** In how many milliseconds {@linkcode Release.tick} has something to do. */
  due(now: number = performance.now()): number {
    return this.#idle ? Infinity : Math.max(0, this.#next - now);
  }

  /** Lets go of what has been held long enough; `now` is in milliseconds of a monotonic clock. */
  tick(now: number = performance.now()): void {
    if (this.#idle || now < this.#next) return;
    const { bound } = this.#options;
    const nanos = monotonicMicros() * 1000;
    let moved = 0, pending = 0, ask = false;
    for (const entry of this.#entries()) {
      const { keys, values, keyAt, valueAt } = entry;
      const since = Number(values.getBigUint64(valueAt + HELD.since_ns, true));
      const age = (nanos - since) / 1e6;
      if (this.#dismissed.has(values.getUint32(valueAt + HELD.tgid, true))) {
        this.#letGo(entry);
      } else if (this.#movedAt(new Uint8Array(keys.buffer, keyAt + FLOW_KEY.server, 16)) >= since) {
        if (age < FORGET) moved += 1;
        else this.#forget(keys, keyAt);
      } else if (age < bound || !this.#hasAsked(since)) {
        pending += 1;
        ask ||= age >= bound - ASK;
      } else {
        this.#letGo(entry);
      }
    }
    // A service without listener is asked about as well; the programs end the hiding of its resets.
    for (const { key, view } of this.#states()) {
      const since = Number(view.getBigUint64(GUARDED.crashed_ns, true));
      const age = (nanos - since) / 1e6;
      if (age >= bound - ASK && age < bound && this.#movedAt(key) < since) ask = true;
    }
    this.#pending = pending;
    this.#idle = moved + pending === 0 && now >= this.#busyUntil;
    if (this.#idle) this.#dismissed.clear();
    this.#next = now + (moved > 0 && pending === 0 ? LOOK_MOVED : LOOK);
    if (ask) this.#ask(nanos);
  }

  /** Lets go of all flows of process `pid` at once. */
  letGo(pid: number): void {
    // A process with many connections may be closing them still.
    this.#dismissed.add(pid);
    this.#next = 0;
    for (const { key, value, view } of this.#states()) {
      if (view.getUint32(GUARDED.crashed_tgid, true) === pid) this.#clear(key, value);
    }
  }

  /** The held flows. */
  *flows(): Generator<HeldFlow> {
    const nanos = monotonicMicros() * 1000;
    for (const { keys, values, keyAt, valueAt } of this.#entries()) {
      const since = Number(values.getBigUint64(valueAt + HELD.since_ns, true));
      yield {
        ...readFlowKey(keys, keyAt),
        pid: values.getUint32(valueAt + HELD.tgid, true),
        held_ms: Math.round((nanos - since) / 1e6),
        hidden: values.getUint32(valueAt + HELD.hidden, true),
      };
    }
  }

  /** Closes the sockets. */
  [Symbol.dispose](): void {
    for (const socket of this.#sockets.values()) socket[Symbol.dispose]();
  }

  *#entries(): Generator<Entry> {
    const batch = this.#options.flows.entries();
    const keys = new DataView(batch.keys.buffer);
    const values = new DataView(batch.values.buffer);
    for (let i = 0; i < batch.count; i++) {
      yield { keys, values, keyAt: i * FLOW_KEY.size, valueAt: i * HELD.size };
    }
  }

  *#states(): Generator<
    { key: Uint8Array<ArrayBuffer>; value: Uint8Array<ArrayBuffer>; view: DataView }
  > {
    for (const { address, port } of this.#options.services) {
      const key = serviceKey(address, port);
      const value = new Uint8Array(GUARDED.size);
      if (!this.#options.states.lookup(key, value)) continue;
      yield { key, value, view: new DataView(value.buffer) };
    }
  }

  /** Whether other hosts were asked often enough after `since`, CLOCK_MONOTONIC in nanoseconds. */
  #hasAsked(since: number): boolean {
    return this.#asked.length === ASKS && this.#asked[0]! >= since;
  }

  #ask(nanos: number): void {
    this.#asked = [...this.#asked, nanos].slice(-ASKS);
    const { interface: name, services } = this.#options;
    try {
      askForClaims(name, new Set(services.map(({ address }) => address)));
    } catch (error) {
      // An interface that is down has nobody to ask.
      if (!(error instanceof SystemError || error instanceof Failure)) throw error;
    }
  }

  #clear(key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>): void {
    const view = new DataView(value.buffer);
    view.setBigUint64(GUARDED.crashed_ns, 0n, true);
    view.setUint32(GUARDED.crashed_tgid, 0, true);
    this.#options.states.update(key, value);
  }

  /** When another host claimed the address with these 16 bytes last, CLOCK_MONOTONIC in nanoseconds; 0 for never. */
  #movedAt(address: Uint8Array): number {
    const key = new Uint8Array(SERVICE_KEY.size);
    key.set(address.subarray(0, 16));
    const value = new Uint8Array(GUARDED.size);
    if (!this.#options.states.lookup(key, value)) return 0;
    return Number(new DataView(value.buffer).getBigUint64(GUARDED.moved_ns, true));
  }

  #forget(keys: DataView<ArrayBuffer>, keyAt: number): void {
    this.#options.flows.delete(new Uint8Array(keys.buffer.slice(keyAt, keyAt + FLOW_KEY.size)));
    this.#forgotten += 1;
  }

  /** Resets the flow at both ends, by the numbers that were valid when its process died. */
  #letGo({ keys, values, keyAt, valueAt }: Entry): void {
    const key = new Uint8Array(keys.buffer.slice(keyAt, keyAt + FLOW_KEY.size));
    // The client may have opened it anew, or the programs have let it go.
    if (!this.#options.flows.lookup(key, new Uint8Array(HELD.size))) return;
    const frame = this.#frames.build(keys, keyAt, NO_FLOW, 0, {
      toClient: true,
      seq: values.getUint32(valueAt + HELD.snd_nxt, true),
      ack: values.getUint32(valueAt + HELD.rcv_nxt, true),
      window: 0,
      flags: Flag.RST | Flag.ACK,
      payload: NOTHING,
    });
    const family = frame[ETHERNET]! >> 4 === 4 ? 4 : 6;
    try {
      this.#socket(family).send(frame.slice(ETHERNET), interfaceIndex(this.#options.interface));
      this.#reset += 1;
    } catch (error) {
      // No route any more, for one; the kernel answers whatever the client sends.
      if (!(error instanceof SystemError)) throw error;
      this.#unsent += 1;
    }
    // Last: what the kernel sends for the flow passes from now on, and its FIN must not be the first that the client gets.
    this.#options.flows.delete(key);
  }

  #socket(family: 4 | 6): RawSocket {
    const socket = this.#sockets.get(family) ?? new RawSocket(family, MARK_RELEASE);
    this.#sockets.set(family, socket);
    return socket;
  }
}

/** What a reset needs of a `struct flow`: nothing. */
const NO_FLOW = new DataView(new ArrayBuffer(FLOW.size));
