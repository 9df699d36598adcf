/**
 * The recorder's memory: blocks of bytes, each a piece of one flow's sequence space, reserved once and for all.
 *
 * @module
 */
import { copyBytes, firstDifference } from "./bytes.ts";
import { powerOfTwo } from "./flow_table.ts";

/** Bytes of a block. The sequence space is cut at multiples of it, so that a sequence number tells its block. */
export const BLOCK = 4096;
const BLOCK_BITS = 12;
const WORDS = BLOCK / 32;

/** How many blocks of one flow the sequence space has. */
export const BLOCKS_OF_SPACE = 2 ** 32 / BLOCK;

/** Bytes that a block takes: its data, a bit a byte, and its entries in the tables, at the worst. */
const COST = BLOCK + BLOCK / 8 + 6 * 4 + 3 * 2 + 4 * 4;

/** The block number of a sequence number. */
export function blockOf(seq: number): number {
  return seq >>> BLOCK_BITS;
}

/** Gives memory of so many bytes. */
export type Reserve = (bytes: number) => ArrayBuffer;

/** What {@linkcode BlockStore.put} found. */
export interface PutResult {
  /** Bytes that were not there before. */
  stored: number;
  /** Offset in the piece of the first byte that differs from what was there; -1 where none does. */
  diverged: number;
}

/**
 * Blocks by flow and number, found through a hash table; and their order of age. Which bytes of a block are there is
 * known for each byte: mostly they are one run, and else a bit a byte tells.
 */
export class BlockStore {
  /** How many blocks there are. */
  readonly capacity: number;
  /** Blocks in use. */
  used = 0;
  /** The flow slot of each block; -1 where it is free. */
  readonly owner: Int32Array;
  /** The block number of each block. */
  readonly number: Int32Array;
  /** How many bytes of each block are there. */
  readonly held: Uint16Array;
  /** The result of the last {@linkcode BlockStore.put}. */
  readonly result: PutResult = { stored: 0, diverged: -1 };
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  /** The first byte that is there, and the one behind the last. */
  readonly #low: Uint16Array;
  readonly #high: Uint16Array;
  /** A bit a byte of each block; kept only while `held` is less than from low to high. */
  readonly #bits: Int32Array;
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #oldest = -1;
  #newest = -1;
  /** The first free block; the next is in `#newer`. */
  #free = 0;
  /** Block + 1 by position; 0 where it is empty. */
  readonly #places: Int32Array;
  readonly #mask: number;
  readonly #seed: number;

  /** Takes at most `budget` bytes of memory, most of them at once from `reserve`. */
  constructor(budget: number, seed: number, reserve: Reserve) {
    const count = Math.max(1, Math.floor(budget / COST));
    this.capacity = count;
    this.#seed = seed;
    this.#bytes = new Uint8Array(reserve(count * BLOCK));
    this.#view = new DataView(this.#bytes.buffer);
    this.owner = new Int32Array(count).fill(-1);
    this.number = new Int32Array(count);
    this.held = new Uint16Array(count);
    this.#low = new Uint16Array(count);
    this.#high = new Uint16Array(count);
    this.#bits = new Int32Array(count * WORDS);
    this.#newer = Int32Array.from({ length: count }, (_, i) => i + 1 < count ? i + 1 : -1);
    this.#older = new Int32Array(count);
    const places = powerOfTwo(count * 2);
    this.#places = new Int32Array(places);
    this.#mask = places - 1;
  }

  /** The block `number` of `flow`; -1 where there is none. */
  find(flow: number, number: number): number {
    for (let place = this.#home(flow, number);; place = place + 1 & this.#mask) {
      const block = this.#places[place]! - 1;
      if (block < 0) return -1;
      if (this.number[block] === number && this.owner[block] === flow) return block;
    }
  }

  /** Takes a free block for `number` of `flow`, as the newest; -1 where all are in use. */
  take(flow: number, number: number): number {
    const block = this.#free;
    if (block < 0) return -1;
    this.#free = this.#newer[block]!;
    this.owner[block] = flow;
    this.number[block] = number;
    this.held[block] = 0;
    this.#low[block] = 0;
    this.#high[block] = 0;
    let place = this.#home(flow, number);
    while (this.#places[place] !== 0) place = place + 1 & this.#mask;
    this.#places[place] = block + 1;
    this.#append(block);
    this.used += 1;
    return block;
  }

  /** Gives a block back. */
  release(block: number): void {
    let hole = this.#home(this.owner[block]!, this.number[block]!);
    while (this.#places[hole] !== block + 1) hole = hole + 1 & this.#mask;
    for (let place = hole + 1 & this.#mask;; place = place + 1 & this.#mask) {
      const other = this.#places[place]! - 1;
      if (other < 0) break;
      const home = this.#home(this.owner[other]!, this.number[other]!);
      if ((place - home & this.#mask) < (place - hole & this.#mask)) continue;
      this.#places[hole] = other + 1;
      hole = place;
    }
    this.#places[hole] = 0;
    this.#unlink(block);
    this.owner[block] = -1;
    this.#newer[block] = this.#free;
    this.#free = block;
    this.used -= 1;
  }

  /** The block in use that was taken first; -1 where none is in use. */
  get oldest(): number {
    return this.#oldest;
  }

  /** Makes a block the newest. */
  renew(block: number): void {
    this.#unlink(block);
    this.#append(block);
  }

  /**
   * Puts `length` bytes of `source`, from `from` on, behind the bytes of a block, if it is the flow's that sequence
   * number `seq` belongs to, has one run of bytes that ends there, and has room. Whether it did: the usual case, with
   * the fewest steps.
   */
  append(
    block: number,
    flow: number,
    seq: number,
    source: DataView,
    from: number,
    length: number,
  ): boolean {
    const at = seq & BLOCK - 1;
    const low = this.#low[block]!;
    if (
      at !== this.#high[block] || this.held[block] !== at - low || at + length > BLOCK ||
      this.owner[block] !== flow || this.number[block] !== seq >>> BLOCK_BITS
    ) {
      return false;
    }
    copyBytes(source, from, this.#bytes, this.#view, block * BLOCK + at, length);
    this.#high[block] = at + length;
    this.held[block] = at + length - low;
    return true;
  }

  /**
   * Puts `length` bytes of `source`, from `from` on, at `at` of a block; those that are there already stay as they
   * are and are compared. The outcome is in {@linkcode BlockStore.result}.
   */
  put(block: number, at: number, source: DataView, from: number, length: number): void {
    const { result } = this;
    result.stored = 0;
    result.diverged = -1;
    const end = at + length;
    const low = this.#low[block]!;
    const high = this.#high[block]!;
    const start = block * BLOCK;
    if (this.held[block] === 0) {
      copyBytes(source, from, this.#bytes, this.#view, start + at, length);
      this.#low[block] = at;
      this.#high[block] = end;
      this.held[block] = length;
      result.stored = length;
    } else if (at === high && this.held[block] === high - low) {
      copyBytes(source, from, this.#bytes, this.#view, start + at, length);
      this.#high[block] = end;
      this.held[block]! += length;
      result.stored = length;
    } else {
      this.#merge(block, at, source, from, end);
    }
  }

  /** The end, at most `to`, of the run of bytes from `at` on that are all there, or all not there. */
  runEnd(block: number, at: number, to: number): number {
    const low = this.#low[block]!;
    const high = this.#high[block]!;
    if (at < low) return Math.min(low, to);
    if (at >= high) return to;
    if (this.held[block] === high - low) return Math.min(high, to);
    const bits = block * WORDS;
    const state = this.#bits[bits + (at >>> 5)]! >> (at & 31) & 1;
    // A whole word in the same state is passed at once.
    const whole = state === 1 ? -1 : 0;
    while (at < to) {
      const word = this.#bits[bits + (at >>> 5)]!;
      if ((at & 31) === 0 && word === whole) at += 32;
      else if ((word >> (at & 31) & 1) === state) at += 1;
      else break;
    }
    return Math.min(at, to);
  }

  /** Whether the byte `at` of a block is there. */
  has(block: number, at: number): boolean {
    const low = this.#low[block]!;
    const high = this.#high[block]!;
    if (at < low || at >= high) return false;
    if (this.held[block] === high - low) return true;
    return (this.#bits[block * WORDS + (at >>> 5)]! >> (at & 31) & 1) === 1;
  }

  /** Copies `length` bytes of a block, from `at` on, to `target`. */
  copyOut(block: number, at: number, length: number, target: Uint8Array, targetAt: number): void {
    const from = block * BLOCK + at;
    target.set(this.#bytes.subarray(from, from + length), targetAt);
  }

  /** Forgets the bytes of a block before `to`, and returns how many there were. */
  trim(block: number, to: number): number {
    const low = this.#low[block]!;
    const high = this.#high[block]!;
    if (to <= low) return 0;
    if (this.held[block] === high - low || to >= high) {
      const freed = to >= high ? this.held[block]! : to - low;
      this.held[block]! -= freed;
      this.#low[block] = Math.min(to, high);
      return freed;
    }
    let freed = 0;
    for (let at = low; at < to;) {
      const end = this.runEnd(block, at, to);
      if (this.has(block, at)) freed += end - at;
      at = end;
    }
    const first = this.has(block, to) ? to : this.runEnd(block, to, high);
    this.#clearBits(block, low, first);
    this.held[block]! -= freed;
    this.#low[block] = first;
    return freed;
  }

  #merge(block: number, at: number, source: DataView, from: number, end: number): void {
    const { result } = this;
    const low = this.#low[block]!;
    const high = this.#high[block]!;
    const start = block * BLOCK;
    const oneRun = this.held[block] === high - low;
    if (oneRun && (at > high || end < low)) {
      this.#bits.fill(0, block * WORDS, (block + 1) * WORDS);
      this.#setBits(block, low, high);
    }
    for (let piece = at; piece < end;) {
      const there = oneRun ? piece >= low && piece < high : this.has(block, piece);
      const pieceEnd = oneRun
        ? piece < low ? Math.min(low, end) : there ? Math.min(high, end) : end
        : this.runEnd(block, piece, end);
      const offset = from + piece - at;
      const length = pieceEnd - piece;
      if (!there) {
        copyBytes(source, offset, this.#bytes, this.#view, start + piece, length);
        result.stored += length;
      } else if (result.diverged < 0) {
        const differs = firstDifference(source, offset, this.#view, start + piece, length);
        if (differs >= 0) result.diverged = piece - at + differs;
      }
      piece = pieceEnd;
    }
    if (result.stored === 0) return;
    this.held[block]! += result.stored;
    this.#low[block] = Math.min(low, at);
    this.#high[block] = Math.max(high, end);
    if (!oneRun || at > high || end < low) this.#setBits(block, at, end);
  }

  #setBits(block: number, from: number, to: number): void {
    for (let at = from; at < to;) {
      const word = block * WORDS + (at >>> 5);
      const end = Math.min(to, (at | 31) + 1);
      this.#bits[word]! |= mask(at & 31, end - at);
      at = end;
    }
  }

  #clearBits(block: number, from: number, to: number): void {
    for (let at = from; at < to;) {
      const word = block * WORDS + (at >>> 5);
      const end = Math.min(to, (at | 31) + 1);
      this.#bits[word]! &= ~mask(at & 31, end - at);
      at = end;
    }
  }

  #home(flow: number, number: number): number {
    let h = Math.imul(flow ^ this.#seed, 0x85ebca6b) ^ Math.imul(number, 0xc2b2ae35);
    h ^= h >>> 15;
    h = Math.imul(h, 0x2c1b3c6d);
    return (h ^ h >>> 13) & this.#mask;
  }

  #append(block: number): void {
    this.#older[block] = this.#newest;
    this.#newer[block] = -1;
    if (this.#newest >= 0) this.#newer[this.#newest] = block;
    else this.#oldest = block;
    this.#newest = block;
  }

  #unlink(block: number): void {
    const older = this.#older[block]!;
    const newer = this.#newer[block]!;
    if (older >= 0) this.#newer[older] = newer;
    else this.#oldest = newer;
    if (newer >= 0) this.#older[newer] = older;
    else this.#newest = older;
  }
}

/** `count` bits, 1 to 32, from bit `from` on. */
function mask(from: number, count: number): number {
  return count === 32 ? -1 : (1 << count) - 1 << from;
}
