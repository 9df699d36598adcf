/**
 * After the takeover: until every flow is in step with its client, the programs still look after it; then they let go.
 *
 * @module
 */
import { pause } from "../clock.ts";
import { readFlows } from "../shadow/programs.ts";
import type { ResetFlow, Takeover } from "./takeover.ts";

/** When the flows are woken again, in milliseconds after the takeover: a wake-up may cross a segment. */
const WAKE_AGAIN: readonly number[] = [2, 10, 50, 200];
/** A flow that has not moved this long after the takeover is let go if it is in step, in milliseconds. */
const QUIET = 500;
/** A healer has this long to ask the recorder, and to give the replicas what they lack; in milliseconds. */
const SURVEY = 10_000;
/** A handshake may complete as long as this after the takeover, in milliseconds: three retransmissions of a SYN/ACK. */
const HALF_OPEN = 7000;
/** From then on it is looked less often, in milliseconds after the takeover. */
const LATE = 5000;

/**
 * Wakes again, removes flows from the care of the programs as they come into step, and enters active mode for good when
 * none is left and `placed` says that the addresses are on the interface: until then a second start sees that there is
 * something to finish. `onReset` is told of flows that could not be kept. Ends early when `stop` is aborted: the programs
 * then go on looking after the flows that are left. Returns whether none is.
 */
export async function settle(
  takeover: Takeover,
  onReset: (flows: readonly ResetFlow[]) => void,
  placed: () => boolean,
  stop: AbortSignal,
): Promise<boolean> {
  const start = performance.now();
  const wakes = [...WAKE_AGAIN];
  while (!stop.aborted) {
    const elapsed = performance.now() - start;
    if (wakes.length > 0 && elapsed >= wakes[0]!) {
      wakes.shift();
      onReset(takeover.wake().reset);
    }
    if (elapsed >= QUIET && !(elapsed < SURVEY && takeover.awaitsSurvey)) {
      const { left, reset } = takeover.letGo(start + elapsed);
      onReset(reset);
      if (left + halfOpen(takeover, elapsed) === 0 && placed()) {
        takeover.finish();
        return true;
      }
    }
    const next = Math.min(wakes[0] ?? Infinity, elapsed + (elapsed < LATE ? 100 : 1000));
    await pause(Math.max(1, next - elapsed), stop);
  }
  return false;
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
