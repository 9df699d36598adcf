/**
 * Why conversations are not played, or not to their end, and what becomes of a replay in which that is so for all.
 *
 * @module
 */
import { ExitStatus, Failure } from "../failure.ts";

/** What is to blame for what is skipped. */
export type SkipCause = "unmapped" | "incomplete" | "empty" | "late" | "room" | "stopped";

/** Why a conversation is skipped. */
export interface Skip {
  /** What is to blame. */
  readonly cause: SkipCause;
  /** The same for a person, with what else there is to say. */
  readonly text: string;
}

/** What each cause means for a replay of which nothing is left: the exit status, and what the user can do. */
const causes = {
  unmapped: [ExitStatus.USAGE, "give --to, or a --map for it"],
  incomplete: [ExitStatus.BAD_INPUT, "capture whole segments, from the begin of the connections"],
  empty: [ExitStatus.BAD_INPUT, "see t2cp replay CAPTURE --analyse"],
  late: [ExitStatus.UNAVAILABLE, "raise --max-lag, or name a faster server"],
  room: [ExitStatus.UNAVAILABLE, "raise --concurrency or --read-ahead"],
  stopped: [ExitStatus.OK, ""],
} as const satisfies Record<SkipCause, readonly [ExitStatus, string]>;

/** There is neither `--to` nor a `--map` for captured server `endpoint`. */
export function unmapped(endpoint: string): Skip {
  return { cause: "unmapped", text: `no --map for ${endpoint}, and no --to` };
}

/** `length` bytes that the client has sent are not in the capture. */
export function lacking(length: number): Skip {
  return { cause: "incomplete", text: `the capture lacks ${length} bytes of the client` };
}

/** There is nothing to play. */
export const EMPTY: Skip = { cause: "empty", text: "neither side sent a byte" };
/** It was later than it may be. */
export const TOO_LATE: Skip = { cause: "late", text: "later than --max-lag" };
/** It waited for others that waited for it. */
export const NO_ROOM: Skip = {
  cause: "room",
  text: "no room: raise --concurrency or --read-ahead",
};
/** The user has stopped the replay. */
export const STOPPED: Skip = { cause: "stopped", text: "stopped" };

/** Counts what was skipped, by cause. */
export class SkipTally {
  readonly #causes = new Map<SkipCause, { count: number; example: string }>();

  /** One more. */
  add({ cause, text }: Skip): void {
    const known = this.#causes.get(cause);
    if (known === undefined) this.#causes.set(cause, { count: 1, example: text });
    else known.count++;
  }

  /** What to say where all conversations of `file` were skipped: it is about the most frequent cause. */
  failure(file: string): Failure {
    const [most] = [...this.#causes].sort(([, a], [, b]) => b.count - a.count);
    const [cause, { count, example }] = most!;
    const [status, mend] = causes[cause];
    const often = count === 1 ? "" : `, ${count} times`;
    return new Failure(
      status,
      `No conversation of "${file}" was played to its end: ${example}${often}`,
      { mend },
    );
  }
}
