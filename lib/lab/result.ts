/**
 * Sums up the runs of a scenario.
 *
 * @module
 */

import { maximum, median } from "./measure.ts";
import type { HealingMeasures, Measures, TakeoverSpread } from "./scenario.ts";

/** The measurements of a whole scenario: medians, and the worst of each duration. */
export interface Result extends Measures {
  /** How many runs there were. */
  runs: number;
  /** The longest stall. */
  stall_ms_max: number | null;
  /** The longest pause. */
  pause_ms_max: number | null;
  /** The slowest detection. */
  detect_ms_max: number | null;
  /** The slowest takeover. */
  takeover_ms_max: number | null;
}

/**
 * The result of `runs`; `expected` is how many there were to be. Fewer are not ok; of none, all
 * measurements are null.
 */
export function sumUp(
  runs: readonly Measures[],
  scenario: Pick<Measures, "workload" | "server" | "failure" | "family" | "flows">,
  expected: number,
): Result {
  type Duration = "stall_ms" | "pause_ms" | "detect_ms" | "takeover_ms" | "took_ms";
  type Speed = "throughput" | "throughput_before" | "throughput_after";
  const all = (field: Duration | Speed) => runs.map((run) => run[field]);
  const rounded = (value: number | null, digits: number) =>
    value === null ? null : Number(value.toFixed(digits));
  const millis = (field: Duration) => rounded(median(all(field)), 3);
  const speed = (field: Speed) => rounded(median(all(field)), 0);
  const spreads = runs.flatMap(({ takeover_flows_ms: spread }) => spread ?? []);
  const healings = runs.flatMap(({ healing }) => healing ?? []);
  const failures = runs.flatMap(({ failures }) => typeof failures === "number" ? failures : []);
  const ends = runs.flatMap(({ early_ends }) => early_ends ?? []);
  const problems = new Set(runs.flatMap(({ problem }) => problem ?? []));
  const bytes = median(runs.map((run) => run.bytes)) ?? 0;
  return {
    ok: runs.length === expected && runs.every((run) => run.ok),
    workload: scenario.workload,
    server: scenario.server,
    failure: scenario.failure,
    family: scenario.family,
    flows: scenario.flows,
    runs: runs.length,
    sha256_equal: runs.length > 0 && runs.every((run) => run.sha256_equal),
    stall_ms: millis("stall_ms"),
    /** The longest stall. */
    stall_ms_max: maximum(all("stall_ms")),
    pause_ms: millis("pause_ms"),
    pause_ms_max: maximum(all("pause_ms")),
    detect_ms: millis("detect_ms"),
    detect_ms_max: maximum(all("detect_ms")),
    takeover_ms: millis("takeover_ms"),
    takeover_ms_max: maximum(all("takeover_ms")),
    ...(spreads.length === 0 ? {} : { takeover_flows_ms: medianSpread(spreads) }),
    ...(failures.length === 0 ? {} : { failures: failures.reduce((sum, next) => sum + next) }),
    ...(ends.length === 0 ? {} : { early_ends: ends.reduce((sum, next) => sum + next) }),
    took_ms: millis("took_ms"),
    bytes: Math.round(bytes),
    throughput: speed("throughput"),
    throughput_before: speed("throughput_before"),
    throughput_after: speed("throughput_after"),
    ...(healings.length === 0 ? {} : { healing: sumUpHealings(healings) }),
    ...(problems.size === 0 ? {} : { problem: [...problems].join("; ") }),
  };
}

/** What was healed in all runs; the median of their medians, and the longest time of all. */
function sumUpHealings(healings: readonly HealingMeasures[]): HealingMeasures {
  type Sum = "dropped" | "gaps" | "healed" | "healed_bytes" | "lost_bytes";
  const sum = (field: Sum) => healings.reduce((total, healing) => total + healing[field], 0);
  const took = median(healings.map((healing) => healing.took_ms));
  return {
    dropped: sum("dropped"),
    gaps: sum("gaps"),
    healed: sum("healed"),
    healed_bytes: sum("healed_bytes"),
    lost_bytes: sum("lost_bytes"),
    took_ms: took === null ? null : Number(took.toFixed(3)),
    took_ms_max: maximum(healings.map((healing) => healing.took_ms_max)),
  };
}

/** The median of each figure. */
function medianSpread(spreads: readonly TakeoverSpread[]): TakeoverSpread {
  const of = (field: keyof TakeoverSpread, digits: number) => {
    const value = median(spreads.map((spread) => spread[field]));
    return value === null ? null : Number(value.toFixed(digits));
  };
  return {
    flows: of("flows", 0)!,
    first: of("first", 3),
    p50: of("p50", 3),
    p99: of("p99", 3),
    last: of("last", 3),
  };
}
