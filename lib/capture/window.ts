/**
 * The part of an input that is in memory: one buffer that slides over it.
 *
 * @module
 */

/** Where bytes come from; a `Deno.FsFile` is one. */
export interface ByteSource {
  /** Reads some bytes into the beginning of `into` and returns how many, null at the end. */
  read(into: Uint8Array): Promise<number | null>;
  /** The same at once, where there is nothing to wait for, as in a regular file. */
  readNow?(into: Uint8Array): number | null;
}

/** How much is read at once, in bytes: what a processor's own cache holds. */
const CHUNK = 1 << 18;
/** After so many reads at once comes another one: signals, timers and the output get their turn meanwhile. */
const READS_AT_ONCE = 7;

/**
 * The bytes `at` to `end` of `bytes` are what is to come next of the input. It grows only as far as a single piece
 * needs it.
 */
export class Window {
  /** The buffer; another one after a {@linkcode Window.fill} that had to grow it. */
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(CHUNK);
  /** The same memory. */
  view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);
  /** The next byte to be read. */
  at = 0;
  /** Behind the last byte that is there. */
  end = 0;
  readonly #source: ByteSource;
  /** What of the input lies before the buffer, in bytes. */
  #base = 0;
  /** Reads at once since the last other one. */
  #atOnce = 0;

  /** Reads from `source`, which stays the caller's. */
  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Where `at` is in the input, in bytes. */
  get offset(): number {
    return this.#base + this.at;
  }

  /**
   * Reads on until `need` bytes are there. Moves what is left to the front of the buffer.
   *
   * @returns false where the input ends before that
   */
  async fill(need: number): Promise<boolean> {
    this.#makeRoom(need);
    while (this.end - this.at < need) {
      const count = await this.#source.read(this.bytes.subarray(this.end));
      if (count === null) return false;
      this.end += count;
    }
    return true;
  }

  /**
   * Like {@linkcode Window.fill}, with no waiting. False where {@linkcode Window.fill} is to be called instead: the
   * source cannot, it has ended, or others shall get their turn.
   */
  fillNow(need: number): boolean {
    const source = this.#source;
    if (source.readNow === undefined || this.#atOnce === READS_AT_ONCE) {
      this.#atOnce = 0;
      return false;
    }
    this.#atOnce++;
    this.#makeRoom(need);
    while (this.end - this.at < need) {
      const count = source.readNow(this.bytes.subarray(this.end));
      if (count === null) return false;
      this.end += count;
    }
    return true;
  }

  #makeRoom(need: number): void {
    const left = this.end - this.at;
    if (this.at > 0 && (left === 0 || this.bytes.length - this.at < Math.max(need, CHUNK / 2))) {
      this.bytes.copyWithin(0, this.at, this.end);
      this.#base += this.at;
      this.at = 0;
      this.end = left;
    }
    if (need <= this.bytes.length - this.at) return;
    const grown = new Uint8Array(2 ** Math.ceil(Math.log2(need + CHUNK / 2)));
    grown.set(this.bytes.subarray(this.at, this.end));
    this.#base += this.at;
    this.at = 0;
    this.end = left;
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}
