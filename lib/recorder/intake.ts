/**
 * Takes frames out of a live capture as they come.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Capture, FrameReceiver } from "../../ffi/capture.ts";
import { Poller } from "../../ffi/poller.ts";

/** Longest wait for frames, in microseconds; a stop waits no longer. */
const WAIT = 250_000;
/**
 * Rest after frames came, in milliseconds: a flood then costs few wake-ups, and a request does not wait for it. It
 * begins short, and grows as long as little of the ring is filled meanwhile.
 */
const MIN_REST = 4;
const MAX_REST = 32;
/** So much of the ring is much; and as long as the kernel takes to begin so many blocks, a rest may be. */
const MUCH = 1 / 8;
/** Frames that are taken before the sockets get their turn. */
const BATCH = 8192;

/** Takes what the kernel has ready, about `limit` frames at most. */
export function drain(capture: Capture, receive: FrameReceiver, limit: number): void {
  for (let left = limit; left > 0; left -= BATCH) {
    if (capture.drain(receive, BATCH) < BATCH) return;
  }
}

/**
 * Takes all frames until `stop` is aborted; calls `each` after each batch, and three times a second at least. While
 * `hurried` says that somebody waits for frames, the rests are short.
 */
export async function pump(
  capture: Capture,
  receive: FrameReceiver,
  each: () => void,
  hurried: () => boolean,
  stop: AbortSignal,
): Promise<void> {
  const poller = new Poller([capture.fd]);
  const wake = (): void => poller.wake();
  const longest = Math.min(MAX_REST, capture.patience * MUCH);
  let rest = MIN_REST;
  let filled = 0;
  stop.addEventListener("abort", wake);
  try {
    while (!stop.aborted) {
      const before = capture.position;
      const frames = capture.drain(receive, BATCH);
      filled += capture.position - before;
      each();
      if (frames === BATCH) {
        await new Promise((resolve) => setImmediate(resolve));
      } else if (frames === 0) {
        rest = MIN_REST;
        await poller.wait(WAIT);
      } else {
        // While frames keep coming a timer is enough; waiting for the descriptor takes a thread.
        rest = filled > MUCH ? MIN_REST : filled > MUCH / 2 ? rest : rest * 2;
        rest = hurried() ? MIN_REST : Math.min(rest, longest);
        filled = 0;
        await new Promise((resolve) => setTimeout(resolve, rest));
      }
    }
  } finally {
    stop.removeEventListener("abort", wake);
    await poller.close();
  }
}
