/**
 * What a recorder answers: lines, and behind some of them bytes as they are.
 *
 * @module
 */
import type { Connection } from "../control.ts";
import { decodeLine } from "../ndjson.ts";

const LF = 0x0a;
/** The longest line, and the most bytes behind one: 48 KiB in base64, and what stands around them. */
const LONGEST = 128 * 1024;

/** An answer that cannot be. */
export class BadAnswer extends Error {
  /** `what` completes the sentence "The recorder has sent …". */
  constructor(what: string) {
    super(`The recorder has sent ${what}`);
    this.name = "BadAnswer";
  }
}

/** Reads the answers of one connection; only one call at a time. */
export class Answers {
  readonly #connection: Pick<Connection, "read">;
  readonly #buffer = new Uint8Array(2 * LONGEST);
  /** What was read and not taken yet: from here up to there. */
  #from = 0;
  #to = 0;

  /** Reads nothing yet. */
  constructor(connection: Pick<Connection, "read">) {
    this.#connection = connection;
  }

  /**
   * The next line without its end; undefined where the connection ends.
   *
   * @throws {BadAnswer} where it is too long, or no text
   */
  async line(): Promise<string | undefined> {
    for (let looked = 0;;) {
      const waiting = this.#buffer.subarray(this.#from, this.#to);
      const end = waiting.indexOf(LF, looked);
      if (end >= 0) {
        this.#from += end + 1;
        const line = decodeLine(waiting.subarray(0, end));
        if (line === undefined) throw new BadAnswer("a line that is not valid UTF-8");
        return line;
      }
      looked = waiting.length;
      if (looked > LONGEST) throw new BadAnswer(`a line longer than ${LONGEST} bytes`);
      if (!await this.#read()) return undefined;
    }
  }

  /**
   * The next `count` bytes, which are valid until the next call; undefined where the connection ends before.
   *
   * @throws {BadAnswer} where `count` is no number of bytes that can be
   */
  async bytes(count: number): Promise<Uint8Array | undefined> {
    if (!Number.isInteger(count) || count < 0 || count > LONGEST) {
      throw new BadAnswer(`a segment of ${count} bytes`);
    }
    while (this.#to - this.#from < count) {
      if (!await this.#read()) return undefined;
    }
    this.#from += count;
    return this.#buffer.subarray(this.#from - count, this.#from);
  }

  async #read(): Promise<boolean> {
    // What waits is no longer than half of the buffer, so that there is always room for more.
    if (this.#from === this.#to) this.#from = this.#to = 0;
    else if (this.#to > LONGEST) {
      this.#buffer.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    const length = await this.#connection.read(this.#buffer.subarray(this.#to));
    if (length === null) return false;
    this.#to += length;
    return true;
  }
}
