/**
 * Parsing and reassembly of a capture of mixed flows against tcpdump, which reads the same file to nowhere: processor
 * time, and the memory of a small and of the whole file. Needs tcpdump and python3.
 *
 *     deno task bench:replay-read [MEGABYTES [ROUNDS]]
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../../lib/lab/measure.ts";
import { OPEN_FLOWS, writeTraffic } from "./mixed_traffic.ts";

/** The goal of the ratio of user times. */
const GOAL = 1.5;
/** Which part of the whole file the small one is. */
const SMALL = 8;
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));

const [megabytes = 1000, rounds = 3] = Deno.args.map(Number);
const directory = Deno.makeTempDirSync({ prefix: "t2cp-bench-" });
try {
  await measure();
} finally {
  Deno.removeSync(directory, { recursive: true });
}

async function measure(): Promise<void> {
  const path = join(directory, "capture.pcap");
  const small = join(directory, "small.pcap");
  writeTraffic(small, megabytes * 1e6 / SMALL, () => {});
  const { frames, flows } = writeTraffic(path, megabytes * 1e6, (written) => {
    tell(`making the file: ${(written / 1e6).toFixed(0)} of ${megabytes} MB`);
  });
  const analyse = (file: string): Promise<Cost> =>
    cost(Deno.execPath(), "run", "-A", "--quiet", main, "replay", file, "--analyse");
  const ours: Cost[] = [];
  const theirs: Cost[] = [];
  for (let round = 0; round < rounds; round++) {
    tell(`round ${round + 1} of ${rounds}`);
    ours.push(await analyse(path));
    theirs.push(await cost("tcpdump", "-r", path, "-w", "/dev/null"));
  }
  const { rss } = await analyse(small);
  tell("");
  const of = (costs: Cost[], name: keyof Cost): number => median(costs.map((c) => c[name]))!;
  const [user, system] = [of(ours, "user"), of(ours, "system")];
  const [theirUser, theirSystem] = [of(theirs, "user"), of(theirs, "system")];
  const line = (what: string, t2cp: number, tcpdump: number): string =>
    `${what}: t2cp ${t2cp.toFixed(0)} ms, tcpdump ${tcpdump.toFixed(0)} ms, ` +
    `ratio ${(t2cp / tcpdump).toFixed(2)}`;
  console.log(
    `${megabytes} MB, ${frames} frames, ${flows} flows, ${OPEN_FLOWS} of them open at once; ` +
      `medians of ${rounds} rounds`,
  );
  const isMet = user <= GOAL * theirUser ? "met" : "missed";
  console.log(`${line("user time", user, theirUser)} (goal ${GOAL}: ${isMet})`);
  console.log(line("user and system time", user + system, theirUser + theirSystem));
  console.log(
    `resident memory of t2cp at most: ${mib(of(ours, "rss"))}; of an ${SMALL}th of the file: ` +
      mib(rss),
  );
}

/** What a program took: user and system time in milliseconds, and the most of its resident memory in bytes. */
interface Cost {
  user: number;
  system: number;
  rss: number;
}

async function cost(...argv: string[]): Promise<Cost> {
  const script = "import resource as r, subprocess as s, sys\n" +
    "status = s.run(sys.argv[1:], stdout=s.DEVNULL, stderr=s.DEVNULL).returncode\n" +
    "u = r.getrusage(r.RUSAGE_CHILDREN)\n" +
    "print(status, u.ru_utime * 1000, u.ru_stime * 1000, u.ru_maxrss * 1024)";
  const child = new Deno.Command("python3", { args: ["-c", script, ...argv] });
  const { stdout, success } = await child.output();
  const [status, user, system, rss] = new TextDecoder().decode(stdout).trim().split(" ").map(
    Number,
  );
  if (!success || status !== 0) throw new Error(`${argv.join(" ")}: status ${status}`);
  return { user: user!, system: system!, rss: rss! };
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** Shows how far it is, where somebody looks. */
function tell(text: string): void {
  if (!Deno.stderr.isTerminal()) return;
  Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${text}`));
}
