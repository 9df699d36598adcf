/**
 * The content of conversations: numbered messages of one size, which both ends can compute.
 *
 * @module
 */

/** Bytes of one message. */
export const MESSAGE_SIZE = 64;

/** How many messages a flow has at most, so that no number comes up in two flows. */
export const FLOW_MESSAGES = 1_000_000;

const encoder = new TextEncoder();

/** Message `number`: the number and a filler that depends on it, one line. */
export function message(number: number): Uint8Array<ArrayBuffer> {
  const filler = String.fromCharCode(97 + number % 26).repeat(MESSAGE_SIZE);
  return encoder.encode(`${number} ${filler}`.slice(0, MESSAGE_SIZE - 1) + "\n");
}

/** The first `size` bytes of the messages from number `first` on. */
export function messages(first: number, size: number): Uint8Array<ArrayBuffer> {
  const text = new Uint8Array(size);
  for (let at = 0; at < size; at += MESSAGE_SIZE) {
    text.set(message(first + at / MESSAGE_SIZE).subarray(0, size - at), at);
  }
  return text;
}

/** Compares a stream with the messages that it ought to consist of. */
export class MessageCheck {
  /** Bytes so far. */
  bytes = 0;
  /** Whether all of them were right. */
  equal = true;
  readonly #first: number;
  #expected = message(0);
  #number = 0;

  /** The stream begins with message number `first`. */
  constructor(first: number) {
    this.#first = first;
  }

  /** How many messages are complete. */
  get complete(): number {
    return Math.floor(this.bytes / MESSAGE_SIZE);
  }

  /** Compares the next bytes of the stream. */
  take(chunk: Uint8Array): void {
    for (const byte of chunk) {
      const number = this.#first + this.complete;
      if (number !== this.#number) {
        this.#number = number;
        this.#expected = message(number);
      }
      if (byte !== this.#expected[this.bytes % MESSAGE_SIZE]) this.equal = false;
      this.bytes++;
    }
  }
}
