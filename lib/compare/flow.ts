/**
 * Comparison of all that a server says in one conversation.
 *
 * @module
 */
import { AnswerComparison, type Difference, type DifferenceKind, type Learner } from "./answer.ts";
import { differenceFields } from "./excerpt.ts";
import type { Masks } from "./masks.ts";
import { clientBegins, type OpaqueProtocol, serverAgrees } from "./opaque.ts";

/** How the live server's answers compare with the captured ones. */
export type Outcome = "equal" | DifferenceKind | "opaque";

/** What a comparison has come to. */
export interface Verdict {
  /** The first difference's kind, or `equal`; `opaque` where the conversation is encrypted. */
  readonly outcome: Outcome;
  /** Fields of the event `replay.flow`. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** What the server says between two messages of the client. */
class Answer {
  readonly comparison: AnswerComparison;
  /** Whether the capture lacks bytes behind what is expected: what comes then is not compared. */
  hole = false;
  /** Bytes that were not given to the comparison, on both sides. */
  captured = 0;
  live = 0;

  constructor(masks: Masks, learn?: Learner) {
    this.comparison = new AnswerComparison(masks, learn);
  }

  /** Makes it as new. */
  reset(): void {
    this.comparison.reset();
    this.hole = false;
    this.captured = this.live = 0;
  }

  /** Whether nothing more of the live side is compared until the client speaks. */
  get over(): boolean {
    return this.comparison.difference !== undefined || this.hole && this.comparison.complete;
  }
}

/**
 * Takes the server's bytes of one conversation from two sides, each in order: as captured, and as they arrive now. Either
 * side may be ahead; what is ahead is kept. Captured bytes must not change any more; live ones are copied where they are
 * kept.
 *
 * The two are compared as streams, so that it does not matter how they are cut into segments. After a difference, and
 * after bytes that the capture lacks, the comparison begins anew where the client speaks next.
 */
export class FlowComparison {
  /** What was found to differ first, and where its answer begins on both sides. */
  #first: { difference: Difference; captured: number; live: number } | undefined;
  readonly #masks: Masks;
  readonly #learn: Learner | undefined;
  /** The answer that is compared with what comes, and those that the capture is ahead; never empty. */
  readonly #answers: Answer[] = [];
  /** An answer that is of no use any more, for the next. */
  #spare: Answer | undefined;
  /** Bytes of the answers before, on both sides. */
  #captured = 0;
  #live = 0;
  /** What each side began to speak, if that encrypts. */
  #clientBegan: OpaqueProtocol | undefined;
  #serverBegan: OpaqueProtocol | undefined;
  #opaque: OpaqueProtocol | undefined;
  #spoken = false;
  readonly #counts = { answers: 0, differing: 0, masked: 0, uncompared: 0 };

  /** Compares with `masks`; `learn` is asked about each pair of lines that differ. */
  constructor(masks: Masks, learn?: Learner) {
    this.#masks = masks;
    this.#learn = learn;
    this.#answers.push(new Answer(masks, learn));
  }

  /** How many bytes it keeps in memory at the moment. */
  get held(): number {
    return this.#answers.reduce((sum, { comparison }) => sum + comparison.kept, 0);
  }

  /** Whether a difference was found already. */
  get differs(): boolean {
    return this.#first !== undefined || this.#present.comparison.difference !== undefined;
  }

  /**
   * Whether the live server has said all that was captured up to the client's next message, or as far as the capture
   * was given. Where that is not compared, or differs, as many bytes are enough.
   */
  get met(): boolean {
    const { comparison, hole, captured, live } = this.#present;
    if (comparison.actualBytes + live >= comparison.expectedBytes + captured) return true;
    return this.#opaque === undefined && !hole && comparison.met;
  }

  /** The client's next captured bytes: what the captured server says from here on comes after them. */
  capturedClient(bytes: Uint8Array): void {
    this.#clientBegan = clientBegins(bytes) ?? this.#clientBegan;
    if (this.#clientBegan === "ssh" && this.#serverBegan === "ssh") this.#hide("ssh");
    const { comparison, hole } = this.#answers.at(-1)!;
    if (comparison.expectedBytes === 0 && !hole) return;
    if (!hole) comparison.endExpected(false);
    this.#answers.push(this.#answer());
    this.#settle();
  }

  /** The next captured bytes of the server. */
  captured(bytes: Uint8Array): void {
    this.#recognise(bytes);
    const last = this.#answers.at(-1)!;
    if (this.#opaque !== undefined || last.hole) {
      last.captured += bytes.length;
      this.#counts.uncompared += bytes.length;
      return;
    }
    last.comparison.expect(bytes);
    this.#settle();
  }

  /** The capture lacks the server's next `length` bytes; the rest of this answer is not compared. */
  capturedMissing(length: number): void {
    const last = this.#answers.at(-1)!;
    last.captured += length;
    this.#counts.uncompared += length;
    if (last.hole || this.#opaque !== undefined) return;
    last.hole = true;
    last.comparison.endExpected(false);
    this.#settle();
  }

  /** The captured server has ended its side: what the live one says beyond is too much, and is not kept. */
  capturedEnd(): void {
    const { comparison, hole } = this.#answers.at(-1)!;
    if (!hole && this.#opaque === undefined) comparison.endExpected(true);
  }

  /** The live server's next bytes. */
  live(bytes: Uint8Array): void {
    const present = this.#present;
    if (this.#opaque !== undefined || present.over) {
      present.live += bytes.length;
      return;
    }
    present.comparison.receive(bytes);
    this.#settle();
  }

  /** The live server is sent what {@linkcode FlowComparison.capturedClient} told of, the next of it where that is ahead. */
  liveClient(): void {
    const { comparison, over } = this.#present;
    const { expectedBytes, actualBytes } = comparison;
    if (this.#answers.length > 1) {
      // What is missing may be late. If it never comes, the next answer shows it.
      if (!over && actualBytes >= expectedBytes) comparison.endActual();
      if (over || actualBytes >= expectedBytes || comparison.met) this.#next();
    }
    this.#settle();
  }

  /**
   * Both sides have ended, or will not go on; called once. Where the capture itself ends within the conversation, it is
   * `cut`, and a live server that says more is right.
   */
  finish(cut = false): Verdict {
    while (true) {
      const { comparison, hole } = this.#present;
      const last = this.#answers.length === 1;
      if (!hole && last) comparison.endExpected(!cut);
      comparison.endActual();
      const surplus = comparison.complete && !last ? comparison.takeSurplus() : undefined;
      if (last) break;
      this.#next();
      if (surplus !== undefined && surplus.length > 0 && !hole) this.live(surplus);
    }
    this.#next();
    if (this.#opaque !== undefined) {
      return { outcome: "opaque", fields: { protocol: this.#opaque } };
    }
    const { answers, differing, masked, uncompared } = this.#counts;
    const counts = {
      answers,
      answers_differing: differing,
      ...(masked === 0 ? {} : { masked }),
      ...(uncompared === 0 ? {} : { uncompared_bytes: uncompared }),
    };
    if (this.#first === undefined) return { outcome: "equal", fields: counts };
    const { difference, captured, live } = this.#first;
    const fields = { ...differenceFields(difference, captured, live), ...counts };
    return { outcome: difference.kind, fields };
  }

  get #present(): Answer {
    return this.#answers[0]!;
  }

  #recognise(bytes: Uint8Array): void {
    if (!this.#spoken && serverAgrees(bytes, "ssh")) this.#serverBegan = "ssh";
    this.#spoken = true;
    if (this.#clientBegan === undefined) return;
    if (serverAgrees(bytes, this.#clientBegan)) this.#hide(this.#clientBegan);
    this.#clientBegan = undefined;
  }

  /** From here on nothing is compared. */
  #hide(protocol: OpaqueProtocol): void {
    this.#opaque = protocol;
    const rest = new Answer(this.#masks);
    for (const { comparison, captured, live } of this.#answers) {
      rest.captured += comparison.expectedBytes + captured;
      rest.live += comparison.actualBytes + live;
    }
    this.#answers.splice(0, Infinity, rest);
  }

  /** Goes on to the next answer, and gives it what came beyond this one. */
  #settle(): void {
    while (this.#present.comparison.complete) {
      const present = this.#present;
      const surplus = present.comparison.takeSurplus();
      if (present.hole) {
        present.live += surplus.length;
        return;
      }
      if (this.#answers.length === 1) return;
      this.#next();
      this.#present.comparison.receive(surplus);
    }
  }

  #answer(): Answer {
    const answer = this.#spare ?? new Answer(this.#masks, this.#learn);
    this.#spare = undefined;
    return answer;
  }

  #next(): void {
    const answer = this.#answers.shift()!;
    const { comparison, captured, live } = answer;
    const { difference, expectedBytes, actualBytes, masked } = comparison;
    const counts = this.#counts;
    if (expectedBytes + actualBytes > 0) counts.answers++;
    counts.masked += masked;
    if (difference !== undefined) {
      counts.differing++;
      counts.uncompared += Math.max(0, expectedBytes - difference.expected.offset);
      this.#first ??= { difference, captured: this.#captured, live: this.#live };
    }
    this.#captured += expectedBytes + captured;
    this.#live += actualBytes + live;
    answer.reset();
    this.#spare = answer;
    if (this.#answers.length === 0) this.#answers.push(this.#answer());
    // Only the first difference is shown.
    this.#present.comparison.isBrief = this.#first !== undefined;
  }
}
