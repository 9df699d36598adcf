/**
 * One attempt of a probe, whatever its kind.
 *
 * @module
 */

/** What a probe has counted. */
export interface ProbeCounters {
  /** Attempts begun. */
  sent: number;
  /** Attempts that went well. */
  ok: number;
  /** Attempts that did not, timeouts included. */
  failed: number;
  /** Attempts that took longer than they may. */
  timeouts: number;
  /** Commands that were ended by force, with all that they had started. */
  killed: number;
  /** Bytes of answers and outputs that were read and not looked at. */
  discarded_bytes: number;
}

/**
 * Asks once. Resolves to undefined where all is well, else to the reason for a person, in a few words. Ends soon once
 * `signal` is aborted, which is at the timeout at the latest, and leaves nothing behind then; what it resolves to does
 * not matter any more.
 */
export type Attempt = (
  signal: AbortSignal,
  counters: ProbeCounters,
) => Promise<string | undefined>;

/** What a failed connection means, in the kernel's words where it has any. */
export function connectionError(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/ \(os error [0-9]+\)$/, "").slice(0, 200);
}
