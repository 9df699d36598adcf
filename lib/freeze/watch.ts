/**
 * Which clients obey: a frozen flow whose client has more to send stops.
 *
 * @module
 */
import { FLOW } from "../flow/layout.ts";
import { type FlowPlace, nameOf } from "../takeover/segments.ts";

/** A flow that has sent nothing new for this long has stopped, in milliseconds. */
const QUIET = 100;

/** Follows the numbers of frozen flows. */
export class StopWatch {
  readonly #ends = new Map<string, { end: number; since: number }>();

  /** Takes the flows as they are at `now`, in milliseconds of a monotonic clock. */
  look(flows: Iterable<FlowPlace>, now: number): void {
    for (const place of flows) {
      const end = place.flows.getUint32(place.at + FLOW.client_end, true);
      const name = nameOf(place);
      if (this.#ends.get(name)?.end !== end) this.#ends.set(name, { end, since: now });
    }
  }

  /** How many flows have stopped by `now`. */
  stopped(now: number): number {
    return [...this.#ends.values()].filter(({ since }) => now - since >= QUIET).length;
  }
}
