/**
 * Kills (SIGKILL) and stops (SIGSTOP) every server of the lab in the middle of every workload: how long the clients'
 * silence was, whether the content is right, and how many FIN and RST the clients got too early. Exits with 1 where a run
 * was not ok, or the pause at the failure of a killed server is over the bound. Needs root and the lab's packages.
 *
 *     deno task bench:faults [RUNS] [WORD …]
 *
 * A word chooses: a failure, a server, a workload, or IPv4 or IPv6; without, all are run, over IPv4.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { maximum, median } from "../../lib/lab/measure.ts";
import type { Measures } from "../../lib/lab/scenario.ts";

/** The longest pause of a killed server's client, in milliseconds. */
const BOUND = 20;

const SIZES: Readonly<Record<string, string>> = { download: "40M", upload: "40M", echo: "25600" };
const WEB = ["nginx", "python", "threaded"] as const;
const SERVERS: Readonly<Record<string, readonly string[]>> = {
  download: WEB,
  upload: WEB,
  echo: ["socat", "python", "threaded"],
};
const FAILURES = ["process", "hang"] as const;
const FAMILIES = ["IPv4", "IPv6"] as const;

const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const [first, ...rest] = Deno.args;
const runs = first !== undefined && /^[0-9]+$/.test(first) ? first : "5";
const words = runs === first ? rest : Deno.args;
const known = [...FAILURES, ...FAMILIES, ...Object.keys(SIZES), ...Object.values(SERVERS).flat()];
const unknown = words.find((word) => !known.includes(word));
if (unknown !== undefined) {
  console.error(`"${unknown}" is none of ${[...new Set(known)].join(", ")}`);
  Deno.exit(64);
}

/** What was chosen of `all`: where no word is among them, `usual`. */
function chosen<T extends string>(all: readonly T[], usual: readonly T[] = all): readonly T[] {
  return all.some((one) => words.includes(one)) ? all.filter((one) => words.includes(one)) : usual;
}

/** Runs one scenario as often as wanted, each time in a lab of its own. */
async function measure(args: readonly string[]): Promise<Measures[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", main, "lab", "run", "--json", "--runs", runs, ...args],
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout).trimEnd().split("\n").map((line) => JSON.parse(line))
    .filter(({ type }) => type === "lab.run");
}

/** Median and maximum of what the runs have, as text. */
function figures(values: readonly (number | null)[]): string[] {
  return [median(values), maximum(values)].map((value) => value === null ? "-" : value.toFixed(2));
}

const widths = [8, 9, 9, 3, 8, 8, 9, 11, 8, 8, 8, 8, 8];
function row(cells: readonly string[]): void {
  console.log(cells.map((cell, i) => cell.padStart(widths[i]!)).join(" "));
}

const load = Deno.loadavg().map((value) => value.toFixed(2)).join(" ");
console.log(`${runs} runs each, milliseconds, medians and maxima; load ${load}`);
row([
  ...["failure", "server", "workload", "IP", "correct", "FIN/RST"],
  ...["detected", "first byte", "max", "pause", "max", "stall", "max"],
]);
const allServers = [...new Set(Object.values(SERVERS).flat())];
const problems: string[] = [];
for (const failure of chosen(FAILURES)) {
  for (const workload of chosen(Object.keys(SIZES))) {
    for (const server of SERVERS[workload]!.filter((one) => chosen(allServers).includes(one))) {
      for (const family of chosen(FAMILIES, ["IPv4"])) {
        const done = await measure([
          ...["--failure", failure, "--server", server, "--workload", workload],
          ...["--family", family.slice(-1), "--size", SIZES[workload]!],
        ]);
        const correct = done.filter((run) => run.ok).length;
        const ends = done.reduce((sum, run) => sum + (run.early_ends ?? 0), 0);
        const pauses = done.map((run) => run.pause_ms);
        row([
          ...[failure, server, workload, family.slice(-1), `${correct}/${runs}`, String(ends)],
          figures(done.map((run) => run.detect_ms))[0]!,
          ...figures(done.map((run) => run.takeover_ms)),
          ...figures(pauses),
          ...figures(done.map((run) => run.stall_ms)),
        ]);
        const what = `${failure}, ${server}, ${workload}, ${family}`;
        const said = done.flatMap(({ problem }) => problem ?? []);
        if (correct < Number(runs)) problems.push(`${what}: ${correct} of ${runs} ok ${said[0]}`);
        const late = pauses.filter((pause) => pause === null || pause > BOUND).length;
        if (failure === "process" && late > 0) {
          problems.push(`${what}: ${late} pauses over ${BOUND} ms`);
        }
      }
    }
  }
}
for (const problem of problems) console.error(problem);
Deno.exit(problems.length === 0 ? 0 : 1);
