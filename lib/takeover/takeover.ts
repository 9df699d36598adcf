/**
 * Takeover: from shadow mode to active mode, in one round trip for every flow.
 *
 * @module
 */
import type { Batch, BpfMap } from "../../ffi/bpf_map.ts";
import { Injector, PcapError } from "../../ffi/libpcap.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import { addressesOf } from "../claim/addresses.ts";
import { ANNOUNCE, type AnnounceOptions } from "../claim/agenda.ts";
import { Claim } from "../claim/claim.ts";
import { requireClaimable } from "../claim/place.ts";
import { formatTime } from "../clock.ts";
import type { ActiveFields } from "../vocabulary/takeover.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { FLOW, FLOW_KEY, type FlowEnds, MARK_INJECTED, Mode, readFlowKey } from "../flow/layout.ts";
import { after } from "../flow/sequence.ts";
import { isPinned, openPinnedMaps } from "../program/instance.ts";
import { HEALER, type InstanceRecord, isLockTaken, readRecord } from "../program/run_dir.ts";
import { Control, shadowKind } from "../shadow/programs.ts";
import { nobodysFrame } from "./frames.ts";
import {
  type FlowPlace,
  FlowSegments,
  hasHole,
  lostBytes,
  missingBytes,
  nameOf,
} from "./segments.ts";
import { sinceTrigger, type Trigger, triggerNow } from "./trigger.ts";

/** How often the code of the event runs before it; enough for V8 to compile it. */
const REHEARSALS = 200;

/** A flow that could not be taken over. */
export interface ResetFlow extends FlowEnds {
  /** How many bytes of the client its replica lacked. */
  missing: number;
}

/** What {@linkcode Takeover.wake} did. */
export interface Woken {
  /** Flows that go on. */
  woken: number;
  /** Of these, flows whose replica lacks bytes still, which may yet come. */
  behind: number;
  /** Flows that had lost their replica before. */
  lost: number;
  /** Flows that were reset just now. */
  reset: ResetFlow[];
}

/** A flow whose replica lacks bytes. */
interface Incomplete {
  /** The replica's RCV.NXT when it last moved. */
  ack: number;
  /** Since when it has not, in milliseconds. */
  since: number;
}

/** A replica that lacks bytes, and gets none for this long, will not get them, in milliseconds. */
const PATIENCE = 2000;

/** What is ready before the event comes: maps, sockets, frames. */
export class Takeover implements Disposable {
  /** The shadow's run directory. */
  readonly runDir: string;
  /** The interface that speaks after the takeover. */
  readonly interface: string;
  /** The services, as the user wrote them. */
  readonly services: string[];
  /** The claim to the service addresses. */
  readonly claim: Claim;
  readonly #ifindex: number;
  readonly #opened: DisposableStack;
  readonly #maps: Map<string, BpfMap>;
  readonly #control: Control;
  #batch: Batch;
  #incomplete = new Map<string, Incomplete>();
  readonly #inward: Injector;
  readonly #segments: FlowSegments;
  #unsent = 0;

  private constructor(
    runDir: string,
    record: InstanceRecord,
    maps: Map<string, BpfMap>,
    control: Control,
    wire: Injector,
    inward: Injector,
    claim: Claim,
    opened: DisposableStack,
  ) {
    this.runDir = runDir;
    this.interface = record.interface;
    this.#ifindex = interfaceIndex(record.interface);
    this.services = record.services;
    this.#maps = maps;
    this.#control = control;
    this.#batch = this.map("flows").entries();
    this.#inward = inward;
    this.#segments = new FlowSegments(wire, inward);
    this.claim = claim;
    this.#opened = opened;
  }

  /**
   * Opens what `shadow` pinned under `runDir`, and does all that can be done before the event. `announce` says how often
   * the addresses are announced.
   *
   * @throws {Failure} with status UNAVAILABLE where no shadow was started there, or the addresses cannot be claimed
   */
  static prepare(runDir: string, announce: AnnounceOptions = ANNOUNCE): Takeover {
    const record = readRecord(runDir, "shadow");
    const maps = record === undefined ? undefined : openPinnedMaps(shadowKind, runDir);
    if (record === undefined || maps === undefined) {
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `No shadow was started in run directory "${runDir}"`,
        {
          mend: "start t2cp shadow first, or name its directory with --run-dir",
        },
      );
    }
    const addresses = addressesOf(record.services);
    requireClaimable(record.interface, addresses);
    const opened = new DisposableStack();
    try {
      for (const map of maps.values()) opened.use(map);
      const wire = opened.use(new Injector(record.interface));
      const inward = opened.use(new Injector(record.interface, MARK_INJECTED));
      const control = opened.use(new Control(maps.get("control")!));
      const claim = opened.use(new Claim(record.interface, addresses, wire, announce));
      const takeover = new Takeover(runDir, record, maps, control, wire, inward, claim, opened);
      takeover.#rehearse(record);
      return takeover;
    } catch (error) {
      opened.dispose();
      throw error;
    }
  }

  /** Whether the shadow is still the one that this was prepared for. */
  isCurrent(): boolean {
    return isPinned(shadowKind, this.runDir, this.map("control")) &&
      interfaceIndex(this.interface) === this.#ifindex;
  }

  /** The mode that the host is in. */
  get mode(): number {
    return this.#control.mode;
  }

  /** Lets go of all flows: from now on no program looks after them. */
  finish(): void {
    this.#control.mode = Mode.ACTIVE;
  }

  /**
   * Enters active mode, announces the addresses and wakes every flow, as `trigger` asks. A second call finds the host
   * active, and wakes the flows again. Returns the fields of the `active` event, and the flows that had to be reset.
   */
  activate(trigger: Trigger = triggerNow()): { active: ActiveFields; reset: ResetFlow[] } {
    const already = this.mode !== Mode.SHADOW;
    const steps = { ...trigger.steps };
    if (!already) {
      this.#inward.forgetError();
      this.#control.surveyed = false;
      this.#control.mode = Mode.SETTLING;
    }
    steps["active_mode"] = sinceTrigger(trigger);
    // The replicas' segments find their way to the clients before the announcement too.
    const { woken, behind, lost, reset } = this.wake();
    steps["woken"] = sinceTrigger(trigger);
    this.claim.announce();
    steps["announced"] = sinceTrigger(trigger);
    const claimed = this.claim.proven;
    const active = {
      trigger: formatTime(trigger.micros),
      services: this.services,
      flows: woken,
      flows_behind: behind,
      flows_lost: lost + reset.length,
      ...(already ? { already } : {}),
      ...(claimed.length === 0 ? {} : { claimed }),
      took_ms: steps["announced"],
      steps,
    };
    return { active, reset };
  }

  /** One frame that cannot be sent must not keep the others from being sent. */
  #try(send: () => void): void {
    try {
      send();
    } catch (error) {
      if (!(error instanceof PcapError)) throw error;
      this.#unsent += 1;
    }
  }

  /** Frames that could not be sent, so far. */
  get unsent(): number {
    return this.#unsent + this.claim.unsent;
  }

  /** Whether somebody on this host gives the replicas what they lack. */
  get healed(): boolean {
    return isLockTaken(this.runDir, HEALER);
  }

  /**
   * Whether a healer has still to ask the recorder what the primary had. Where the tap lost bytes and their
   * acknowledgement, nobody else knows: a flow that is let go before seems whole, and is not.
   */
  get awaitsSurvey(): boolean {
    return !this.#control.surveyed && this.healed;
  }

  /**
   * Wakes every flow. One whose replica lacks bytes that the client will not send again, and nobody heals, is reset at
   * both ends instead: wrong content would be worse. With output commit the client sends them again.
   */
  wake(): Woken {
    const result: Woken = { woken: 0, behind: 0, lost: 0, reset: [] };
    // Asked only where it matters: to look at a file takes as long as to wake many flows.
    let kept: boolean | undefined;
    this.#eachFlow((place) => {
      if (place.flows.getUint8(place.at + FLOW.replica_reset) !== 0) {
        result.lost += 1;
      } else if (lostBytes(place) > 0 && !(kept ??= this.#control.committed || this.healed)) {
        result.reset.push(this.#reset(place));
      } else {
        this.#try(() => this.#segments.wake(place));
        result.woken += 1;
        if (missingBytes(place) > 0) result.behind += 1;
      }
    });
    return result;
  }

  /**
   * Ends the programs' care for the flows that are in step with their clients, at `now` in milliseconds of a monotonic
   * clock. One whose replica lacks bytes of the client is reset once it has got none for {@linkcode PATIENCE}. Returns
   * how many flows are left: without care, a client that is ahead of its replica would not be heard.
   */
  letGo(now: number): { left: number; reset: ResetFlow[] } {
    const result: { left: number; reset: ResetFlow[] } = { left: 0, reset: [] };
    const incomplete = new Map<string, Incomplete>();
    const { healed } = this;
    this.#eachFlow((place) => {
      const { flows, at } = place;
      const clientAck = flows.getUint32(at + FLOW.client_ack, true);
      const behind = after(clientAck, flows.getUint32(at + FLOW.replica_end, true));
      const lacks = missingBytes(place) > 0 || healed && hasHole(place);
      if (flows.getUint8(at + FLOW.replica_reset) !== 0) {
        this.#forget(place);
      } else if (lacks) {
        const name = nameOf(place);
        const ack = flows.getUint32(at + FLOW.replica_ack, true);
        const known = this.#incomplete.get(name);
        const flow = known?.ack === ack ? known : { ack, since: now };
        const patient = now - flow.since < PATIENCE;
        if (!patient && missingBytes(place) > 0) {
          result.reset.push(this.#reset(place));
        } else if (!patient) {
          // Its client has not been told that it has arrived, as far as is known, and sends it again.
          this.#forget(place);
        } else {
          incomplete.set(name, flow);
          result.left += 1;
        }
      } else if (!behind) {
        // Its client may wait for an acknowledgement that means something to it.
        if (this.#incomplete.has(nameOf(place))) this.#try(() => this.#segments.wake(place));
        this.#forget(place);
      } else {
        result.left += 1;
      }
    });
    this.#incomplete = incomplete;
    return result;
  }

  #eachFlow(visit: (place: FlowPlace) => void): void {
    const batch = this.#batch = this.map("flows").entries(this.#batch);
    const keys = new DataView(batch.keys.buffer);
    const flows = new DataView(batch.values.buffer);
    for (let i = 0; i < batch.count; i++) {
      visit({ keys, keyAt: i * FLOW_KEY.size, flows, at: i * FLOW.size });
    }
  }

  #reset(place: FlowPlace): ResetFlow {
    this.#try(() => this.#segments.reset(place));
    this.#forget(place);
    return { ...readFlowKey(place.keys, place.keyAt), missing: missingBytes(place) };
  }

  #forget({ keys, keyAt }: FlowPlace): void {
    this.map("flows").delete(new Uint8Array(keys.buffer as ArrayBuffer, keyAt, FLOW_KEY.size));
  }

  /** The map `name` of the shadow. */
  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new TypeError(`Map "${name}" is not open`);
    return map;
  }

  /** Closes maps and sockets; a takeover stands. */
  [Symbol.dispose](): void {
    this.#opened.dispose();
  }

  /** Runs the code of the event on a made-up flow, so that it is compiled when the event comes. */
  #rehearse(record: InstanceRecord): void {
    const nothing = nobodysFrame();
    const inward = {
      send: () => this.#inward.send(nothing),
      forgetError: () => this.#inward.forgetError(),
    };
    const control = { mode: Mode.SHADOW as Mode, surveyed: true };
    const claim = { announce: () => this.claim.rehearse(), proven: [] };
    const flow = {
      count: 1,
      keys: new Uint8Array(FLOW_KEY.size),
      values: new Uint8Array(FLOW.size),
    };
    const flows = {
      entries: () => {
        this.#batch = this.map("flows").entries(this.#batch);
        return flow;
      },
    };
    // Of each part only what the event needs.
    const rehearsed = new Takeover(
      this.runDir,
      record,
      new Map([["flows", flows as unknown as BpfMap]]),
      control as Control,
      inward as unknown as Injector,
      inward as unknown as Injector,
      claim as unknown as Claim,
      new DisposableStack(),
    );
    for (let i = 0; i < REHEARSALS; i++) {
      control.mode = Mode.SHADOW;
      rehearsed.activate();
    }
  }
}
