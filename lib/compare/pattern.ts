/**
 * Regular expressions of masks, read into their positions. The expressions are those that a finite automaton can
 * follow, so that no text can make one take long.
 *
 * @module
 */
import { type Node, readSyntax, refuseMask } from "./pattern_syntax.ts";

/** The most positions that all expressions together may have. */
export const MAX_POSITIONS = 4096;
/** The most successors that all positions together may have. */
const MAX_FOLLOW = 1 << 17;
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

/**
 * Reads expressions and joins them into one, which matches where any of them does.
 *
 * @throws {Failure} with status USAGE for one that is none, or asks for what an automaton cannot do
 */
export function readPatterns(patterns: readonly string[]): Positions {
  const builder = new Builder();
  for (const pattern of patterns) builder.add(readSyntax(pattern), pattern);
  return builder;
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
    refuseMask(this.#pattern, "makes the masks too large", "repeat less, or leave some out");
  }
}

function empty(): Part {
  return { first: [], last: [], nullable: true };
}
