/**
 * What a planned switch-over does beside a takeover: the primary lives, so that the backup can wait until it has all that
 * the primary has.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { FLOW, FLOW_KEY, readFlowKey } from "../flow/layout.ts";
import { after } from "../flow/sequence.ts";
import { Freezer, RENEWAL } from "../freeze/freezer.ts";
import { type FlowPlace, nameOf } from "./segments.ts";
import { sinceTrigger, type Trigger } from "./trigger.ts";

/** Between two looks at the flows, in milliseconds. */
const LOOK = 1;

/** How many of the flows that are behind are named. */
const NAMED = 3;

/** Where a flow stood when the waiting began. */
interface Mark {
  /** What the primary had acknowledged. */
  received: number;
  /** What the client had acknowledged. */
  emitted: number;
}

/** See the module. */
export class SwitchOver implements Disposable {
  readonly #freezer: Freezer;
  readonly #timeout: number;
  readonly #lease: number;
  #batch: Batch | undefined;
  #thawed: Promise<void> | undefined;

  /**
   * Prepares one of the shadow in `runDir`. Each wait takes `timeout` milliseconds at most, the fence `fenceTimeout`.
   *
   * @throws {Failure} with status UNAVAILABLE where no shadow was started there
   */
  constructor(runDir: string, timeout: number, fenceTimeout: number) {
    this.#freezer = Freezer.prepare(runDir);
    this.#timeout = timeout;
    this.#lease = 2 * timeout + fenceTimeout;
  }

  /**
   * Freezes the flows, and waits until each replica has what its primary had acknowledged by then, and has emitted what
   * the client had.
   *
   * @throws {Failure} with status TEMPORARY where that takes too long; the flows are to be thawed then
   */
  async begin(trigger: Trigger, stop: AbortSignal): Promise<void> {
    await this.#freezer.whenFree(stop);
    this.#freezer.freeze({ lease: this.#lease, revocable: true });
    trigger.steps["frozen"] = sinceTrigger(trigger);
    await this.#wait("frozen", stop);
    trigger.steps["caught_up"] = sinceTrigger(trigger);
  }

  /** Waits for the same again once the fence is up: for what was under way. */
  async finish(trigger: Trigger, stop: AbortSignal): Promise<void> {
    await this.#wait("fenced", stop);
    trigger.steps["drained"] = sinceTrigger(trigger);
  }

  /** Tells the clients to go on: with the replica after the takeover, or with the primary where it came to nothing. */
  thaw(): void {
    this.#thawed ??= this.#freezer.thaw().done;
  }

  /** Resolves once the clients have been told for the last time. */
  async thawed(): Promise<void> {
    await this.#thawed;
  }

  /** Closes maps and sockets. */
  [Symbol.dispose](): void {
    this.#freezer[Symbol.dispose]();
  }

  async #wait(when: string, stop: AbortSignal): Promise<void> {
    const marks = new Map<string, Mark>();
    for (const place of this.#flows()) marks.set(nameOf(place), markOf(place));
    const start = performance.now();
    let renewed = start;
    while (this.#isBehind(marks)) {
      const now = performance.now();
      if (stop.aborted) throw new Failure(ExitStatus.TEMPORARY, "The switch-over was told to stop");
      if (now - start >= this.#timeout) {
        throw new Failure(
          ExitStatus.TEMPORARY,
          `Replicas were still behind ${this.#timeout} ms after they were ${when}: ` +
            this.#lacks(marks),
          { mend: "look at t2cp shadow for gaps and lags, or give a longer --planned-timeout" },
        );
      }
      if (now - renewed >= RENEWAL) {
        this.#freezer.renew();
        renewed = now;
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  }

  /** Forgets the marks that are reached, and says whether any is left. A flow that has ended is not waited for. */
  #isBehind(marks: Map<string, Mark>): boolean {
    const left = new Map<string, Mark>();
    for (const place of this.#flows()) {
      const name = nameOf(place);
      const mark = marks.get(name);
      if (mark !== undefined && !isReached(place, mark)) left.set(name, mark);
    }
    marks.clear();
    for (const [name, mark] of left) marks.set(name, mark);
    return left.size > 0;
  }

  /** What the replicas of some flows lacked at the last look. */
  #lacks(marks: Map<string, Mark>): string {
    const lacks: string[] = [];
    for (const place of this.#places()) {
      const mark = marks.get(nameOf(place));
      if (mark !== undefined) lacks.push(lackOf(place, mark));
    }
    const more = lacks.length - NAMED;
    return lacks.slice(0, NAMED).join(", ") + (more > 0 ? `, and ${more} more` : "");
  }

  #flows(): Generator<FlowPlace> {
    this.#batch = this.#freezer.map("flows").entries(this.#batch);
    return this.#places();
  }

  *#places(): Generator<FlowPlace> {
    const batch = this.#batch!;
    const keys = new DataView(batch.keys.buffer), flows = new DataView(batch.values.buffer);
    for (let i = 0; i < batch.count; i++) {
      const place = { keys, keyAt: i * FLOW_KEY.size, flows, at: i * FLOW.size };
      if (flows.getUint8(place.at + FLOW.replica_reset) === 0) yield place;
    }
  }
}

function markOf({ flows, at }: FlowPlace): Mark {
  return {
    received: flows.getUint32(at + FLOW.primary_ack, true),
    emitted: flows.getUint32(at + FLOW.client_ack, true),
  };
}

/** What the replica lacks of the mark, for people. */
function lackOf({ keys, keyAt, flows, at }: FlowPlace, { received, emitted }: Mark): string {
  const { client } = readFlowKey(keys, keyAt);
  const unheard = received - flows.getUint32(at + FLOW.replica_ack, true) | 0;
  const unsaid = emitted - flows.getUint32(at + FLOW.replica_end, true) | 0;
  return unheard > 0
    ? `that of "${client}" lacks ${unheard} bytes of its client`
    : `that of "${client}" has not sent ${unsaid} bytes that its client has`;
}

/**
 * Whether the replica has got as far as the mark. What it emits may stay behind by less than a segment and a unit of the
 * client's window, which is rounded down for it: the client has these bytes.
 */
function isReached({ flows, at }: FlowPlace, { received, emitted }: Mark): boolean {
  if (after(received, flows.getUint32(at + FLOW.replica_ack, true))) return false;
  const end = flows.getUint32(at + FLOW.replica_end, true);
  if (!after(emitted, end)) return true;
  const slack = flows.getUint16(at + FLOW.mss, true) +
    (1 << flows.getUint8(at + FLOW.client_wscale));
  return (emitted - end) >>> 0 < slack;
}
