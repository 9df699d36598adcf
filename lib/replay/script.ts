/**
 * What is to be played of one conversation: a queue that the reader of the capture fills and the player empties.
 *
 * @module
 */
import type { Conversation, Ending } from "../conversation/conversation.ts";
import type { AnswerCheck } from "./answer_check.ts";
import type { Target } from "./targets.ts";

/** Kinds of {@linkcode Step}. */
export const StepKind = {
  /** The client sends bytes. */
  SEND: 0,
  /** The server has answered with bytes. */
  ANSWER: 1,
  /** The capture lacks bytes of an answer. */
  ANSWER_MISSING: 2,
  /** The client has sent everything, and says so with FIN. */
  FINISH: 3,
  /** The server has sent everything, and has said so with FIN or a reset. */
  SERVER_END: 4,
  /** The client resets the connection. */
  RESET: 5,
  /** The capture lacks bytes of the client: the play ends here. */
  MISSING: 6,
} as const;

/** One of the numbers of {@linkcode StepKind}. */
export type StepKind = typeof StepKind[keyof typeof StepKind];

/** One thing after the other. */
export interface Step {
  /** What is done. */
  readonly kind: StepKind;
  /** When it is due, in milliseconds since the begin of the play. */
  readonly due: number;
  /** The bytes, where there are some. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How many bytes it is about. */
  readonly length: number;
}

/** What a step takes in memory beside its bytes, about. */
const STEP_COST = 200;
/** What a conversation takes. */
const SCRIPT_COST = 2000;
const none: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** How much of the capture is in memory, waiting to be played. */
export class ReadAhead {
  /** Bytes, counted about. */
  held = 0;
  /** The most that it was. */
  heldMax = 0;
  readonly #limit: number;
  #waiting: PromiseWithResolvers<void> | undefined;

  /** Reading goes on while there are less than `limit` bytes. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Counts `bytes` more, or less. */
  add(bytes: number): void {
    this.held += bytes;
    if (this.held > this.heldMax) this.heldMax = this.held;
  }

  /** Whether the reader waits for room. */
  get full(): boolean {
    return this.#waiting !== undefined;
  }

  /** What the reader waits for; undefined where there is room. */
  room(): Promise<void> | undefined {
    if (this.held < this.#limit) return undefined;
    this.#waiting ??= Promise.withResolvers();
    return this.#waiting.promise;
  }

  /** Lets the reader go on where a quarter is free again, or `anyway`. */
  release(anyway = false): void {
    if (this.#waiting === undefined || !anyway && this.held > this.#limit * 0.75) return;
    this.#waiting.resolve();
    this.#waiting = undefined;
  }
}

/** See the module. */
export class Script {
  /** What is played. */
  readonly conversation: Conversation;
  /** Whom it is played to. */
  readonly target: Target;
  /** When the connection is to be opened, in milliseconds since the begin of the play. */
  readonly opens: number;
  /** Which time the capture is played, from 1. */
  readonly pass: number;
  /** Compares the answers. */
  readonly check: AnswerCheck;
  /** How the conversation ended in the capture; undefined while it goes on. */
  ending: Ending | undefined;
  /** Nobody will play it any more. */
  dropped = false;
  readonly #readAhead: ReadAhead;
  #held = 0;
  #steps: Step[] = [];
  #head = 0;

  /** A script without steps yet. */
  constructor(
    conversation: Conversation,
    target: Target,
    opens: number,
    pass: number,
    check: AnswerCheck,
    readAhead: ReadAhead,
  ) {
    this.conversation = conversation;
    this.target = target;
    this.opens = opens;
    this.pass = pass;
    this.check = check;
    this.#readAhead = readAhead;
    this.#hold(SCRIPT_COST);
  }

  /** The next step; undefined where there is none, or not yet. */
  get next(): Step | undefined {
    return this.#steps[this.#head];
  }

  /** Whether the capture has nothing of the client, as where only one direction was captured. */
  get isDeaf(): boolean {
    return this.conversation.client.counts.segments === 0;
  }

  /** Adds a step. Keeps `bytes`. */
  add(
    kind: StepKind,
    due: number,
    bytes: Uint8Array<ArrayBuffer> = none,
    length = bytes.length,
  ): void {
    if (this.dropped) return;
    this.#steps.push({ kind, due, bytes, length });
    this.#hold(STEP_COST + bytes.length);
  }

  /** The next step is done. */
  pop(): void {
    this.#hold(-STEP_COST - this.#steps[this.#head++]!.bytes.length);
    if (this.#head === this.#steps.length) {
      this.#steps.length = 0;
      this.#head = 0;
    } else if (this.#head >= 64 && this.#head * 2 >= this.#steps.length) {
      this.#steps = this.#steps.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Forgets what is not played yet. */
  drop(): void {
    this.dropped = true;
    this.#steps = [];
    this.#head = 0;
    this.#hold(-this.#held);
  }

  #hold(bytes: number): void {
    this.#held += bytes;
    this.#readAhead.add(bytes);
  }
}
