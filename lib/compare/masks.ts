/**
 * Masks: what of an answer may differ.
 *
 * @module
 */
import { ExitStatus, Failure } from "../failure.ts";
import { Automaton } from "./automaton.ts";
import { readPatterns } from "./pattern.ts";
import { PRESETS } from "./presets.ts";

/** The longest piece of a line that masks look at, in bytes. */
export const MAX_LINE: number = 16 << 10;

/** Steps that the work on one line may take; a text that is made to need more is compared unmasked, and counted. */
const BUDGET = 1 << 20;

const HTTP = ["http-date", "http-etag", "http-cookie", "http-id"];

/** Which bytes of a piece of a line are hidden. */
export interface Cover {
  /** 1 for each byte of the piece that is hidden, else 0; valid until the next call, and longer than the piece. */
  readonly hidden: Uint8Array;
  /** Whether the line has something, and all of it but its end is hidden. */
  readonly whole: boolean;
}

/** Longer lines are not remembered. */
const MEMORABLE = 256;

/** The line that was covered last, and how: a server gives the same date in many answers. */
class LastLine {
  /** How it is covered. */
  cover: Cover = { hidden: new Uint8Array(0), whole: false };
  readonly #bytes = new Uint8Array(MEMORABLE);
  #length = -1;
  #begins = false;
  #ends = false;

  /** Whether this is the same line. */
  is(bytes: Uint8Array, from: number, to: number, begins: boolean, ends: boolean): boolean {
    const length = this.#length;
    if (to - from !== length || begins !== this.#begins || ends !== this.#ends) return false;
    for (let i = 0; i < length; i++) {
      if (bytes[from + i] !== this.#bytes[i]) return false;
    }
    return true;
  }

  /** Remembers a line. */
  keep(bytes: Uint8Array, from: number, to: number, begins: boolean, ends: boolean): void {
    this.forget();
    if (to - from > MEMORABLE) return;
    this.#length = to - from;
    for (let i = from; i < to; i++) this.#bytes[i - from] = bytes[i]!;
    this.#begins = begins;
    this.#ends = ends;
  }

  /** Remembers none. */
  forget(): void {
    this.#length = -1;
  }
}

/**
 * A set of masks, shared by all comparisons of a run. A mask is a regular expression that is looked for in each line,
 * and hides every byte of every match. No text can make that take long: see {@linkcode Automaton}.
 */
export class Masks {
  /** Pieces of lines that were left unmasked, since the work would have been too much. */
  unmasked = 0;
  readonly #patterns: string[];
  #automaton: Automaton | undefined;
  readonly #hidden: readonly [Uint8Array, Uint8Array] = [
    new Uint8Array(MAX_LINE),
    new Uint8Array(MAX_LINE),
  ];
  readonly #last: readonly [LastLine, LastLine] = [new LastLine(), new LastLine()];

  /**
   * Takes expressions, and names of presets, which begin with `@`.
   *
   * @throws {Failure} with status USAGE for one that is neither
   */
  constructor(masks: readonly string[] = []) {
    this.#patterns = [...new Set(masks.flatMap(patternsOf))];
    this.#automaton = make(this.#patterns);
  }

  /** Whether nothing is masked. */
  get none(): boolean {
    return this.#automaton === undefined;
  }

  /** The expressions. */
  get patterns(): readonly string[] {
    return this.#patterns;
  }

  /**
   * Adds a mask, unless it is there.
   *
   * @throws {Failure} with status USAGE where there is no room for it
   */
  add(pattern: string): void {
    if (this.#patterns.includes(pattern)) return;
    this.#automaton = make([...this.#patterns, pattern]);
    this.#patterns.push(pattern);
    for (const line of this.#last) line.forget();
  }

  /**
   * What is hidden of the piece of a line that `bytes` has from `from` to `to`, at most {@linkcode MAX_LINE} bytes.
   * `begins` says that the line begins there, `ends` that it ends there, with LF, CR LF or the text. `side` is 0 or 1,
   * so that two covers may be looked at together.
   */
  cover(
    bytes: Uint8Array,
    from: number,
    to: number,
    begins: boolean,
    ends: boolean,
    side: 0 | 1,
  ): Cover {
    const last = this.#last[side];
    if (last.is(bytes, from, to, begins, ends)) return last.cover;
    const hidden = this.#hidden[side];
    const content = to - (ends ? lineEnd(bytes, from, to) : 0);
    const automaton = this.#automaton;
    const done = automaton === undefined ||
      automaton.cover(bytes, from, to, content, begins, ends, hidden, BUDGET);
    if (automaton === undefined || !done) hidden.fill(0, 0, to - from);
    if (done) last.keep(bytes, from, to, begins, ends);
    else {
      this.unmasked++;
      last.forget();
    }
    let whole = begins && ends && content > from;
    for (let i = 0; whole && i < content - from; i++) whole = hidden[i] === 1;
    return last.cover = { hidden, whole };
  }
}

function make(patterns: readonly string[]): Automaton | undefined {
  return patterns.length === 0 ? undefined : new Automaton(readPatterns(patterns));
}

/** How many bytes the end of the line takes: LF 1, CR LF 2. */
function lineEnd(bytes: Uint8Array, from: number, to: number): number {
  if (to === from || bytes[to - 1] !== 0x0a) return 0;
  return to - from > 1 && bytes[to - 2] === 0x0d ? 2 : 1;
}

function patternsOf(mask: string): readonly string[] {
  if (!mask.startsWith("@")) return [mask];
  const name = mask.slice(1);
  if (!Object.hasOwn(PRESETS, name)) {
    throw new Failure(ExitStatus.USAGE, `There is no preset "${mask}"`, {
      mend: `write one of ${Object.keys(PRESETS).map((known) => `"@${known}"`).join(", ")}`,
    });
  }
  return name === "http"
    ? HTTP.flatMap((part) => PRESETS[part]!.patterns)
    : PRESETS[name]!.patterns;
}
