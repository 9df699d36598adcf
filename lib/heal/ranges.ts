/**
 * Sets of sequence numbers, as ranges in their order.
 *
 * @module
 */
import { after, earlier, later } from "../flow/sequence.ts";

/** Sequence numbers from `from` up to, not including, `to`; 32 bits that may wrap. */
export interface Range {
  /** The first. */
  from: number;
  /** The one behind the last. */
  to: number;
}

/** How many numbers `range` has. */
export function lengthOf({ from, to }: Range): number {
  return (to - from) >>> 0;
}

/** More ranges than this become one where they are closest to the end: a bound for what a tap can lose. */
const MAX_RANGES = 1024;

/** A set of sequence numbers, all within 2 GiB of each other. */
export class Ranges {
  #ranges: Range[] = [];

  /** Whether there are none. */
  get empty(): boolean {
    return this.#ranges.length === 0;
  }

  /** How many numbers there are. */
  get total(): number {
    return this.#ranges.reduce((sum, range) => sum + lengthOf(range), 0);
  }

  /** The lowest range; undefined where there is none. */
  get first(): Readonly<Range> | undefined {
    return this.#ranges[0];
  }

  /** Whether `seq` is in one. */
  has(seq: number): boolean {
    return this.#ranges.some(({ from, to }) => !after(from, seq) && after(to, seq));
  }

  /** All ranges in order; not to be changed while they are read. */
  [Symbol.iterator](): Iterator<Readonly<Range>> {
    return this.#ranges.values();
  }

  /** Adds `from` up to, not including, `to`; nothing where `to` is not behind `from`. */
  add(from: number, to: number): void {
    if (!after(to, from)) return;
    const before = this.#ranges.filter((range) => after(from, range.to));
    const behind = this.#ranges.filter((range) => after(range.from, to));
    const touched = this.#ranges.slice(before.length, this.#ranges.length - behind.length);
    const merged = {
      from: touched.reduce((least, range) => earlier(least, range.from), from),
      to: touched.reduce((most, range) => later(most, range.to), to),
    };
    this.#ranges = [...before, merged, ...behind];
    if (this.#ranges.length <= MAX_RANGES) return;
    const last = this.#ranges.pop()!;
    this.#ranges.at(-1)!.to = last.to;
  }

  /** Takes out `from` up to, not including, `to`. */
  remove(from: number, to: number): void {
    if (!after(to, from)) return;
    this.#ranges = this.#ranges.flatMap((range) => {
      if (!after(range.to, from) || !after(to, range.from)) return [range];
      const left = { from: range.from, to: earlier(from, range.to) };
      const right = { from: later(to, range.from), to: range.to };
      return [left, right].filter((part) => after(part.to, part.from));
    });
  }

  /** Takes out everything before `seq`. */
  cut(seq: number): void {
    while (this.#ranges.length > 0 && !after(this.#ranges[0]!.to, seq)) this.#ranges.shift();
    const first = this.#ranges[0];
    if (first !== undefined && after(seq, first.from)) first.from = seq;
  }

  /** Takes out everything from `seq` on. */
  truncate(seq: number): void {
    this.remove(seq, this.#ranges.at(-1)?.to ?? seq);
  }

  /** Takes out everything. */
  clear(): void {
    this.#ranges = [];
  }
}
