/**
 * Work that is done again and again.
 *
 * @module
 */

/** It may take this part of the time at most. */
const SHARE = 0.05;

/** Calls `work` about every `pause` milliseconds, less often where it takes long, until the result is disposed of. */
export function repeat(work: () => void, pause: number): Disposable {
  let timer: ReturnType<typeof setTimeout>;
  const turn = (): void => {
    const start = performance.now();
    work();
    timer = setTimeout(turn, Math.max(pause, (performance.now() - start) / SHARE));
  };
  timer = setTimeout(turn, pause);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}
