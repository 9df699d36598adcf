/**
 * False failures while every processor is kept busy by other work: watcher and responder on two hosts, 50 ms x 3 and
 * 10 ms x 5 at the same time, with a probe by HTTP and one that starts processes in the watcher of each. Needs root.
 *
 *     deno task bench:detection-soak [MINUTES]
 *
 * @module
 */
import { TwoHosts } from "../netns/two_hosts.ts";

const minutes = Number(Deno.args[0] ?? 30);
const TIMERS = [["50", "3"], ["10", "5"]] as const;

/** Ordinary work: counts without end. */
const BUSY = "while :; do :; done";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Clock ticks of all processors since the start: all, idle ones, and those that the hypervisor gave to others. */
function ticks(): { all: number; idle: number; stolen: number } {
  const [first = ""] = Deno.readTextFileSync("/proc/stat").split("\n", 1);
  const fields = first.trim().split(/\s+/).slice(1, 9).map(Number);
  const all = fields.reduce((sum, field) => sum + field, 0);
  return { all, idle: fields[3] ?? 0, stolen: fields[7] ?? 0 };
}

/** Watches one link with these timers for the whole time, and prints what it saw. */
async function soak(hosts: TwoHosts, interval: string, multiplier: string): Promise<boolean> {
  const timers = ["--interval", interval, "--multiplier", multiplier];
  await hosts.start("b", "detect", "--respond", ...timers).next("started");
  const probes = ["--probe", "exec:true", "--probe", "icmp:10.99.0.2"];
  const detector = hosts.start("a", "detect", "--peer", "10.99.0.2", ...timers, ...probes);
  await detector.next("up");
  await sleep(minutes * 60_000);
  const count = (type: string): number =>
    detector.events.filter((event) => event.type === type).length;
  for (const event of detector.events.filter(({ type }) => type === "failed")) {
    console.error(JSON.stringify(event));
  }
  const late = detector.events.filter(({ type }) => type === "suspect").length;
  console.log(
    `${interval} ms x ${multiplier}: ${count("failed")} false failures, ${late} suspects, ` +
      `${count("warning")} warnings in ${minutes} minutes`,
  );
  return count("failed") === 0;
}

const workers = Array.from(
  { length: navigator.hardwareConcurrency },
  () => new Deno.Command("sh", { args: ["-c", BUSY] }).spawn(),
);
const before = ticks();
try {
  const results = await Promise.all(TIMERS.map(async ([interval, multiplier]) => {
    let good = false;
    await TwoHosts.with(async (hosts) => {
      good = await soak(hosts, interval, multiplier);
    });
    return good;
  }));
  const after = ticks();
  const share = (what: "idle" | "stolen"): string =>
    (100 * (after[what] - before[what]) / (after.all - before.all)).toFixed(1);
  console.log(`processors: ${share("idle")} % idle, ${share("stolen")} % stolen`);
  if (!results.every((good) => good)) Deno.exitCode = 1;
} finally {
  for (const worker of workers) {
    worker.kill("SIGKILL");
    await worker.status;
  }
}
