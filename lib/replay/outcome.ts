/**
 * What came of a conversation that was played.
 *
 * @module
 */
import type { LiveEnd, Outcome } from "../vocabulary/replay.ts";
import type { Script } from "./script.ts";
import type { Skip } from "./skip.ts";

/** A conversation that is over, or that was not played. */
export interface Finished {
  /** What was to be played. */
  readonly script: Script;
  /** What came of it. */
  readonly outcome: Outcome;
  /** Why, where the outcome does not say it by itself; for a person. */
  readonly reason: string | undefined;
  /** The same for what is skipped. */
  readonly skip: Skip | undefined;
  /** What the comparison has to tell. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Bytes that were sent. */
  readonly sent: number;
  /** Bytes that were received. */
  readonly received: number;
  /** Answers that ended early, after which the client went on. */
  readonly unmet: number;
  /** How the live server has ended its side. */
  readonly end: LiveEnd;
  /** From the begin of the connection to its end, in milliseconds; 0 where there was none. */
  readonly took: number;
}
