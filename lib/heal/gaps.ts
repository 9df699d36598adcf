/**
 * What one replica lacks, or may lack.
 *
 * @module
 */
import { after, earlier, later } from "../flow/sequence.ts";
import { lengthOf, type Range } from "./ranges.ts";

/** Gaps of a flow that are told apart; beyond that, the last one grows. */
const MAX_GAPS = 1024;

/** A range that the replica lacks, or may lack. */
export interface Gap extends Range {
  /** Since when, in milliseconds. */
  since: number;
  /** Bytes of it that were given to the replica. */
  given: number;
  /** Whether all of it is lacking, rather than unknown parts. */
  exact: boolean;
}

/** The gaps of one flow, from the replica's acknowledgement on. */
export class Gaps {
  #gaps: Gap[] = [];

  /** Whether there are none. */
  get empty(): boolean {
    return this.#gaps.length === 0;
  }

  /** Where the last of them ends, `ack` where there is none. */
  end(ack: number): number {
    return this.#gaps.reduce((most, gap) => later(most, gap.to), ack);
  }

  /** Whether it is known of `seq` that it is lacking, or that something from there on may be. */
  covers(seq: number): boolean {
    return this.#gaps.some(({ exact, from, to }) => !exact || !after(from, seq) && after(to, seq));
  }

  /** Whether nobody knows what is lacking from `seq` on. */
  isUnknownAt(seq: number): boolean {
    return this.#gaps.some((gap) => !gap.exact && !after(gap.from, seq));
  }

  /** Adds a gap; false where it is one already. */
  add({ from, to }: Range, since: number, exact: boolean): boolean {
    const known = this.#gaps.some((gap) =>
      gap.exact && !after(gap.from, from) && !after(to, gap.to)
    );
    if (known) return false;
    const last = this.#gaps.at(-1);
    if (this.#gaps.length < MAX_GAPS || last === undefined) {
      this.#gaps.push({ from, to, since, given: 0, exact });
    } else {
      last.from = earlier(last.from, from);
      last.to = later(last.to, to);
    }
    return true;
  }

  /** Notes that the replica was given what stands from `from` to `to`. */
  give(from: number, to: number): void {
    let rest = (to - from) >>> 0;
    for (const gap of this.#gaps) {
      const common = { from: later(from, gap.from), to: earlier(to, gap.to) };
      if (!gap.exact || !after(common.to, common.from)) continue;
      gap.given += lengthOf(common);
      rest -= lengthOf(common);
    }
    const unknown = this.#gaps.find((gap) => !gap.exact);
    if (unknown !== undefined) unknown.given += Math.max(rest, 0);
  }

  /** Takes out the gaps that end at `ack` or before, and returns them. */
  take(ack: number): Gap[] {
    if (this.#gaps.every((gap) => after(gap.to, ack))) return [];
    const closed = this.#gaps.filter((gap) => !after(gap.to, ack));
    this.#gaps = this.#gaps.filter((gap) => after(gap.to, ack));
    return closed;
  }

  /** Takes out everything from `seq` on. */
  truncate(seq: number): void {
    this.#gaps = this.#gaps.flatMap((gap) =>
      after(seq, gap.from) ? [{ ...gap, to: earlier(gap.to, seq) }] : []
    );
  }
}
