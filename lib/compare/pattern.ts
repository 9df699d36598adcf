/**
 * Regular expressions of masks, read into their positions. The expressions are those that a finite automaton can
 * follow, so that no text can make one take long.
 *
 * @module
 */
import { ExitStatus, Failure } from "../failure.ts";

/** The symbol in front of the first byte of a line; bytes are their own symbols. */
export const LINE_BEGIN = 256;
/** The symbol behind the last byte of a line, in front of its line end. */
export const LINE_END = 257;
/** How many symbols there are. */
export const SYMBOLS = 258;

/** The most positions that all expressions together may have. */
export const MAX_POSITIONS = 4096;
/** The most successors that all positions together may have. */
const MAX_FOLLOW = 1 << 17;
/** The deepest nesting of groups. */
const MAX_DEPTH = 50;
const MAX_REPEAT = 1000;

const LF = 0x0a;
const CR = 0x0d;

/**
 * The positions of an expression (Glushkov's construction): each is a place that takes one symbol. A match begins with
 * a position of `first`, goes on with one that may follow, and ends with one of `last`.
 */
export interface Positions {
  /** What each position takes: 1 at each symbol that it does. */
  readonly takes: Uint8Array[];
  /** Which positions may follow each one. */
  readonly follow: number[][];
  /** Where a match begins. */
  readonly first: number[];
  /** Where it may end. */
  readonly last: number[];
}

/** A part of an expression, whose positions are in the builder. */
interface Part {
  first: number[];
  last: number[];
  nullable: boolean;
}

/** Part of the syntax tree: built twice where it is repeated. */
type Node =
  | { kind: "take"; takes: Uint8Array }
  | { kind: "sequence" | "choice"; parts: Node[] }
  | { kind: "repeat"; part: Node; least: number; most: number };

/**
 * Reads expressions and joins them into one, which matches where any of them does.
 *
 * @throws {Failure} with status USAGE for one that is none, or asks for what an automaton cannot do
 */
export function readPatterns(patterns: readonly string[]): Positions {
  const builder = new Builder();
  for (const pattern of patterns) builder.add(new Reader(pattern).read(), pattern);
  return builder;
}

function refuse(pattern: string, what: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, `Mask "${pattern}" ${what}`, { mend });
}

class Builder implements Positions {
  readonly takes: Uint8Array[] = [];
  readonly follow: number[][] = [];
  readonly first: number[] = [];
  readonly last: number[] = [];
  #pattern = "";
  #follows = 0;

  add(node: Node, pattern: string): void {
    this.#pattern = pattern;
    const { first, last } = this.#build(node);
    this.first.push(...first);
    this.last.push(...last);
  }

  #build(node: Node): Part {
    switch (node.kind) {
      case "take": {
        const position = this.takes.push(node.takes) - 1;
        if (position >= MAX_POSITIONS) this.#tooLarge();
        this.follow.push([]);
        return { first: [position], last: [position], nullable: false };
      }
      case "sequence":
        return node.parts.reduce<Part>((before, part) => this.#join(before, part), empty());
      case "choice": {
        const parts = node.parts.map((part) => this.#build(part));
        return {
          first: parts.flatMap(({ first }) => first),
          last: parts.flatMap(({ last }) => last),
          nullable: parts.some(({ nullable }) => nullable),
        };
      }
      case "repeat":
        return this.#repeat(node.part, node.least, node.most);
    }
  }

  #join(before: Part, node: Node): Part {
    const part = this.#build(node);
    this.#link(before.last, part.first);
    return {
      first: before.nullable ? [...before.first, ...part.first] : before.first,
      last: part.nullable ? [...before.last, ...part.last] : part.last,
      nullable: before.nullable && part.nullable,
    };
  }

  #repeat(node: Node, least: number, most: number): Part {
    let whole = empty();
    const again = most === Infinity;
    for (let i = 0; i < (again ? Math.max(least, 1) : most); i++) {
      const optional = i >= least;
      const from = this.takes.length;
      const before = whole;
      const part = this.#build(node);
      if (again && i === Math.max(least, 1) - 1) this.#link(part.last, part.first);
      this.#link(before.last, part.first);
      whole = {
        first: before.nullable ? [...before.first, ...part.first] : before.first,
        last: part.nullable || optional ? [...before.last, ...part.last] : part.last,
        nullable: before.nullable && (part.nullable || optional),
      };
      // What takes nothing takes nothing as often as one likes.
      if (this.takes.length === from) break;
    }
    return whole;
  }

  #link(from: readonly number[], to: readonly number[]): void {
    this.#follows += from.length * to.length;
    if (this.#follows > MAX_FOLLOW) this.#tooLarge();
    for (const position of from) {
      const follow = this.follow[position]!;
      for (const next of to) if (!follow.includes(next)) follow.push(next);
    }
  }

  #tooLarge(): never {
    refuse(this.#pattern, "makes the masks too large", "repeat less, or leave some out");
  }
}

function empty(): Part {
  return { first: [], last: [], nullable: true };
}

/** Reads one expression. Its text counts as UTF-8, byte by byte. */
class Reader {
  readonly #pattern: string;
  readonly #text: string[];
  #at = 0;
  #depth = 0;
  #ignoreCase = false;

  constructor(pattern: string) {
    this.#pattern = pattern;
    this.#text = [...pattern];
  }

  read(): Node {
    if (this.#pattern === "") this.#refuse("is empty", `write one such as "^Date: .*"`);
    if (this.#pattern.startsWith("(?i)")) {
      this.#ignoreCase = true;
      this.#at = 4;
    }
    const node = this.#choice();
    if (this.#at < this.#text.length) this.#refuse(`has a ")" too many`, `write "\\)"`);
    return node;
  }

  #choice(): Node {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.#text.length && this.#peek() !== "|" && this.#peek() !== ")") {
      parts.push(this.#repeated(this.#atom()));
    }
    return { kind: "sequence", parts };
  }

  #repeated(part: Node): Node {
    let node = part;
    while (true) {
      const bounds = this.#bounds();
      if (bounds === undefined) return node;
      if (this.#peek() === "?" || this.#peek() === "+") {
        this.#refuse(
          `has "${this.#peek()}" behind a repetition`,
          `a mask hides every match: write a class that ends it, such as "[^;]*"`,
        );
      }
      node = { kind: "repeat", part: node, least: bounds[0], most: bounds[1] };
    }
  }

  #bounds(): [least: number, most: number] | undefined {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#take("?")) return [0, 1];
    const rest = this.#text.slice(this.#at, this.#at + 12).join("");
    const [all, low = "", comma, high] = /^\{([0-9]{1,4})(,([0-9]{1,4})?)?\}/.exec(rest) ?? [];
    if (all === undefined) return undefined;
    this.#at += all.length;
    const least = Number(low);
    const most = comma === undefined ? least : high === undefined ? Infinity : Number(high);
    if (least > most || least > MAX_REPEAT || most !== Infinity && most > MAX_REPEAT) {
      this.#refuse(`repeats "${all}"`, `write 0 to ${MAX_REPEAT}, the smaller one first`);
    }
    return [least, most];
  }

  #atom(): Node {
    const char = this.#next();
    switch (char) {
      case "(":
        return this.#group();
      case "[":
        return take(this.#class());
      case ".":
        return take(bytes((byte) => byte !== LF && byte !== CR));
      case "^":
        return take(symbol(LINE_BEGIN));
      case "$":
        return take(symbol(LINE_END));
      case "*":
      case "+":
      case "?":
        return this.#refuse(`has nothing in front of "${char}"`, `write "\\${char}"`);
      case "\\":
        return this.#escaped();
      default:
        return this.#literal(char);
    }
  }

  #group(): Node {
    if (this.#peek() === "?" && !(this.#take("?") && this.#take(":"))) {
      this.#refuse(
        "looks around itself or names a group",
        `only "(…)" and "(?:…)" are there, and "(?i)" in front`,
      );
    }
    if (++this.#depth > MAX_DEPTH) this.#refuse("nests too deep", "write it with fewer groups");
    const node = this.#choice();
    if (!this.#take(")")) this.#refuse(`lacks a ")"`, `write "\\(" where no group is meant`);
    this.#depth--;
    return node;
  }

  #escaped(): Node {
    const set = this.#escapedSet();
    return typeof set === "string" ? this.#literal(set) : take(set);
  }

  /** What stands behind a backslash: a class, or one character. */
  #escapedSet(): Uint8Array | string {
    if (this.#at === this.#text.length) this.#refuse("ends with a backslash", `write "\\\\"`);
    const char = this.#next();
    if (/[0-9]/.test(char) && char !== "0" || char === "k") {
      this.#refuse("refers back to a group", "write what the group would match");
    }
    switch (char) {
      case "d":
      case "D":
      case "w":
      case "W":
      case "s":
      case "S":
        return named(char);
      case "x":
      case "u":
        return this.#hex(char === "x" ? 2 : 4);
      case "0":
        return "\0";
    }
    const control = { t: "\t", n: "\n", r: "\r", f: "\f", v: "\v" }[char];
    if (control !== undefined) return control;
    if (/[A-Za-z]/.test(char)) {
      this.#refuse(`has "\\${char}", which means nothing here`, `leave out the backslash`);
    }
    return char;
  }

  /** `\xHH` is a byte, `\uHHHH` a character. */
  #hex(digits: number): Uint8Array | string {
    const text = this.#text.slice(this.#at, this.#at + digits).join("");
    if (!/^[0-9a-fA-F]+$/.test(text) || text.length < digits) {
      this.#refuse(`lacks ${digits} hexadecimal digits`, `write such as "\\x0a" or "\\u20ac"`);
    }
    this.#at += digits;
    const code = parseInt(text, 16);
    return digits === 2 ? symbol(code) : String.fromCharCode(code);
  }

  #class(): Uint8Array {
    const set = new Uint8Array(SYMBOLS);
    const negated = this.#take("^");
    while (!this.#take("]")) {
      const from = this.#classItem();
      if (typeof from !== "number") {
        for (let i = 0; i < SYMBOLS; i++) set[i]! |= from[i]!;
        continue;
      }
      let to = from;
      if (this.#peek() === "-" && this.#text[this.#at + 1] !== "]") {
        this.#at++;
        const item = this.#classItem();
        if (typeof item !== "number" || item < from) {
          this.#refuse("has a range that is none", `write "\\-" where a hyphen is meant`);
        }
        to = item;
      }
      for (let i = from; i <= to; i++) set[i] = 1;
    }
    if (this.#ignoreCase) foldCase(set);
    return negated ? bytes((byte) => byte !== LF && set[byte] === 0) : set;
  }

  #classItem(): Uint8Array | number {
    if (this.#at === this.#text.length) this.#refuse(`lacks a "]"`, `write "\\[" for a bracket`);
    const char = this.#next();
    const item = char === "\\"
      ? this.#peek() === "b" ? this.#backspace() : this.#escapedSet()
      : char;
    if (typeof item !== "string") {
      const only = item.indexOf(1);
      return item.indexOf(1, only + 1) < 0 ? only : item;
    }
    const code = item.codePointAt(0)!;
    if (code > 0x7f) {
      this.#refuse(`has "${item}" in a class, whose members are bytes`, `write "(?:…|${item})"`);
    }
    return code;
  }

  #backspace(): string {
    this.#at++;
    return "\b";
  }

  #literal(char: string): Node {
    const parts = [...new TextEncoder().encode(char)].map((byte) => {
      const set = symbol(byte);
      if (this.#ignoreCase) foldCase(set);
      return take(set);
    });
    return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
  }

  #peek(): string | undefined {
    return this.#text[this.#at];
  }

  #next(): string {
    return this.#text[this.#at++]!;
  }

  #take(char: string): boolean {
    if (this.#peek() !== char) return false;
    this.#at++;
    return true;
  }

  #refuse(what: string, mend: string): never {
    return refuse(this.#pattern, what, mend);
  }
}

function take(takes: Uint8Array): Node {
  return { kind: "take", takes };
}

function symbol(code: number): Uint8Array {
  const set = new Uint8Array(SYMBOLS);
  set[code] = 1;
  return set;
}

function bytes(wanted: (byte: number) => boolean): Uint8Array {
  const set = new Uint8Array(SYMBOLS);
  for (let byte = 0; byte < 256; byte++) if (wanted(byte)) set[byte] = 1;
  return set;
}

/** `\d`, `\w`, `\s` and their opposites, of ASCII; the opposites have no line feed, for a mask ends with its line. */
function named(name: string): Uint8Array {
  const kind = { d: /[0-9]/, w: /[A-Za-z0-9_]/, s: /[\t\n\v\f\r ]/ }[name.toLowerCase()]!;
  const opposite = name !== name.toLowerCase();
  return bytes((byte) =>
    kind.test(String.fromCharCode(byte)) !== opposite && !(opposite && byte === LF)
  );
}

function foldCase(set: Uint8Array): void {
  for (let upper = 0x41; upper <= 0x5a; upper++) {
    set[upper] = set[upper + 0x20] = set[upper]! | set[upper + 0x20]!;
  }
}
