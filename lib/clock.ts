/**
 * Wall-clock time in microseconds and its text form, and waiting.
 *
 * @module
 */

/**
 * Microseconds since the Unix epoch. Reads the system's wall clock at each call, so that the times
 * of several processes on one host compare and steps of the clock are followed.
 */
export function nowMicros(): number {
  return Number(Temporal.Now.instant().epochNanoseconds / 1000n);
}

/** The second that was formatted last, for many times come in the same one. */
let lastSecond = NaN;
let lastText = "";

/**
 * Formats `micros`, microseconds since the Unix epoch, as RFC 3339 in UTC with six digits of
 * fraction: `2026-01-31T12:00:00.000250Z`. A fraction of a microsecond is cut off.
 *
 * @throws {RangeError} outside the years 0000 to 9999, which RFC 3339 cannot express
 */
export function formatTime(micros: number): string {
  const whole = Math.floor(micros);
  const second = Math.floor(whole / 1e6);
  if (second !== lastSecond) {
    const text = new Date(second * 1000).toISOString();
    if (text.length !== 24) {
      throw new RangeError(`Time ${micros} is outside the years 0000 to 9999`);
    }
    lastSecond = second;
    lastText = text.slice(0, 20);
  }
  return `${lastText}${String(whole - second * 1e6).padStart(6, "0")}Z`;
}

/** Waits for the end of `work`, and not longer than `millis` milliseconds. */
export async function within(work: Promise<unknown>, millis: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, millis);
  await Promise.race([work, late.promise]);
  clearTimeout(timer);
}

/** Waits for `millis` milliseconds, or until `stop` is aborted. */
export function pause(millis: number, stop?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, stop?.aborted ? 0 : millis);
    stop?.addEventListener("abort", done);
  });
}
