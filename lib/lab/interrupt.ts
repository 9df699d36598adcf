/**
 * Ends of a wait that an abort cuts short.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";

/** What is thrown where a signal such as SIGINT ended the work. */
export class Interrupted extends Failure {
  /** `reason` is the abort's reason: the signal's name. */
  constructor(reason: unknown) {
    super(ExitStatus.TEMPORARY, `Interrupted by ${reason}`);
    this.name = "Interrupted";
  }
}

/**
 * Throws where `signal` is aborted.
 *
 * @throws {Interrupted}
 */
export function throwIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw new Interrupted(signal.reason);
}

/**
 * Waits for `work`, but not longer than until `signal` is aborted.
 *
 * @throws {Interrupted} where it is aborted first
 */
export async function orInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  throwIfInterrupted(signal);
  const aborted = Promise.withResolvers<never>();
  const listener = () => aborted.reject(new Interrupted(signal.reason));
  signal.addEventListener("abort", listener, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", listener);
  }
}
