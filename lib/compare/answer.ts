/**
 * Comparison of one answer with another one, byte by byte as both come.
 *
 * @module
 */
import { type Cover, type Masks, MAX_LINE } from "./masks.ts";
import { NOTHING, Side } from "./side.ts";

const LF = 0x0a;

/** How many bytes from a difference on a report shows. */
const CONTEXT_AFTER = 32;

/** In a line longer than {@linkcode MAX_LINE}, so many bytes are looked at once more with what follows them. */
const OVERLAP = 4 << 10;

/** How two answers differ. */
export type DifferenceKind =
  /** Both have another byte at a place. */
  | "differs"
  /** The actual one ends where the expected one goes on. */
  | "shorter"
  /** The actual one goes on where the expected one ends. */
  | "longer";

/** What one side has at the place of a difference. */
export interface Excerpt {
  /** Where the first byte that differs is, in bytes from the answer's begin. */
  offset: number;
  /** Up to 16 bytes in front of it. */
  before: Uint8Array;
  /** Up to 32 bytes from it on; as many as had come. */
  after: Uint8Array;
}

/** The first difference of two answers. */
export interface Difference {
  /** Of which kind it is. */
  kind: DifferenceKind;
  /** What was expected. */
  expected: Excerpt;
  /** What came. */
  actual: Excerpt;
}

/** Gets two lines that differ, and returns whether they are to count as equal. */
export type Learner = (expected: Uint8Array, actual: Uint8Array) => boolean;

/**
 * Compares two answers, of which pieces come on either side in any order. Without masks a byte is decided as soon as
 * both sides have it; with masks, equal bytes are decided so, too, and others once their line is there on both sides,
 * or {@linkcode MAX_LINE} bytes of it. What is decided is forgotten. What is not is kept, so that the caller sees to it
 * that no side runs far ahead.
 */
export class AnswerComparison {
  /** The first difference, once it is found; nothing is kept from then on. */
  difference: Difference | undefined;
  /** Whether the difference needs no context. */
  isBrief = false;
  /** How many bytes were expected so far. */
  expectedBytes = 0;
  /** How many bytes came so far. */
  actualBytes = 0;
  /** How many lines or pieces of them were equal only by the masks. */
  masked = 0;
  readonly #masks: Masks;
  readonly #learn: Learner | undefined;
  readonly #expected = new Side();
  readonly #actual = new Side();
  /** Whether nothing may come beyond what is expected. */
  #last = true;
  /** So many undecided bytes are known to be the same on both sides. */
  #same = 0;

  /** Compares with `masks`; `learn` is asked about each pair of lines that differ. */
  constructor(masks: Masks, learn?: Learner) {
    this.#masks = masks;
    this.#learn = learn;
  }

  /** Takes bytes that are expected, which must not change any more. */
  expect(bytes: Uint8Array): void {
    this.expectedBytes += bytes.length;
    this.#push(this.#expected, bytes, true);
  }

  /** Takes bytes that came, and copies what it keeps of them. */
  receive(bytes: Uint8Array): void {
    this.actualBytes += bytes.length;
    this.#push(this.#actual, bytes, false);
  }

  /**
   * Nothing more is expected. Unless `last`, what comes beyond is no difference: it belongs to what follows, see
   * {@linkcode AnswerComparison.takeSurplus}.
   */
  endExpected(last: boolean): void {
    this.#expected.ended = true;
    this.#last = last;
    this.#compare();
  }

  /** Nothing more will come. */
  endActual(): void {
    this.#actual.ended = true;
    this.#compare();
  }

  /** How many bytes are kept undecided, on both sides together. */
  get kept(): number {
    return this.#expected.length + this.#actual.length;
  }

  /** Whether all has come that was expected so far, masks considered, and no difference was found. */
  get met(): boolean {
    if (this.difference !== undefined) return false;
    const { length } = this.#expected;
    return length === this.#same || this.#restMatches();
  }

  /** Whether all that is expected has ended and come, with no difference. */
  get complete(): boolean {
    return this.difference === undefined && this.#expected.ended && this.#expected.length === 0;
  }

  /** Takes away what came beyond all that is expected. The bytes are the caller's. */
  takeSurplus(): Uint8Array {
    const { bytes, at, end } = this.#actual;
    const surplus = at === end ? NOTHING : bytes.slice(at, end);
    this.actualBytes -= surplus.length;
    this.#actual.clear();
    return surplus;
  }

  /** Makes it as new. */
  reset(): void {
    this.difference = undefined;
    this.expectedBytes =
      this.actualBytes =
      this.masked =
      this.#same =
        0;
    this.#last = true;
    this.#expected.reset();
    this.#actual.reset();
  }

  #push(side: Side, bytes: Uint8Array, given: boolean): void {
    if (this.difference !== undefined || bytes.length === 0) return;
    side.push(bytes, given);
    this.#compare();
    side.own();
  }

  #compare(): void {
    const bytewise = this.#masks.none && this.#learn === undefined;
    while (this.difference === undefined && this.#step(bytewise));
  }

  /** Decides what can be decided next; false where nothing can. */
  #step(bytewise: boolean): boolean {
    const expected = this.#expected;
    const actual = this.#actual;
    const common = Math.min(expected.length, actual.length);
    const same = this.#same = sameBytes(expected, actual, this.#same, common);
    if (bytewise || this.#isPassed) this.#drop(same, same, false);
    else this.#dropLines();
    const rest = Math.min(expected.length, actual.length);
    if (this.#same === rest) {
      // No difference so far, unless a side has ended where the other one goes on.
      const shorter = expected.length < actual.length ? expected : actual;
      if (expected.length === actual.length || !shorter.ended) return false;
      if (shorter === expected && !this.#last && shorter.length === 0) return false;
    }
    if (!bytewise) return this.#compareLines();
    this.#differ(0, 0);
    return false;
  }

  /** Whether all that is expected has come, so that what comes next belongs to what follows. */
  get #isPassed(): boolean {
    return this.#expected.ended && !this.#last && this.#same === this.#expected.length;
  }

  /** Lets go what is the same on both sides: whole lines, and of a very long line all but its last bytes. */
  #dropLines(): void {
    const { bytes, at } = this.#expected;
    const line = this.#same === 0 ? -1 : bytes.lastIndexOf(LF, at + this.#same - 1) - at;
    if (line >= 0) this.#drop(line + 1, line + 1, true);
    if (this.#same > MAX_LINE) this.#drop(this.#same - OVERLAP, this.#same - OVERLAP, false);
  }

  #drop(expected: number, actual: number, begins: boolean): void {
    this.#expected.drop(expected, begins);
    this.#actual.drop(actual, begins);
    this.#same = Math.max(0, this.#same - Math.max(expected, actual));
  }

  /** Compares the next line of both sides; false where it is not there yet, or a difference is found. */
  #compareLines(): boolean {
    const a = pieceOf(this.#expected);
    const b = pieceOf(this.#actual);
    if (a === undefined || b === undefined) return false;
    const hiddenA = this.#cover(this.#expected, a, 0);
    const hiddenB = this.#cover(this.#actual, b, 1);
    if (hiddenA.whole || hiddenB.whole) {
      this.masked++;
      this.#drop(hiddenA.whole ? a.length : 0, hiddenB.whole ? b.length : 0, true);
      this.#same = 0;
      return true;
    }
    const walk = this.#walk(a, b, hiddenA.hidden, hiddenB.hidden);
    if (walk.equal || a.whole && b.whole && this.#learned(a, b)) {
      this.masked++;
      const all = a.whole && b.whole;
      this.#drop(all ? a.length : walk.expected, all ? b.length : walk.actual, all);
      this.#same = 0;
      return true;
    }
    this.#differ(walk.expected, walk.actual);
    return false;
  }

  #cover(side: Side, piece: Piece, number: 0 | 1): Cover {
    const { bytes, at, begins } = side;
    return this.#masks.cover(bytes, at, at + piece.length, begins, piece.whole, number);
  }

  #learned(a: Piece, b: Piece): boolean {
    if (this.#learn === undefined || a.length === 0 || b.length === 0) return false;
    const { bytes: x, at: i } = this.#expected;
    const { bytes: y, at: j } = this.#actual;
    return this.#learn(x.subarray(i, i + a.length), y.subarray(j, j + b.length));
  }

  /**
   * Walks through two pieces. Where they are equal, the result is how far both were looked at: of a piece that goes on,
   * up to a place near its end where nothing is hidden. Else it is where they differ.
   */
  #walk(a: Piece, b: Piece, hiddenA: Uint8Array, hiddenB: Uint8Array): Walk {
    const { bytes: x, at: from } = this.#expected;
    const { bytes: y, at: to } = this.#actual;
    let i = 0;
    let j = 0;
    let before: Walk | undefined;
    while (i < a.end && j < b.end) {
      if (hiddenA[i] !== hiddenB[j]) return { equal: false, expected: i, actual: j };
      if (hiddenA[i] === 1) {
        while (i < a.length && hiddenA[i] === 1) i++;
        while (j < b.length && hiddenB[j] === 1) j++;
        continue;
      }
      if (x[from + i] !== y[to + j]) return { equal: false, expected: i, actual: j };
      i++;
      j++;
      if (!a.whole || !b.whole) before = { equal: true, expected: i, actual: j };
    }
    const ended = i === a.length && a.whole || j === b.length && b.whole;
    if (a.whole && b.whole || ended) {
      return { equal: i === a.length && j === b.length, expected: i, actual: j };
    }
    return before ?? { equal: true, expected: i, actual: j };
  }

  /** Whether what is left of both sides would be equal if both ended here. */
  #restMatches(): boolean {
    const expected = this.#expected;
    const actual = this.#actual;
    const longest = Math.max(expected.length, actual.length);
    if (this.#masks.none || actual.length === 0 || longest > MAX_LINE) return false;
    const a = { length: expected.length, end: expected.length, whole: true };
    const b = { length: actual.length, end: actual.length, whole: true };
    const { hidden } = this.#cover(expected, a, 0);
    return this.#walk(a, b, hidden, this.#cover(actual, b, 1).hidden).equal;
  }

  #differ(i: number, j: number): void {
    const expected = this.#expected;
    const actual = this.#actual;
    const kind = i === expected.length && expected.ended
      ? "longer"
      : j === actual.length && actual.ended
      ? "shorter"
      : "differs";
    const show = this.isBrief ? placeOnly : excerpt;
    this.difference = { kind, expected: show(expected, i), actual: show(actual, j) };
    expected.clear();
    actual.clear();
  }
}

/** A line, or the piece of one that is looked at. */
interface Piece {
  /** Its length in bytes. */
  readonly length: number;
  /** Behind what is decided with it: all of a line, less of a piece that goes on. */
  readonly end: number;
  /** Whether the line ends with it. */
  readonly whole: boolean;
}

interface Walk {
  equal: boolean;
  expected: number;
  actual: number;
}

/** The next line of a side; undefined where more of it must come first. */
function pieceOf(side: Side): Piece | undefined {
  const { bytes, at, end, length, ended } = side;
  const lineEnd = bytes.subarray(at, Math.min(end, at + MAX_LINE)).indexOf(LF);
  if (lineEnd >= 0) return { length: lineEnd + 1, end: lineEnd + 1, whole: true };
  if (length >= MAX_LINE) return { length: MAX_LINE, end: MAX_LINE - OVERLAP, whole: false };
  return ended ? { length, end: length, whole: true } : undefined;
}

/** How many bytes are the same from the undecided byte `from` on, which all before are, up to `to`. */
function sameBytes(a: Side, b: Side, from: number, to: number): number {
  const { bytes: x, at: i } = a;
  const { bytes: y, at: j } = b;
  let k = from;
  while (k < to && x[i + k] === y[j + k]) k++;
  return k;
}

function placeOnly(side: Side, index: number): Excerpt {
  return { offset: side.offset + index, before: NOTHING, after: NOTHING };
}

function excerpt(side: Side, index: number): Excerpt {
  return { offset: side.offset + index, ...side.around(index, CONTEXT_AFTER) };
}
