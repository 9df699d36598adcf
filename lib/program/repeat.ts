/**
 * Work that is done again and again.
 *
 * @module
 */
import { threadMicros } from "../../ffi/clock.ts";

/** It may take this part of a processor at most. */
const SHARE = 0.05;

/**
 * Calls `work` about every `pause` milliseconds, less often where it takes long by `clock`, until the result is disposed
 * of. The clock is in microseconds and counts the thread's own time: a turn that had to wait for a processor is not
 * followed by a long rest.
 */
export function repeat(work: () => void, pause: number, clock = threadMicros): Disposable {
  let timer: ReturnType<typeof setTimeout>;
  const turn = (): void => {
    const start = clock();
    work();
    timer = setTimeout(turn, Math.max(pause, (clock() - start) / 1000 / SHARE));
  };
  timer = setTimeout(turn, pause);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}
