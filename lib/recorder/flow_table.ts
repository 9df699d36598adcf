/**
 * A hash table of flows in typed arrays: no look-up allocates anything.
 *
 * @module
 */
import { formatEndpoint, from16Bytes } from "../address.ts";

/** Words of a flow's key: the client's address, the server's address, both ports. */
export const KEY_WORDS = 9;

const WORDS_OF_ADDRESS = 4;
/** How many slots are remembered; a power of two. */
const RECENT = 4096;

/** Mixes `words` from `at` on into 32 bits: the rounds and the end of MurmurHash3. */
export function hashWords(words: Int32Array, at: number, count: number, seed: number): number {
  let h = seed | 0;
  for (let i = at; i < at + count; i++) {
    let k = Math.imul(words[i]!, 0xcc9e2d51);
    k = k << 15 | k >>> 17;
    h ^= Math.imul(k, 0x1b873593);
    h = h << 13 | h >>> 19;
    h = Math.imul(h, 5) + 0xe6546b64 | 0;
  }
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ h >>> 16;
}

/** The smallest power of two that is not below `count`. */
export function powerOfTwo(count: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, count)));
}

/**
 * Gives each flow a slot, a small number that stays its own until it is removed. What is asked for stands in
 * {@linkcode FlowTable.wanted}.
 */
export class FlowTable {
  /** How many flows it can hold. */
  readonly capacity: number;
  /**
   * The key that the next call is about: two addresses of four words each, IPv4 in its IPv4-mapped form, and the
   * client's port in the upper half of the last word, all in the order of the wire.
   */
  readonly wanted: Int32Array = new Int32Array(KEY_WORDS);
  readonly #keys: Int32Array;
  readonly #hashes: Int32Array;
  /** Slot + 1 by position; 0 where it is empty. */
  readonly #places: Int32Array;
  readonly #mask: number;
  readonly #seed: number;
  /** A stack of slots that were in use, and are free. */
  readonly #free: Int32Array;
  #freeCount = 0;
  /** Slots from here on were never in use. */
  #fresh = 0;
  /** The slots that were found last, each in the place of its key; -1 where there is none. Most are asked for again. */
  readonly #recent: Int32Array = new Int32Array(RECENT).fill(-1);

  /** `seed` is random, so that nobody can choose addresses that collide. */
  constructor(capacity: number, seed: number) {
    this.capacity = capacity;
    this.#seed = seed;
    this.#keys = new Int32Array(capacity * KEY_WORDS);
    this.#hashes = new Int32Array(capacity);
    const places = powerOfTwo(capacity * 2);
    this.#places = new Int32Array(places);
    this.#mask = places - 1;
    this.#free = new Int32Array(capacity);
  }

  /** How many flows there are. */
  get size(): number {
    return this.#fresh - this.#freeCount;
  }

  /** The slot of the wanted flow; -1 where there is none. */
  find(): number {
    const recent = recentPlace(this.wanted, 0);
    const last = this.#recent[recent]!;
    if (last >= 0 && this.#matches(last)) return last;
    const hash = hashWords(this.wanted, 0, KEY_WORDS, this.#seed);
    for (let place = hash & this.#mask;; place = place + 1 & this.#mask) {
      const slot = this.#places[place]! - 1;
      if (slot < 0) return -1;
      if (this.#hashes[slot] === hash && this.#matches(slot)) {
        this.#recent[recent] = slot;
        return slot;
      }
    }
  }

  /** Gives the wanted flow, which is not there, a slot; -1 where all are taken. */
  insert(): number {
    if (this.#freeCount === 0 && this.#fresh === this.capacity) return -1;
    const slot = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : this.#fresh++;
    const hash = hashWords(this.wanted, 0, KEY_WORDS, this.#seed);
    this.#keys.set(this.wanted, slot * KEY_WORDS);
    this.#hashes[slot] = hash;
    let place = hash & this.#mask;
    while (this.#places[place] !== 0) place = place + 1 & this.#mask;
    this.#places[place] = slot + 1;
    this.#recent[recentPlace(this.wanted, 0)] = slot;
    return slot;
  }

  /** Takes the flow of `slot` out. */
  remove(slot: number): void {
    let hole = this.#hashes[slot]! & this.#mask;
    while (this.#places[hole] !== slot + 1) hole = hole + 1 & this.#mask;
    // Those behind it move up, so that no look-up ends at the hole too early.
    for (let place = hole + 1 & this.#mask;; place = place + 1 & this.#mask) {
      const other = this.#places[place]! - 1;
      if (other < 0) break;
      const home = this.#hashes[other]! & this.#mask;
      if ((place - home & this.#mask) < (place - hole & this.#mask)) continue;
      this.#places[hole] = other + 1;
      hole = place;
    }
    this.#places[hole] = 0;
    this.#free[this.#freeCount++] = slot;
    const recent = recentPlace(this.#keys, slot * KEY_WORDS);
    if (this.#recent[recent] === slot) this.#recent[recent] = -1;
  }

  /** The client's end of the flow in `slot`, as the events name it. */
  client(slot: number): string {
    const ports = this.#keys[slot * KEY_WORDS + 2 * WORDS_OF_ADDRESS]!;
    return formatEndpoint(this.#address(slot * KEY_WORDS), ports >>> 16);
  }

  /** The server's end of the flow in `slot`, as the events name it. */
  server(slot: number): string {
    const ports = this.#keys[slot * KEY_WORDS + 2 * WORDS_OF_ADDRESS]!;
    return formatEndpoint(this.#address(slot * KEY_WORDS + WORDS_OF_ADDRESS), ports & 0xffff);
  }

  /** Both ports of the flow in `slot`, the client's in the upper half. */
  ports(slot: number): number {
    return this.#keys[slot * KEY_WORDS + 2 * WORDS_OF_ADDRESS]!;
  }

  #address(at: number): string {
    const bytes = new DataView(new ArrayBuffer(16));
    for (let i = 0; i < WORDS_OF_ADDRESS; i++) bytes.setInt32(i * 4, this.#keys[at + i]!);
    return from16Bytes(new Uint8Array(bytes.buffer));
  }

  #matches(slot: number): boolean {
    const keys = this.#keys;
    const { wanted } = this;
    const at = slot * KEY_WORDS;
    // The words that differ most come first.
    return keys[at + 8] === wanted[8] && keys[at + 3] === wanted[3] && keys[at + 7] === wanted[7] &&
      keys[at] === wanted[0] && keys[at + 1] === wanted[1] && keys[at + 2] === wanted[2] &&
      keys[at + 4] === wanted[4] && keys[at + 5] === wanted[5] && keys[at + 6] === wanted[6];
  }
}

/** The place of the key at `at` among the recent ones: from its ports and the last words of its addresses. */
function recentPlace(words: Int32Array, at: number): number {
  const ports = words[at + 8]!;
  return (ports ^ ports >>> 16 ^ words[at + 3]! ^ words[at + 7]!) & RECENT - 1;
}
