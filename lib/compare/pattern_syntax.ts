/**
 * The syntax of masks: regular expressions that a finite automaton can follow.
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

/** The deepest nesting of groups. */
const MAX_DEPTH = 50;
const MAX_REPEAT = 1000;

const LF = 0x0a;
const CR = 0x0d;

/** Part of the syntax tree: built twice where it is repeated. */
export type Node =
  | { kind: "take"; takes: Uint8Array }
  | { kind: "sequence" | "choice"; parts: Node[] }
  | { kind: "repeat"; part: Node; least: number; most: number };

/**
 * Reads one expression.
 *
 * @throws {Failure} with status USAGE for one that is none, or asks for what an automaton cannot do
 */
export function readSyntax(pattern: string): Node {
  return new Reader(pattern).read();
}

/**
 * Refuses a mask.
 *
 * @throws {Failure} with status USAGE
 */
export function refuseMask(pattern: string, what: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, `Mask "${pattern}" ${what}`, { mend });
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
    return refuseMask(this.#pattern, what, mend);
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
