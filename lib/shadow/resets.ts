/**
 * Replicas that have reset their flow.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { type FlowEvent, REPLICA_RESET } from "../flow/event.ts";
import { FLOW } from "../flow/layout.ts";

/**
 * How long the primary may take to reset or close the flow as well, in milliseconds: its reset waits at the gateway, for
 * 500 milliseconds unless `mirror --hold-resets` says otherwise.
 */
const PATIENCE = 3000;
/** Flows waited for at once; beyond it the oldest is judged before its time. */
const MAX_WAITING = 4096;

/**
 * Holds back the report that a replica has reset its flow until it shows whether the primary does so, too: both servers
 * do the same, and sometimes the replica's is the first.
 */
export class ResetWatch {
  readonly #flows: Pick<BpfMap, "lookup">;
  readonly #report: (event: FlowEvent) => void;
  readonly #waiting: { event: FlowEvent; until: number }[] = [];

  /** Looks the flows up in `flows`, and gives to `report` those that the primary goes on with. */
  constructor(flows: Pick<BpfMap, "lookup">, report: (event: FlowEvent) => void) {
    this.#flows = flows;
    this.#report = report;
  }

  /** Takes the event if it says that a replica has reset its flow; `now` is in milliseconds of a monotonic clock. */
  take(event: FlowEvent, now: number = performance.now()): boolean {
    if (event.type !== "flow.unprotected" || event.reason !== REPLICA_RESET) return false;
    this.#waiting.push({ event, until: now + PATIENCE });
    if (this.#waiting.length > MAX_WAITING) this.#judge();
    return true;
  }

  /** Judges the flows whose time has come. */
  look(now: number = performance.now()): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.until <= now) this.#judge();
  }

  /** Judges all that wait: nobody will look later. */
  end(): void {
    this.look(Infinity);
  }

  /** A flow that the primary has ended is not in the map any more; one of the same ends that is has its replica. */
  #judge(): void {
    const { event } = this.#waiting.shift()!;
    const flow = new Uint8Array(FLOW.size);
    if (this.#flows.lookup(event.key, flow) && flow[FLOW.replica_reset] !== 0) this.#report(event);
  }
}
