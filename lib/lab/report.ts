/**
 * A run's story for a person at a terminal.
 *
 * @module
 */

import { styleText } from "node:util";
import { FAULT_LABELS } from "./fault.ts";
import { CONNECTION_RATE, isConversation, messageRate } from "./pace.ts";
import type { Moment } from "./picture.ts";
import { formatBytes, formatMillis } from "./quantity.ts";
import type { Result } from "./result.ts";
import type { FailureName, Measures, Scenario, Trace } from "./scenario.ts";

/** Colours text, or leaves it as it is. */
export type Paint = (style: "bold" | "dim" | "red" | "green" | "yellow", text: string) => string;

/** Colours where `colour` is true. */
export function painter(colour: boolean): Paint {
  return (style, text) => colour ? styleText(style, text, { validateStream: false }) : text;
}

/** The moments of a run that had a failure, in order of time; else none. */
export function moments(trace: Trace, failure: FailureName): Moment[] {
  const { cut, failed, active, address, firstByte } = trace;
  const all: (Omit<Moment, "time"> & { time: number | undefined })[] = [
    { label: failure === "none" ? "" : FAULT_LABELS[failure], time: cut, look: "cut" },
    { label: "failure detected", time: failed, look: "detected" },
    { label: "connections taken over", time: active, look: "active" },
    { label: "address taken", time: address, look: "address" },
    { label: "first new byte at the client", time: firstByte, look: "first" },
  ];
  return all.filter((moment): moment is Moment => moment.time !== undefined)
    .sort((a, b) => a.time - b.time);
}

/** What the client does with the bytes that are counted. */
export function verbOf({ workload }: Pick<Scenario, "workload">): string {
  return workload === "upload" ? "sent" : "received";
}

const ENDS: Readonly<Record<FailureName, string>> = {
  host: "; the primary is cut off",
  process: "; the primary's server is killed",
  hang: "; the primary's server hangs",
  planned: "; the backup takes over from the living primary",
  none: "; nothing fails",
};

/** What is run, in one line. */
export function describeScenario(scenario: Scenario): string {
  const { family, workload, size, failure, plain, tapLoss, blackout } = scenario;
  const amount = workload === "connections"
    ? `${scenario.flows} connections, ${formatBytes(size)} in all,`
    : `${workload} of ${formatBytes(size)}`;
  const what = `${amount} ${describePace(scenario)}${family === 6 ? " over IPv6" : ""}`;
  if (plain) return `${what}, without t2cp`;
  const lossy = tapLoss > 0
    ? `; ${Number((tapLoss * 100).toFixed(4))} % of the copies get lost`
    : "";
  const dark = blackout > 0 ? `; all copies get lost for ${blackout} ms before the failure` : "";
  const end = ENDS[failure];
  const commit = scenario.commit ? ", with output commit" : "";
  const freeze = scenario.freeze ? ", frozen until the takeover" : "";
  const fence = scenario.fence ? ", fenced" : "";
  return `${what}${commit}${freeze}${fence}${lossy}${dark}${end}`;
}

function describePace({ workload, flows, rate }: Scenario): string {
  if (workload === "connections") return `${CONNECTION_RATE} a second`;
  if (!isConversation(workload)) return `at ${rate > 0 ? `${formatBytes(rate)}/s` : "full speed"}`;
  const pace = `${messageRate(flows)} messages a second`;
  return flows === 1 ? `at ${pace}` : `in ${flows} flows, ${pace} on each`;
}

/** The timeline and the measurements of one run, as lines. */
export function reportRun(
  scenario: Scenario,
  measures: Measures,
  trace: Trace,
  paint: Paint,
): string[] {
  const start = trace.progress.first;
  const seconds = (time: number) => `${((time - start!) / 1e6).toFixed(3)} s`.padStart(12);
  const lines: string[] = [];
  if (start !== undefined) {
    lines.push(`${seconds(start)}  first byte`);
    const [cut, ...rest] = moments(trace, scenario.failure);
    if (cut !== undefined) {
      const share = trace.progress.bytesBefore(cut.time) / scenario.size;
      const label = `${cut.label}, ${Math.round(share * 100)} % ${verbOf(scenario)}`;
      lines.push(`${seconds(cut.time)}  ${paint("red", label)}`);
      for (const { label, time } of rest) {
        lines.push(`${`+ ${formatMillis((time - cut.time) / 1000)}`.padStart(12)}  ${label}`);
      }
    }
    lines.push(`${seconds(trace.progress.last!)}  last byte, ${formatBytes(measures.bytes)}`);
  }
  lines.push("", ...reportMeasures(measures, paint));
  return lines;
}

function reportMeasures(measures: Measures, paint: Paint): string[] {
  const rows: [string, string][] = [
    ["content", measures.sha256_equal ? "equal (SHA-256)" : paint("red", "differs")],
    ["longest silence at the client", formatMillis(measures.stall_ms)],
  ];
  if (measures.failure !== "none") {
    rows.push(
      ["  at the failure", formatMillis(measures.pause_ms)],
      ["failure to detection", formatMillis(measures.detect_ms)],
      ["takeover to first new byte", formatMillis(measures.takeover_ms)],
    );
    const spread = measures.takeover_flows_ms;
    if (spread !== undefined) {
      rows.push([`  of ${spread.flows} flows, the first`, formatMillis(spread.first)]);
      rows.push(["  the median", formatMillis(spread.p50)]);
      rows.push(["  the last", formatMillis(spread.last)]);
    }
  }
  if (measures.early_ends !== undefined) {
    rows.push(["FIN and RST too early", String(measures.early_ends)]);
  }
  if (typeof measures.failures === "number") {
    rows.push(["connections that failed", `${measures.failures} of ${measures.flows}`]);
  }
  if (["download", "upload"].includes(measures.workload)) {
    const speed = (value: number | null) => value === null ? "–" : `${formatBytes(value)}/s`;
    rows.push(["throughput", speed(measures.throughput)]);
    if (measures.failure !== "none") {
      rows.push(["  before the failure", speed(measures.throughput_before)]);
      rows.push(["  after the takeover", speed(measures.throughput_after)]);
    }
  }
  rows.push(...healingRows(measures));
  const lines = rows.map(([name, value]) => `  ${name.padEnd(30)}  ${value}`);
  lines.push(`  ${verdict(measures, paint)}`);
  return lines;
}

function healingRows({ healing }: Measures): [string, string][] {
  if (healing === undefined) return [];
  const { dropped, gaps, healed, healed_bytes, lost_bytes, took_ms, took_ms_max } = healing;
  return [
    ["copies lost", `${dropped}, in ${gaps} gaps`],
    ["gaps healed", `${healed}, ${formatBytes(healed_bytes)}`],
    ["  gap to acknowledgement", `${formatMillis(took_ms)}, at most ${formatMillis(took_ms_max)}`],
    ...(lost_bytes > 0 ? [["  lost for good", formatBytes(lost_bytes)] as [string, string]] : []),
  ];
}

function verdict({ ok, problem, failure }: Measures, paint: Paint): string {
  if (!ok) return paint("red", `not ok: ${problem ?? "see above"}`);
  return paint("green", failure === "none" ? "ok" : "ok: the client noticed nothing but a pause");
}

/** The summary of several runs, as lines. */
export function reportResult(result: Result, paint: Paint): string[] {
  const row = (name: string, middle: number | null, worst: number | null) =>
    `  ${name.padEnd(30)}  ${formatMillis(middle).padStart(10)}  ${
      formatMillis(worst).padStart(10)
    }`;
  return [
    paint("bold", `${result.runs} runs`) +
    paint("dim", `${"median".padStart(34)}${"worst".padStart(12)}`),
    row("longest silence at the client", result.stall_ms, result.stall_ms_max),
    row("  at the failure", result.pause_ms, result.pause_ms_max),
    row("failure to detection", result.detect_ms, result.detect_ms_max),
    row("takeover to first new byte", result.takeover_ms, result.takeover_ms_max),
    ...(result.healing === undefined ? [] : [
      row("gap to acknowledgement", result.healing.took_ms, result.healing.took_ms_max),
    ]),
    `  ${verdict(result, paint)}`,
  ];
}
