/**
 * What the events say on healing in a run.
 *
 * @module
 */

import { type Event, isEvent } from "../event.ts";
import { maximum, median } from "./measure.ts";
import type { HealingMeasures } from "./scenario.ts";
import type { TapDrops } from "./tap_loss.ts";

/** Sums up the healing; `dropped` is what the tap lost by the lab's own doing. */
export function healingMeasures(
  events: readonly Event[],
  dropped: TapDrops | undefined,
): HealingMeasures {
  const healed = events.filter((event) => isEvent(event, "healed"));
  const took = healed.map((event) => event.took_ms);
  const last = events.findLast((event) => isEvent(event, "stats") && event.by === "replay");
  const lost = last?.["lost_bytes"];
  return {
    dropped: dropped?.packets ?? 0,
    gaps: events.filter((event) => isEvent(event, "gap")).length,
    healed: healed.length,
    healed_bytes: healed.reduce((sum, event) => sum + event.bytes, 0),
    lost_bytes: typeof lost === "number" ? lost : 0,
    took_ms: median(took),
    took_ms_max: maximum(took),
  };
}
