/**
 * Memory for many short pieces.
 *
 * @module
 */

/** Bytes of a chunk. It lives as long as any of its pieces, so that a large one could be kept by a short piece. */
const CHUNK = 16 << 10;
/** Longer pieces get memory of their own. */
const LONGEST = 2 << 10;

/** Keeps copies of bytes. An own typed array for each would take ten times as long to make as to fill. */
export class Arena {
  #chunk: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #used = 0;

  /** A copy of `length` bytes of `memory` from `at` on. */
  keep(memory: Uint8Array, at: number, length: number): Uint8Array<ArrayBuffer> {
    if (length > LONGEST) return new Uint8Array(memory.subarray(at, at + length));
    if (this.#used + length > this.#chunk.length) {
      this.#chunk = new Uint8Array(CHUNK);
      this.#used = 0;
    }
    const begin = this.#used;
    this.#used += length;
    this.#chunk.set(memory.subarray(at, at + length), begin);
    return this.#chunk.subarray(begin, this.#used);
  }
}
