/**
 * The bytes of one side of a comparison that are not decided yet.
 *
 * @module
 */

/** How many bytes in front of a difference a report shows. */
export const CONTEXT_BEFORE = 16;

/** No bytes. */
export const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** A queue of bytes, which keeps the last few that left it for the context of a report. */
export class Side {
  /** The memory. */
  bytes: Uint8Array = NOTHING;
  /** Where in it the first undecided byte is. */
  at = 0;
  /** Behind the last one. */
  end = 0;
  /** Where `at` is in the answer, in bytes. */
  offset = 0;
  /** Whether nothing more will come. */
  ended = false;
  /** Whether a line begins at `at`. */
  begins = true;
  /** Whether `bytes` is somebody else's memory, which changes. */
  #lent = false;
  /** Whether there is room behind `end` to write to. */
  #writable = false;
  /** The last bytes that left, in a ring: a typed array for each would cost more than all else. */
  readonly #before: number[] = [];
  #left = 0;

  /** How many bytes are undecided. */
  get length(): number {
    return this.end - this.at;
  }

  /** Appends bytes, which must not change: never, where they are `given`; else not before {@linkcode Side.own}. */
  push(bytes: Uint8Array, given: boolean): void {
    if (this.at === this.end) {
      this.bytes = bytes;
      this.at = 0;
      this.end = bytes.length;
      this.#lent = !given;
      this.#writable = false;
      return;
    }
    if (!this.#writable || this.end + bytes.length > this.bytes.length) this.#grow(bytes.length);
    this.bytes.set(bytes, this.end);
    this.end += bytes.length;
  }

  /** Copies what is left of somebody else's memory. */
  own(): void {
    if (!this.#lent) return;
    if (this.at === this.end) this.bytes = NOTHING;
    else this.bytes = this.bytes.slice(this.at, this.end);
    this.end -= this.at;
    this.at = 0;
    this.#lent = false;
  }

  /** Lets the first `count` undecided bytes go; `begins` says whether a line begins behind them. */
  drop(count: number, begins: boolean): void {
    if (count === 0) return;
    this.at += count;
    this.#left += count;
    for (let back = Math.min(count, CONTEXT_BEFORE); back > 0; back--) {
      this.#before[(this.#left - back) % CONTEXT_BEFORE] = this.bytes[this.at - back]!;
    }
    this.offset += count;
    this.begins = begins;
  }

  /** The last bytes in front of the undecided byte number `index`, and up to `after` bytes from it on. */
  around(index: number, after: number): { before: Uint8Array; after: Uint8Array } {
    const place = this.at + index;
    const near = this.bytes.subarray(Math.max(this.at, place - CONTEXT_BEFORE), place);
    return {
      before: joined(this.#lastLeft(), near).slice(-CONTEXT_BEFORE),
      after: this.bytes.slice(place, Math.min(this.end, place + after)),
    };
  }

  /** Lets all go. */
  clear(): void {
    this.bytes = NOTHING;
    this.at = this.end = this.#left = 0;
    this.#lent = this.#writable = false;
  }

  /** Makes it as new. */
  reset(): void {
    this.clear();
    this.offset = 0;
    this.ended = false;
    this.begins = true;
  }

  #lastLeft(): Uint8Array {
    const count = Math.min(this.#left, CONTEXT_BEFORE);
    return Uint8Array.from(
      { length: count },
      (_, i) => this.#before[(this.#left - count + i) % CONTEXT_BEFORE]!,
    );
  }

  #grow(count: number): void {
    const length = this.length;
    const room = Math.max(2 * (length + count), 256);
    const grown = new Uint8Array(room);
    grown.set(this.bytes.subarray(this.at, this.end));
    this.bytes = grown;
    this.at = 0;
    this.end = length;
    this.#lent = false;
    this.#writable = true;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
