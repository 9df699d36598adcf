/**
 * Measurements on what a client saw: progress over time, silences, medians.
 *
 * @module
 */

/** The longest silence: its length, and the arrivals that begin and end it. */
export interface Silence {
  /** Length in microseconds. */
  length: number;
  /** The last arrival before it, microseconds since the epoch. */
  from: number;
  /** The first arrival after it, microseconds since the epoch. */
  to: number;
}

/** A client's progress: the moments at which bytes moved, in order of time. */
export class Progress {
  #times = new Float64Array(1024);
  #totals = new Float64Array(1024);
  #length = 0;

  /** How many moments are stored. */
  get length(): number {
    return this.#length;
  }

  /** Bytes in all so far. */
  get bytes(): number {
    return this.#length === 0 ? 0 : this.#totals[this.#length - 1]!;
  }

  /** The first moment, microseconds since the epoch; undefined where nothing has moved. */
  get first(): number | undefined {
    return this.#length === 0 ? undefined : this.#times[0]!;
  }

  /** The last moment, microseconds since the epoch; undefined where nothing has moved. */
  get last(): number | undefined {
    return this.#length === 0 ? undefined : this.#times[this.#length - 1]!;
  }

  /** Adds the moment `time`, microseconds since the epoch, at which `bytes` more have moved. */
  add(time: number, bytes: number): void {
    if (this.#length === this.#times.length) {
      this.#times = grown(this.#times);
      this.#totals = grown(this.#totals);
    }
    this.#totals[this.#length] = this.bytes + bytes;
    this.#times[this.#length] = time;
    this.#length++;
  }

  /** Moment number `index`: its time in microseconds since the epoch, and the bytes up to it. */
  at(index: number): { time: number; bytes: number } {
    if (index < 0 || index >= this.#length) throw new RangeError(`Index ${index} is out of range`);
    return { time: this.#times[index]!, bytes: this.#totals[index]! };
  }

  /** The number of the first moment at or after `time`; `length` where there is none. */
  indexAt(time: number): number {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#times[middle]! < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first moment at or after `time`, microseconds since the epoch; undefined for none. */
  firstSince(time: number): number | undefined {
    const index = this.indexAt(time);
    return index < this.#length ? this.#times[index]! : undefined;
  }

  /** How long after `time` the next moment came, in microseconds: one number, or none. */
  waits(time: number): number[] {
    const next = this.firstSince(time);
    return next === undefined ? [] : [next - time];
  }

  /** The bytes that had moved before `time`. */
  bytesBefore(time: number): number {
    const index = this.indexAt(time);
    return index === 0 ? 0 : this.#totals[index - 1]!;
  }

  /**
   * The longest silence between two consecutive moments, of which the silence overlaps `from` to
   * `to`; undefined where there is no such pair.
   */
  longestSilence(from: number = -Infinity, to: number = Infinity): Silence | undefined {
    let longest: Silence | undefined;
    for (let index = Math.max(1, this.indexAt(from)); index < this.#length; index++) {
      const start = this.#times[index - 1]!;
      if (start > to) break;
      const end = this.#times[index]!;
      if (longest === undefined || end - start > longest.length) {
        longest = { length: end - start, from: start, to: end };
      }
    }
    return longest;
  }

  /**
   * Bytes a second between the first moment at or after `from` and the last one at or before `to`;
   * null where they are the same or missing.
   */
  throughput(from: number = -Infinity, to: number = Infinity): number | null {
    const start = this.indexAt(from);
    let end = this.indexAt(to);
    if (end === this.#length || this.#times[end]! > to) end--;
    if (start >= end) return null;
    const seconds = (this.#times[end]! - this.#times[start]!) / 1e6;
    return seconds > 0 ? (this.#totals[end]! - this.#totals[start]!) / seconds : null;
  }
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}

/** The median of the values that are numbers; null where there is none. */
export function median(values: readonly (number | null)[]): number | null {
  return quantile(values, 0.5);
}

/**
 * The `share` quantile (0 to 1) of the values that are numbers, with linear interpolation; null
 * where there is none.
 */
export function quantile(values: readonly (number | null)[], share: number): number | null {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const position = (sorted.length - 1) * share;
  const low = sorted[Math.floor(position)]!;
  const high = sorted[Math.ceil(position)]!;
  return low + (high - low) * (position - Math.floor(position));
}

/** The largest of the values that are numbers; null where there is none. */
export function maximum(values: readonly (number | null)[]): number | null {
  return values.reduce<number | null>(
    (most, value) => value === null ? most : Math.max(most ?? value, value),
    null,
  );
}

/** Microseconds as milliseconds with three digits of fraction; undefined as null. */
export function toMillis(micros: number | undefined): number | null {
  return micros === undefined ? null : Math.round(micros) / 1000;
}
