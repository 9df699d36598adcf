/**
 * Masks that are learnt from two runs of the same server: what differs between them may differ.
 *
 * @module
 */
import { Failure } from "../failure.ts";
import { FlowComparison, type Verdict } from "./flow.ts";
import type { Masks } from "./masks.ts";

/** How many bytes of the first run's answers are kept. */
const MAX_KEPT = 64 << 20;
/** How many masks may be learnt. */
const MAX_LEARNT = 100;
/** How much of a line in front of a difference, and behind it, a mask asks for. */
const CONTEXT = 24;

/** What a conversation takes in memory beside the bytes, about, and a piece of it. */
const FLOW_COST = 1000;
const PIECE_COST = 100;

/** An answer as it came; a number stands for as many bytes that were not kept. */
type Pieces = (Uint8Array | number)[];

/** What two runs of a server have shown. */
export class Lesson {
  /** The masks that were learnt. */
  readonly learnt: string[] = [];
  /** Lines that differed between the runs, and gave no mask. */
  unlearnt = 0;
  /** Bytes of the first run that were not kept. */
  forgotten = 0;
  readonly #masks: Masks;
  readonly #answers = new Map<number, Pieces[]>();
  #kept = 0;

  /** Adds to `masks` what it learns. */
  constructor(masks: Masks) {
    this.#masks = masks;
  }

  /** The comparison of conversation `flow` in the first run, of which the answers are kept. */
  first(flow: number): FlowComparison {
    const answers: Pieces[] = [[]];
    const keep = (bytes: Uint8Array): void => {
      const whole = this.#kept + bytes.length <= MAX_KEPT;
      if (whole) this.#kept += bytes.length + PIECE_COST;
      else this.forgotten += bytes.length;
      answers.at(-1)!.push(whole ? bytes.slice() : bytes.length);
    };
    if (this.#kept > MAX_KEPT) return new FlowComparison(this.#masks);
    this.#kept += FLOW_COST;
    this.#answers.set(flow, answers);
    return new FirstRun(this.#masks, keep, () => void answers.push([]));
  }

  /** The comparison of the same conversation in the second run. */
  second(flow: number): FlowComparison {
    const learner = new FlowComparison(this.#masks, (a, b) => this.#learn(a, b));
    return new SecondRun(this.#masks, learner, this.#answers.get(flow) ?? []);
  }

  #learn(a: Uint8Array, b: Uint8Array): boolean {
    const mask = maskOf(latin1(a), latin1(b));
    if (this.learnt.length < MAX_LEARNT && !this.#masks.patterns.includes(mask)) {
      try {
        this.#masks.add(mask);
        this.learnt.push(mask);
        return true;
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
      }
    }
    this.unlearnt++;
    return false;
  }
}

class FirstRun extends FlowComparison {
  readonly #keep: (bytes: Uint8Array) => void;
  readonly #turn: () => void;

  constructor(masks: Masks, keep: (bytes: Uint8Array) => void, turn: () => void) {
    super(masks);
    this.#keep = keep;
    this.#turn = turn;
  }

  override live(bytes: Uint8Array): void {
    this.#keep(bytes);
    super.live(bytes);
  }

  override liveClient(): void {
    this.#turn();
    super.liveClient();
  }
}

class SecondRun extends FlowComparison {
  readonly #learner: FlowComparison;
  readonly #answers: readonly Pieces[];
  #next = 0;

  constructor(masks: Masks, learner: FlowComparison, answers: readonly Pieces[]) {
    super(masks);
    this.#learner = learner;
    this.#answers = answers;
    this.#teach();
  }

  override capturedClient(bytes: Uint8Array): void {
    this.#learner.capturedClient(bytes);
    this.#teach();
    super.capturedClient(bytes);
  }

  override liveClient(): void {
    this.#learner.liveClient();
    super.liveClient();
  }

  /** What is learnt of a line must be known before the line is compared with the captured one. */
  override live(bytes: Uint8Array): void {
    this.#learner.live(bytes);
    super.live(bytes);
  }

  override finish(cut?: boolean): Verdict {
    this.#learner.finish(true);
    return super.finish(cut);
  }

  #teach(): void {
    for (const piece of this.#answers[this.#next++] ?? []) {
      if (typeof piece === "number") this.#learner.capturedMissing(piece);
      else this.#learner.captured(piece);
    }
  }
}

/** The mask that hides where two lines differ: the value of a field, or what stands between the same texts. */
export function maskOf(a: string, b: string): string {
  const [x, y] = [a, b].map((line) => line.replace(/\r?\n$/, "")) as [string, string];
  const field = /^[A-Za-z][A-Za-z0-9-]*:/.exec(x)?.[0];
  if (field !== undefined && y.startsWith(field)) return `^${escaped(field)}.*`;
  let front = 0;
  while (front < x.length && x[front] === y[front]) front++;
  let back = 0;
  const most = Math.min(x.length, y.length) - front;
  while (back < most && x.at(-1 - back) === y.at(-1 - back)) back++;
  // What differs is a word: 17 and 19 have nothing in common.
  while (front > 0 && isWord(x[front - 1]!)) front--;
  while (back > 0 && isWord(x.at(-back)!)) back--;
  const differing = x.slice(front, x.length - back) + y.slice(front, y.length - back);
  const before = x.slice(Math.max(0, front - CONTEXT), front);
  const after = x.slice(x.length - back, x.length - back + CONTEXT);
  const middle = [...differing].every(isWord) ? "[A-Za-z0-9_-]*" : ".*";
  const begin = front <= CONTEXT ? "^" : "";
  const end = back <= CONTEXT ? "$" : "";
  return `${begin}${escaped(before)}${middle}${escaped(after)}${end}`;
}

function isWord(char: string): boolean {
  return /[A-Za-z0-9_-]/.test(char);
}

function escaped(text: string): string {
  return [...text].map((char) => {
    if (/[A-Za-z0-9 _:;,<>="/&%@!#~-]/.test(char)) return char;
    const code = char.charCodeAt(0);
    // A quotation mark would end the shell's word.
    return code > 0x20 && code < 0x7f && char !== "'"
      ? `\\${char}`
      : `\\x${code.toString(16).padStart(2, "0")}`;
  }).join("");
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
