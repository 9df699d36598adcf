/**
 * The text of addresses: of the same few, again and again.
 *
 * @module
 */
import { from16Bytes } from "../address.ts";
import { hashWords } from "../recorder/flow_table.ts";

const WORDS = 4;
/** Addresses that are remembered; another one takes the place of one that it collides with. */
const PLACES = 1024;

/** Writes addresses, and remembers some. */
export class AddressNames {
  readonly #keys = new Int32Array(PLACES * WORDS);
  readonly #names: (string | undefined)[] = new Array(PLACES).fill(undefined);

  /** The address of the four words in network byte order that stand in `words` from `at` on, IPv4 in its mapped form. */
  of(words: Int32Array, at: number): string {
    const place = hashWords(words, at, WORDS, 0) & PLACES - 1;
    const known = this.#names[place];
    if (known !== undefined && this.#matches(words, at, place)) return known;
    const view = new DataView(new ArrayBuffer(WORDS * 4));
    for (let i = 0; i < WORDS; i++) view.setInt32(4 * i, words[at + i]!);
    const name = from16Bytes(new Uint8Array(view.buffer));
    for (let i = 0; i < WORDS; i++) this.#keys[place * WORDS + i] = words[at + i]!;
    this.#names[place] = name;
    return name;
  }

  #matches(words: Int32Array, at: number, place: number): boolean {
    for (let i = 0; i < WORDS; i++) {
      if (this.#keys[place * WORDS + i] !== words[at + i]) return false;
    }
    return true;
  }
}
