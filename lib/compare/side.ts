/**
 * The bytes of one side of a comparison that are not decided yet.
 *
 * @module
 */

/** How many bytes in front of a difference a report shows. */
export const CONTEXT_BEFORE = 16;

const NOTHING = new Uint8Array(0);

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
  /** Whether `bytes` is somebody else's memory. */
  #foreign = false;
  #before: Uint8Array = NOTHING;

  /** How many bytes are undecided. */
  get length(): number {
    return this.end - this.at;
  }

  /** Appends bytes, which must not change before {@linkcode Side.own}. */
  push(bytes: Uint8Array): void {
    if (this.at === this.end) {
      this.bytes = bytes;
      this.at = 0;
      this.end = bytes.length;
      this.#foreign = true;
      return;
    }
    if (this.#foreign || this.end + bytes.length > this.bytes.length) this.#grow(bytes.length);
    this.bytes.set(bytes, this.end);
    this.end += bytes.length;
  }

  /** Copies what is left of somebody else's memory. */
  own(): void {
    if (!this.#foreign) return;
    if (this.at === this.end) this.bytes = NOTHING;
    else this.bytes = this.bytes.slice(this.at, this.end);
    this.end -= this.at;
    this.at = 0;
    this.#foreign = false;
  }

  /** Lets the first `count` undecided bytes go; `begins` says whether a line begins behind them. */
  drop(count: number, begins: boolean): void {
    if (count === 0) return;
    const kept = Math.min(count, CONTEXT_BEFORE);
    const last = this.bytes.subarray(this.at + count - kept, this.at + count);
    this.#before = kept === CONTEXT_BEFORE
      ? last.slice()
      : joined(this.#before, last).slice(-CONTEXT_BEFORE);
    this.at += count;
    this.offset += count;
    this.begins = begins;
  }

  /** The last bytes in front of the undecided byte number `index`, and up to `after` bytes from it on. */
  around(index: number, after: number): { before: Uint8Array; after: Uint8Array } {
    const place = this.at + index;
    const near = this.bytes.subarray(Math.max(this.at, place - CONTEXT_BEFORE), place);
    return {
      before: joined(this.#before, near).slice(-CONTEXT_BEFORE),
      after: this.bytes.slice(place, Math.min(this.end, place + after)),
    };
  }

  /** Lets all go. */
  clear(): void {
    this.bytes = this.#before = NOTHING;
    this.at = this.end = 0;
  }

  #grow(count: number): void {
    const length = this.length;
    const room = this.#foreign ? length + count : Math.max(2 * (length + count), 256);
    const grown = new Uint8Array(room);
    grown.set(this.bytes.subarray(this.at, this.end));
    this.bytes = grown;
    this.at = 0;
    this.end = length;
    this.#foreign = false;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
