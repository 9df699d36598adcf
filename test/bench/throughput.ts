/**
 * What t2cp costs a download: with the primary's link at 1 Gbit/s, the throughput without t2cp, with it, and after a
 * takeover, in turn in one run. Needs root and the lab's packages.
 *
 *     deno task bench:throughput [ROUNDS]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { median } from "../../lib/lab/measure.ts";

const LINK = "1gbit";
/**
 * The clients' link in MB/s for the figures after a takeover: one that two cores fill, since above
 * it the processors decide, and two runs of the same thing differ by a tenth and more.
 */
const RATE = "60";
const SIZE = "250M";
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));

interface Result {
  ok: boolean;
  throughput: number;
  throughput_after?: number | null;
}

/** Runs one download in a lab of its own. */
async function download(...args: string[]): Promise<Result> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", main, "lab", "run", "--json", "--workload", "download"],
      ...["--size", SIZE, ...args],
    ],
    stderr: "inherit",
  }).output();
  const last = new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1) ?? "";
  const result: Result = JSON.parse(last);
  if (!result.ok) throw new Error(`The download failed: ${last}`);
  return result;
}

const rounds = Number(Deno.args[0] ?? 5);
const figures = { plain: [], protected: [], direct: [], after: [] } as Record<string, number[]>;
for (let round = 1; round <= rounds; round++) {
  console.error(`round ${round} of ${rounds}`);
  const link = ["--rate", "0", "--link", LINK, "--failure", "none"];
  const client = ["--rate", RATE];
  const tasks = [
    async () => figures["plain"]!.push((await download("--plain", ...link)).throughput),
    async () => figures["protected"]!.push((await download(...link)).throughput),
    async () => figures["direct"]!.push((await download("--plain", ...client)).throughput),
    async () => {
      const failed = await download("--failure", "host", "--after", "10%", ...client);
      figures["after"]!.push(failed.throughput_after!);
    },
  ];
  // Every other round the other way round, so that no figure profits from its place.
  for (const task of round % 2 === 0 ? tasks.toReversed() : tasks) await task();
}

const megabytes = (name: string): string => (median(figures[name]!)! / 1e6).toFixed(2);
const ratio = (a: string, b: string): string =>
  (median(figures[a]!.map((value, i) => value / figures[b]![i]!))!).toFixed(4);
console.log(`download over ${LINK}, MB/s, medians of ${rounds}
without t2cp              ${megabytes("plain")}
with t2cp                 ${megabytes("protected")}    ratio ${ratio("protected", "plain")}
clients' link at ${RATE} MB/s, MB/s, medians of ${rounds}
served by one host        ${megabytes("direct")}
by the backup, after takeover ${megabytes("after")}    ratio ${ratio("after", "direct")}`);
