/**
 * Every workload of the lab, over both IP versions, with a short, a usual and a long delay until the failure is
 * detected: how long each takeover took, and whether the content is right. Exits with 1 where a run was not ok, or a
 * single flow's median is over the bound. Needs root and the lab's packages.
 *
 *     deno task bench:workloads [--runs N] [--json] [WORKLOAD …]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "../../lib/lab/measure.ts";
import type { Measures } from "../../lib/lab/scenario.ts";

/** From the trigger to a single flow's first new byte, in milliseconds. */
const BOUND = 5;

/** A heartbeat's interval in milliseconds, and how many may be missing. */
const delays: readonly [interval: number, multiplier: number][] = [[10, 5], [100, 3], [500, 3]];

const workloads: Readonly<Record<string, readonly string[]>> = {
  "download": ["download"],
  "upload": ["upload"],
  "echo": ["echo"],
  "echo-300": ["echo", "--flows", "300"],
  "chat": ["chat"],
  "connections": ["connections", "--flows", "2000"],
};

const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const { values, positionals } = parseArgs({
  options: {
    runs: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
  allowPositionals: true,
});

/** Runs one scenario as often as wanted, each time in a lab of its own. */
async function measure(args: readonly string[]): Promise<Measures[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", main, "lab", "run", "--json", "--runs", values.runs],
      ...["--workload", ...args],
    ],
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout).trimEnd().split("\n").map((line) => JSON.parse(line))
    .filter(({ type }) => type === "lab.run");
}

/** The median of what some runs have, as text. */
function middle(runs: readonly Measures[], value: (run: Measures) => number | null): string {
  const found = median(runs.map(value).filter((one) => one !== null));
  return found === null ? "-" : found.toFixed(2);
}

const widths = [12, 4, 8, 6, 11, 11, 11, 11, 11];
function row(cells: readonly (string | number)[]): void {
  console.log(cells.map((cell, i) => String(cell).padStart(widths[i] ?? 0)).join(" "));
}

const load = (): string => Deno.loadavg().map((value) => value.toFixed(2)).join(" ");
const chosen = Object.entries(workloads).filter(([name]) =>
  positionals.length === 0 || positionals.includes(name)
);
const problems: string[] = [];
if (!values.json) {
  console.log(`medians of ${values.runs} runs in milliseconds; load ${load()}`);
  row([
    "workload",
    "IP",
    "delay",
    "ok",
    "detected",
    "first byte",
    "flows p50",
    "flows p99",
    "stall",
  ]);
}
for (const [name, args] of chosen) {
  for (const family of ["4", "6"]) {
    for (const [interval, multiplier] of delays) {
      const delay = ["--interval", String(interval), "--multiplier", String(multiplier)];
      const runs = await measure([...args, "--family", family, ...delay]);
      const ok = runs.filter((run) => run.ok).length;
      const first = middle(runs, (run) => run.takeover_ms);
      const what = `${name}, IPv${family}, ${interval * multiplier} ms`;
      if (ok < Number(values.runs)) {
        const said = runs.map(({ problem }) => problem).filter((problem) => problem !== undefined);
        problems.push(`${what}: ${ok} of ${values.runs} runs are ok: ${said.join("; ")}`);
      }
      const single = runs.every((run) => run.flows === 1);
      if (single && !(Number(first) <= BOUND)) {
        problems.push(`${what}: first byte after ${first} ms`);
      }
      if (values.json) {
        for (const run of runs) console.log(JSON.stringify({ ...run, interval, multiplier }));
        continue;
      }
      row([
        ...[name, family, interval * multiplier, `${ok}/${values.runs}`],
        ...[middle(runs, (run) => run.detect_ms), first],
        ...[middle(runs, (run) => run.takeover_flows_ms?.p50 ?? null)],
        ...[middle(runs, (run) => run.takeover_flows_ms?.p99 ?? null)],
        middle(runs, (run) => run.stall_ms),
      ]);
    }
  }
}
if (!values.json) console.log(`load ${load()}`);
for (const problem of problems) console.error(problem);
if (problems.length > 0) Deno.exitCode = 1;
