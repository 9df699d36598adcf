/**
 * The comparison of one conversation's answers, as the player uses it.
 *
 * @module
 */

/** What a comparison has come to. */
export interface Verdict {
  /** Whether the live answers are the captured ones; `opaque` where the conversation is encrypted. */
  readonly outcome: "equal" | "differs" | "shorter" | "longer" | "opaque";
  /** What else there is to tell of it: fields of the event `replay.flow`. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Takes what the two servers of one conversation say, each in order: the captured one, and the live one. Bytes that are
 * to be kept are copied.
 */
export interface AnswerCheck {
  /** Whether a difference was found already: the live bytes are not kept any more. */
  readonly differs: boolean;
  /** Whether the live server has said all that was captured so far. */
  readonly met: boolean;
  /** The captured client speaks. */
  capturedClient(bytes: Uint8Array): void;
  /** The live client begins to speak, with what {@linkcode AnswerCheck.capturedClient} told last. */
  liveClient(): void;
  /** The captured server's next bytes. */
  captured(bytes: Uint8Array): void;
  /** The capture lacks the captured server's next `length` bytes: any live ones will do for them. */
  capturedMissing(length: number): void;
  /** The captured server has ended its side: what the live one says beyond is too much, and is not kept. */
  capturedEnd(): void;
  /** The live server's next bytes. */
  live(bytes: Uint8Array): void;
  /** Neither side goes on; called once. `cut` says that the captured server might have. */
  finish(cut: boolean): Verdict;
}
