/**
 * Finds the bytes of a line that belong to a match: in two passes, each of which looks at every byte once.
 *
 * @module
 */
import type { Positions } from "./pattern.ts";
import { LINE_BEGIN, LINE_END, SYMBOLS } from "./pattern_syntax.ts";

/** States that are remembered; with more, all are forgotten and built anew as they come. */
const MAX_STATES = 4096;
/** Steps that a new state counts as. */
const STATE_WORK = 64;
/** State without a position: nothing has begun, or nothing can end. */
const NONE = 0;
const UNKNOWN = -1;

/** A set of positions, and where each class of symbols leads. */
interface State {
  /** In ascending order. */
  readonly positions: readonly number[];
  /** The number of the next state by class, or UNKNOWN. */
  readonly next: Int32Array;
  /** In a forward state: whether it has a position in common with a backward one, by that one's number. */
  readonly common: (boolean | undefined)[];
}

/**
 * The automaton of masks. Its states are sets of positions, built when a text first asks for them. A text can ask for
 * many, each of which costs more than the step itself, so that the work on one line is bounded.
 */
export class Automaton {
  readonly #positions: Positions;
  /** The class of each symbol: symbols that all positions treat alike share one. */
  readonly #classes: Uint16Array;
  /** For each position, the positions before it. */
  readonly #before: number[][];
  /** Whether a match may end with the position. */
  readonly #last: Uint8Array;
  /** For each class, the positions that take it. */
  readonly #takers: Uint8Array[];
  readonly #forward: States;
  readonly #backward: States;
  /** How many pairs of states are known to have a position in common, or not. */
  #commons = 0;
  /** Forward states behind each symbol of the line. */
  #trail: Int32Array = new Int32Array(1024);
  #work = 0;

  /** Takes the positions of all masks. */
  constructor(positions: Positions) {
    this.#positions = positions;
    const { classes, takers } = classify(positions.takes);
    this.#classes = classes;
    this.#takers = takers;
    this.#before = positions.follow.map(() => []);
    positions.follow.forEach((follow, from) => {
      for (const to of follow) this.#before[to]!.push(from);
    });
    this.#last = new Uint8Array(positions.follow.length);
    for (const position of positions.last) this.#last[position] = 1;
    this.#forward = new States(takers.length);
    this.#backward = new States(takers.length);
  }

  /**
   * Sets `covered[i]` to 1 for each byte `from + i` of `bytes` below `to` that belongs to a match, else to 0. `content`
   * is where the line's end begins, LF or CR LF, or `to` where there is none; `begins` says whether `from` is the
   * begin of a line, and `ends` whether the line ends with `content`.
   *
   * @returns false where it would take more than `budget` steps; `covered` is of no use then
   */
  cover(
    bytes: Uint8Array,
    from: number,
    to: number,
    content: number,
    begins: boolean,
    ends: boolean,
    covered: Uint8Array,
    budget: number,
  ): boolean {
    this.#work = budget;
    this.#forget();
    const length = to - from;
    if (this.#trail.length < length + 2) this.#trail = new Int32Array(2 * (length + 2));
    const trail = this.#trail;
    const classes = this.#classes;
    let state = NONE;
    if (begins) state = this.#forth(state, LINE_BEGIN);
    for (let i = from; i < to; i++) {
      if (i === content && ends) state = this.#forth(state, LINE_END);
      const next = this.#forward.states[state]!.next[classes[bytes[i]!]!]!;
      state = next === UNKNOWN ? this.#ahead(state, bytes[i]!) : next;
      trail[i - from] = state;
      if (this.#work < 0) return false;
    }
    state = NONE;
    if (ends && content === to) state = this.#backFrom(state, LINE_END);
    for (let i = to - 1; i >= from; i--) {
      const next = this.#backward.states[state]!.next[classes[bytes[i]!]!]!;
      state = next === UNKNOWN ? this.#back(state, bytes[i]!) : next;
      covered[i - from] = this.#share(trail[i - from]!, state) ? 1 : 0;
      if (i === content && ends) state = this.#backFrom(state, LINE_END);
      if (this.#work < 0) return false;
    }
    return true;
  }

  /** As {@linkcode Automaton.#ahead}, looked up where it is known. */
  #forth(state: number, symbol: number): number {
    const next = this.#forward.states[state]!.next[this.#classes[symbol]!]!;
    return next === UNKNOWN ? this.#ahead(state, symbol) : next;
  }

  /** As {@linkcode Automaton.#back}, looked up where it is known. */
  #backFrom(state: number, symbol: number): number {
    const next = this.#backward.states[state]!.next[this.#classes[symbol]!]!;
    return next === UNKNOWN ? this.#back(state, symbol) : next;
  }

  /** The positions that may have taken `symbol`, as the one behind those of `state` or the first of a match. */
  #ahead(state: number, symbol: number): number {
    const known = this.#forward.states[state]!;
    const { follow, first } = this.#positions;
    const takers = this.#takers[this.#classes[symbol]!]!;
    const found = new Set<number>();
    const add = (position: number): void => {
      if (takers[position] === 1) found.add(position);
    };
    first.forEach(add);
    this.#work -= STATE_WORK + first.length;
    for (const position of known.positions) {
      // Begin and end of a line are no bytes: whoever does not ask for them goes on.
      if (symbol >= LINE_BEGIN) found.add(position);
      const next = follow[position]!;
      next.forEach(add);
      this.#work -= next.length + 1;
    }
    return known.next[this.#classes[symbol]!] = this.#forward.number(found);
  }

  /** The positions that, taking `symbol`, lead to the end of a match through those of `state` behind it. */
  #back(state: number, symbol: number): number {
    const known = this.#backward.states[state]!;
    const takers = this.#takers[this.#classes[symbol]!]!;
    const found = new Set<number>();
    const add = (position: number): void => {
      if (takers[position] === 1) found.add(position);
    };
    this.#positions.last.forEach(add);
    this.#work -= STATE_WORK + this.#positions.last.length;
    for (const position of known.positions) {
      if (symbol >= LINE_BEGIN) found.add(position);
      const before = this.#before[position]!;
      before.forEach(add);
      this.#work -= before.length + 1;
    }
    return known.next[this.#classes[symbol]!] = this.#backward.number(found);
  }

  /** Whether a forward and a backward state have a position in common: a match goes through it. */
  #share(forward: number, backward: number): boolean {
    if (forward === NONE || backward === NONE) return false;
    const common = this.#forward.states[forward]!.common;
    const known = common[backward];
    if (known !== undefined) return known;
    const a = this.#forward.states[forward]!.positions;
    const b = new Set(this.#backward.states[backward]!.positions);
    this.#work -= a.length + b.size;
    this.#commons++;
    return common[backward] = a.some((position) => b.has(position));
  }

  #forget(): void {
    if (this.#forward.full || this.#backward.full || this.#commons > 16 * MAX_STATES) {
      this.#forward.clear();
      this.#backward.clear();
      this.#commons = 0;
    }
  }
}

/** States by number; number 0 is the empty one. */
class States {
  readonly states: State[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #classes: number;

  constructor(classes: number) {
    this.#classes = classes;
    this.number(new Set());
  }

  get full(): boolean {
    return this.states.length > MAX_STATES;
  }

  number(set: ReadonlySet<number>): number {
    const positions = [...set].sort((a, b) => a - b);
    const key = positions.join();
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const next = new Int32Array(this.#classes).fill(UNKNOWN);
    const number = this.states.push({ positions, next, common: [] }) - 1;
    this.#numbers.set(key, number);
    return number;
  }

  clear(): void {
    this.states.length = 0;
    this.#numbers.clear();
    this.number(new Set());
  }
}

/** Gives symbols that all sets treat alike one class; and says for each class which sets take it. */
function classify(
  sets: readonly Uint8Array[],
): { classes: Uint16Array; takers: Uint8Array[] } {
  const classes = new Uint16Array(SYMBOLS);
  const takers: Uint8Array[] = [];
  const known = new Map<string, number>();
  for (let symbol = 0; symbol < SYMBOLS; symbol++) {
    const taker = Uint8Array.from(sets, (set) => set[symbol]!);
    // Line begin and end pass where bytes do not, and have classes of their own.
    const key = `${symbol < LINE_BEGIN ? "" : symbol}:${taker.join("")}`;
    let number = known.get(key);
    if (number === undefined) {
      number = takers.push(taker) - 1;
      known.set(key, number);
    }
    classes[symbol] = number;
  }
  return { classes, takers };
}
