/**
 * Switches over from a primary that lives, in the middle of every workload: whether the content is right, how many FIN
 * and RST the clients got, and how long they were silent. Exits with 1 where a run was not ok, or the median of the pauses
 * is over the bound. Needs root and the lab's packages.
 *
 *     deno task bench:planned [RUNS]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { maximum, median } from "../../lib/lab/measure.ts";
import type { Measures } from "../../lib/lab/scenario.ts";

/** The longest median of the pauses, in milliseconds. */
const BOUND = 10;

const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const runs = Deno.args[0] ?? "50";
const CASES = [["download", "4"], ["upload", "4"], ["echo", "4"], ["download", "6"]] as const;

const done: Measures[] = [];
const load = Deno.loadavg().map((value) => value.toFixed(2)).join(" ");
console.log(`${runs} runs over ${CASES.length} cases, milliseconds; load ${load}`);
for (let i = 0; i < Number(runs); i++) {
  const [workload, family] = CASES[i % CASES.length]!;
  const scenario = ["--failure", "planned", "--workload", workload, "--family", family];
  const args = ["run", "-A", main, "lab", "run", "--json", ...scenario];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  const events = new TextDecoder().decode(stdout).trimEnd().split("\n");
  const result: Measures = JSON.parse(events.at(-1)!);
  done.push(result);
  const { ok, pause_ms, stall_ms, early_ends, took_ms, problem = "" } = result;
  const figures = `pause ${pause_ms}, stall ${stall_ms}, took ${took_ms}, FIN/RST ${early_ends}`;
  console.log(`${workload} IPv${family}: ${ok ? "ok" : "NOT OK"}, ${figures} ${problem}`);
}
const ok = done.filter((run) => run.ok).length;
const pauses = done.flatMap(({ pause_ms }) => pause_ms ?? []);
const middle = median(pauses);
console.log(`${ok} of ${done.length} ok; pause: median ${middle}, max ${maximum(pauses)}`);
Deno.exit(ok === done.length && middle !== null && middle <= BOUND ? 0 : 1);
