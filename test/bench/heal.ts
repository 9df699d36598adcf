/**
 * Healing in the lab: uploads whose copies get lost on their way to the backup. For each share of losses and each speed
 * the primary fails mid-transfer; then nothing fails, so that a stall would be the healing's; then every copy gets lost
 * for 50 ms before the failure, so that the primary fails while the replica lacks what it has acknowledged. Needs root
 * and the lab's packages.
 *
 *     deno task bench:heal [RUNS [SIZE]]
 *
 * @module
 */
import { parseEvent } from "../../lib/event.ts";
import type { Result } from "../../lib/lab/result.ts";
import { t2cp } from "../cli/t2cp.ts";

const runs = Deno.args[0] ?? "20";
const size = Deno.args[1] ?? "200M";
/** From the gap to the replica's acknowledgement, in milliseconds. */
const GOAL = 3;

let good = true;

async function measure(title: string, ...args: string[]): Promise<void> {
  const { stdout, stderr } = await t2cp(
    ...["lab", "run", "--json", "--workload", "upload", "--size", size, "--heal", ...args],
  );
  const event = parseEvent(stdout.trimEnd().split("\n").at(-1)!);
  if (typeof event === "string" || event.type !== "lab.result") throw new Error(stderr);
  const result = event as unknown as Result;
  const { ok, healing, stall_ms, stall_ms_max, problem } = result;
  good &&= ok;
  const all = stdout.split("\n").map(parseEvent);
  const whole =
    all.filter((event) =>
      typeof event === "object" && event.type === "lab.run" && event["ok"] === true
    ).length;
  const millis = (value: number | null | undefined): string =>
    (value?.toFixed(1) ?? "–").padStart(9);
  const { healed, healed_bytes, lost_bytes, took_ms, took_ms_max } = healing!;
  console.log(
    `${title.padEnd(52)}${`${whole}/${result.runs}`.padStart(7)}${String(healed).padStart(7)}` +
      `${(healed_bytes / 1e6).toFixed(1).padStart(9)}${String(lost_bytes).padStart(6)}` +
      `${millis(took_ms)}${millis(took_ms_max)}${millis(stall_ms)}${millis(stall_ms_max)}` +
      `${ok ? "" : `  ${problem}`}`,
  );
  if (took_ms !== null && took_ms > GOAL && !args.includes("--tap-blackout")) good = false;
}

console.log(
  `${"uploads of ".concat(size).padEnd(52)}${"ok".padStart(7)}${"healed".padStart(7)}` +
    `${"MB".padStart(9)}${"lost".padStart(6)}${"median".padStart(9)}${"most".padStart(9)}` +
    `${"silence".padStart(9)}${"most".padStart(9)}`,
);
for (const loss of ["0.1%", "1%", "5%"]) {
  for (const [rate, speed] of [["0", "full speed"], ["50", "50 MB/s"]] as const) {
    const title = `${loss} of the copies lost, ${speed}`;
    const args = ["--tap-loss", loss, "--rate", rate];
    await measure(`${title}, host failure`, ...args, "--runs", runs);
    await measure(`${title}, no failure`, ...args, "--failure", "none");
  }
}
for (const [rate, speed] of [["0", "full speed"], ["50", "50 MB/s"]] as const) {
  const args = ["--tap-blackout", "50", "--rate", rate, "--runs", runs];
  await measure(`all lost for 50 ms before it, ${speed}`, ...args);
}
const [load] = Deno.loadavg();
console.log(
  `from gap to acknowledgement, and silence at the client, in ms; goal ${GOAL}; load ${
    load!.toFixed(1)
  } on ${navigator.hardwareConcurrency} processors`,
);
if (!good) Deno.exit(1);
