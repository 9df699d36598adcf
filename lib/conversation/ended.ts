/**
 * Conversations that are over: what tells their late segments from those of a new conversation, in a few bytes each.
 *
 * @module
 */

/** By slot of the table of flows. */
export class Ended {
  readonly #isEnded: Uint8Array;
  /** Initial sequence numbers of the end that the table's key has first; -1 where it is not known. */
  readonly #low: Float64Array;
  /** The same of the other end. */
  readonly #high: Float64Array;

  /** For slots below `capacity`. */
  constructor(capacity: number) {
    this.#isEnded = new Uint8Array(capacity);
    this.#low = new Float64Array(capacity);
    this.#high = new Float64Array(capacity);
  }

  /** Notes that the conversation of `slot` is over, which began with these sequence numbers, as far as they are known. */
  add(slot: number, low: number | undefined, high: number | undefined): void {
    this.#isEnded[slot] = 1;
    this.#low[slot] = low ?? -1;
    this.#high[slot] = high ?? -1;
  }

  /** Forgets it. */
  delete(slot: number): void {
    this.#isEnded[slot] = 0;
  }

  /** Whether the slot is that of a conversation that is over. */
  has(slot: number): boolean {
    return this.#isEnded[slot] === 1;
  }

  /** Whether a SYN numbered `seq` was not part of it; `fromLow` says which end sent it. */
  isOther(slot: number, fromLow: boolean, seq: number): boolean {
    return (fromLow ? this.#low : this.#high)[slot] !== seq;
  }
}
