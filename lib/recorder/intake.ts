/**
 * Takes frames out of a live capture as they come.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Capture, FrameReceiver } from "../../ffi/capture.ts";
import { Doze } from "../../ffi/doze.ts";
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
/** Longest time without a turn of the event loop, in milliseconds. */
const TURN = 250;
/** Frames that are taken before the sockets get their turn. */
const BATCH = 8192;

/** Takes what the kernel has ready, about `limit` frames at most. */
export function drain(capture: Capture, receive: FrameReceiver, limit: number): void {
  for (let left = limit; left > 0; left -= BATCH) {
    if (capture.drain(receive, BATCH) < BATCH) return;
  }
}

/** When {@linkcode pump} rests in which way. */
export interface Rests {
  /** Whether somebody waits for frames: the rests are short then. */
  hurried(): boolean;
  /** Whether no timer and no promise waits for the event loop, so that only descriptors have to wake it. */
  idle(): boolean;
}

/**
 * Takes all frames until `stop` is aborted; calls `each` after each batch, and three times a second at least.
 */
export async function pump(
  capture: Capture,
  receive: FrameReceiver,
  each: () => void,
  rests: Rests,
  stop: AbortSignal,
): Promise<void> {
  const poller = new Poller([capture.fd]);
  const wake = (): void => poller.wake();
  const doze = new Doze();
  const longest = Math.min(MAX_REST, capture.patience * MUCH);
  let rest = MIN_REST;
  let filled = 0;
  /** When the event loop has to get a turn. */
  let turn = 0;
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
        rest = filled > MUCH ? MIN_REST : filled > MUCH / 2 ? rest : rest * 2;
        const hurried = rests.hurried();
        rest = hurried ? MIN_REST : Math.min(rest, longest);
        filled = 0;
        const now = performance.now();
        if (hurried || now > turn || !rests.idle() || !doze.sleep(rest)) {
          // While frames keep coming a timer is enough; waiting for the descriptor takes a thread.
          await new Promise((resolve) => setTimeout(resolve, rest));
          // Timers come first in a turn: what came with this one must be seen to before the next doze.
          await new Promise((resolve) => setImmediate(resolve));
          turn = now + TURN;
        }
      }
    }
  } finally {
    stop.removeEventListener("abort", wake);
    await poller.close();
  }
}
