/**
 * After the takeover: until every flow is in step with its client, the programs still look after it; then they let go.
 *
 * @module
 */
import { after, FLOW_KEY } from "../flow/layout.ts";
import { readFlows } from "../shadow/programs.ts";
import type { Takeover } from "./takeover.ts";

/** When the flows are woken again, in milliseconds after the takeover: a wake-up may cross a segment. */
const WAKE_AGAIN: readonly number[] = [2, 10, 50, 200];
/** When the addresses are announced again, in milliseconds after the takeover: a broadcast may get lost. */
const ANNOUNCE_AGAIN: readonly number[] = [100, 500, 1000, 2000];
/** A flow that has not moved this long after the takeover is let go if it is in step, in milliseconds. */
const QUIET = 500;
/** A handshake may complete as long as this after the takeover, in milliseconds: three retransmissions of a SYN/ACK. */
const HALF_OPEN = 7000;
/** Then the programs let go of everything, in milliseconds after the takeover. */
const LAST = 30_000;

/**
 * Wakes and announces again, removes flows from the care of the programs as they come into step, and enters active
 * mode for good when none is left. Ends early when `stop` is aborted; the next start of `shadow` or `takeover` goes on.
 */
export async function settle(takeover: Takeover, stop: AbortSignal): Promise<void> {
  const start = performance.now();
  const wakes = [...WAKE_AGAIN];
  const announcements = [...ANNOUNCE_AGAIN];
  while (!stop.aborted) {
    const elapsed = performance.now() - start;
    if (wakes.length > 0 && elapsed >= wakes[0]!) {
      wakes.shift();
      takeover.wake();
    }
    if (announcements.length > 0 && elapsed >= announcements[0]!) {
      announcements.shift();
      takeover.announce();
    }
    if (elapsed >= QUIET) {
      const left = letGo(takeover, elapsed >= LAST) + halfOpen(takeover, elapsed);
      if (left === 0) {
        takeover.finish();
        if (announcements.length === 0) return;
      }
    }
    const next = Math.min(wakes[0] ?? Infinity, announcements[0] ?? Infinity, elapsed + 100);
    await pause(Math.max(1, next - elapsed), stop);
  }
}

/** Removes the flows that are in step, or all; returns how many are left. */
function letGo(takeover: Takeover, all: boolean): number {
  const map = takeover.map("flows");
  const batch = map.entries();
  let index = 0;
  let left = 0;
  for (const flow of readFlows(batch)) {
    const key = batch.keys.slice(index * FLOW_KEY.size, (index + 1) * FLOW_KEY.size);
    index += 1;
    if (all || flow.replica_reset !== 0 || !after(flow.client_ack, flow.replica_end)) {
      map.delete(key);
    } else {
      left += 1;
    }
  }
  return left;
}

/** How many handshakes may still complete. */
function halfOpen(takeover: Takeover, elapsed: number): number {
  if (elapsed >= HALF_OPEN) return 0;
  let count = 0;
  for (const flow of readFlows(takeover.map("handshakes").entries())) {
    if (flow.synack_seen !== 0) count += 1;
  }
  return count;
}

function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    stop.addEventListener("abort", done);
  });
}
