/**
 * How long a link's cut takes to be detected, by `t2cp detect` and by FRR's bfdd with the same timers, side by side: two
 * links, each with a watcher and t2cp's responder, are cut at the same time, at a random moment of the interval.
 *
 * The time is that from the cut to the event, as a multiple of interval x multiplier. The Detection Time counts from the
 * last packet, which came up to an interval before the cut, so that an ideal detector needs less than 1; what t2cp says
 * itself, from the last packet to the event, is printed beside it. Where the hypervisor takes the processors away for
 * tens of milliseconds, short timers fail falsely: its share is printed too. Progress goes to stderr. Exits with 1 where
 * t2cp misses the goal. Needs root and the package frr.
 *
 *     deno task bench:detection [CUTS [INTERVALxMULTIPLIER]...]
 *
 * @module
 */
import { runOrdinary, runRealtime } from "../../ffi/scheduler.ts";
import { nowMicros } from "../../lib/clock.ts";
import type { Event } from "../../lib/event.ts";
import { quantile } from "../../lib/lab/measure.ts";
import { Bfdd, hasBfdd } from "../netns/bfdd.ts";
import { type Process, TwoHosts } from "../netns/two_hosts.ts";

const cuts = Number(Deno.args[0] ?? 200);
const timers = Deno.args.length > 1 ? Deno.args.slice(1) : ["10x3", "50x3", "300x3"];

/** What t2cp is to reach, as multiples. */
const GOAL = { median: 1.1, p99: 1.3 } as const;

/** How often progress is told, in milliseconds. */
const PROGRESS = 10_000;

/** What one watcher has shown. */
interface Figures {
  /** From the cut to the event, as a multiple. */
  fromCut: number[];
  /** From the last packet to the event, as a multiple. */
  fromLast: number[];
  /** Failures without a cut. */
  wrong: number;
}

/** A state that a watcher came to. */
interface Change {
  /** Microseconds since the epoch. */
  at: number;
  up: boolean;
  /** From the last packet to the change, in milliseconds. */
  detectionMs?: number;
  /** The watcher's own words. */
  words: string;
}

/** A watcher, seen from outside. */
interface Watcher {
  name: string;
  hosts: TwoHosts;
  changes: () => Promise<Change[]>;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Microseconds since the epoch of "2026-01-31T12:00:00.000250Z" or "2026/01/31 12:00:00.000250". */
function micros(time: string): number {
  const second = time.slice(0, 19).replaceAll("/", "-").replace(" ", "T");
  return Date.parse(`${second}Z`) * 1000 + Number(time.slice(20, 26));
}

function t2cpChanges({ events }: Process): Change[] {
  return events.filter(({ type }) => ["up", "failed", "recovered"].includes(type)).map(
    (event: Event) => ({
      at: micros(event.time),
      up: event.type !== "failed",
      detectionMs: event.detection_ms as number | undefined,
      words: JSON.stringify(event),
    }),
  );
}

async function bfddChanges(bfdd: Bfdd): Promise<Change[]> {
  return (await bfdd.stateChanges()).filter((line) => / -> (up|down)/.test(line)).map((line) => ({
    at: micros(line),
    up: / -> up/.test(line),
    words: line,
  }));
}

/** Clock ticks of all processors since the start: all, and those that the hypervisor gave to others. */
function ticks(): { all: number; stolen: number } {
  const [first = ""] = Deno.readTextFileSync("/proc/stat").split("\n", 1);
  const fields = first.trim().split(/\s+/).slice(1, 9).map(Number);
  return { all: fields.reduce((sum, field) => sum + field, 0), stolen: fields[7] ?? 0 };
}

/** Cuts the link of hosts by one rule set, and mends it, from a process that waits for it. */
class Knife {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor(hosts: TwoHosts) {
    const options = { stdin: "piped", stdout: "null" } as const;
    this.#child = hosts.command("b", ["chrt", "--rr", "1", "nft", "-i"], options).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#write(`add table inet cut
add chain inet cut out { type filter hook output priority 0; }
add chain inet cut in { type filter hook input priority 0; }`);
  }

  /** Returns when the cut began, in microseconds since the epoch. */
  cut(): number {
    const at = nowMicros();
    this.#policy("drop");
    return at;
  }

  mend(): void {
    this.#policy("accept");
  }

  async close(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  #policy(policy: string): void {
    this.#write(
      `chain inet cut out { policy ${policy}; }; chain inet cut in { policy ${policy}; }`,
    );
  }

  #write(line: string): void {
    this.#writer.write(new TextEncoder().encode(`${line}\n`)).catch(() => {});
  }
}

/** Waits until every watcher's last change satisfies `test`; false where that takes too long. */
async function all(
  watchers: readonly Watcher[],
  seconds: number,
  test: (last: Change | undefined, watcher: Watcher) => boolean,
): Promise<boolean> {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const last = await Promise.all(watchers.map(async ({ changes }) => (await changes()).at(-1)));
    if (watchers.every((watcher, i) => test(last[i], watcher))) return true;
    await sleep(20);
  }
  return false;
}

async function measure(
  watchers: readonly Watcher[],
  interval: number,
  multiplier: number,
): Promise<Map<Watcher, Figures>> {
  const figures = new Map(
    watchers.map((watcher) => [watcher, { fromCut: [], fromLast: [], wrong: 0 } as Figures]),
  );
  const detection = interval * multiplier;
  const knives = watchers.map(({ hosts }) => new Knife(hosts));
  // From here on nothing is started that would inherit it. A late cut would look like a late event.
  runRealtime();
  let told = performance.now();
  try {
    for (let round = 0; round < cuts; round++) {
      if (performance.now() - told >= PROGRESS) {
        told = performance.now();
        console.error(`${interval} ms x ${multiplier}: ${round} of ${cuts} cuts`);
      }
      if (!await all(watchers, 30, (last) => last?.up === true)) throw new Error("Not up");
      // The polls end, and the fast timers are in force.
      await sleep(300 + 2 * interval + Math.random() * interval);
      const before = await Promise.all(watchers.map(({ changes }) => changes()));
      const times = knives.map((knife) => knife.cut());
      const heard = (last: Change | undefined, watcher: Watcher): boolean =>
        last?.up === false && last.at > times[watchers.indexOf(watcher)]!;
      if (!await all(watchers, 5 + detection / 100, heard)) throw new Error("A cut was missed");
      for (const [i, watcher] of watchers.entries()) {
        const own = figures.get(watcher)!;
        const failures = (await watcher.changes()).filter(({ up }) => !up);
        const wrong = failures.length - round - 1;
        for (const { words } of failures.slice(-1 - (wrong - own.wrong), -1)) console.error(words);
        own.wrong = wrong;
        // A failure that was there before the cut says nothing.
        if (before[i]!.at(-1)?.up !== true) continue;
        const { at, detectionMs } = failures.at(-1)!;
        own.fromCut.push((at - times[i]!) / 1000 / detection);
        if (detectionMs !== undefined) own.fromLast.push(detectionMs / detection);
      }
      for (const knife of knives) knife.mend();
    }
  } finally {
    runOrdinary();
    for (const knife of knives) await knife.close();
  }
  return figures;
}

function line(name: string, values: number[]): string {
  const at = (share: number): string => quantile(values, share)!.toFixed(3);
  return `${name} median ${at(0.5)}, p99 ${at(0.99)}, longest ${Math.max(...values).toFixed(3)}`;
}

if (!hasBfdd) throw new Error("The package frr is missing; run deno task setup");
for (const timer of timers) {
  const [interval = 50, multiplier = 3] = timer.split("x").map(Number);
  const peer = `peer 10.99.0.2 local-address 10.99.0.1\n  detect-multiplier ${multiplier}
  receive-interval ${interval}\n  transmit-interval ${interval}\n!`;
  await TwoHosts.with((ours) =>
    TwoHosts.with((theirs) =>
      Bfdd.with(theirs, "a", peer, async (bfdd) => {
        for (const hosts of [ours, theirs]) {
          const flags = ["--interval", String(interval), "--multiplier", String(multiplier)];
          await hosts.start("b", "detect", "--respond", ...flags).next("started");
        }
        const flags = ["--interval", String(interval), "--multiplier", String(multiplier)];
        const detect = ours.start("a", "detect", "--peer", "10.99.0.2", "--suspect", "0", ...flags);
        const watchers: Watcher[] = [
          { name: "t2cp", hosts: ours, changes: () => Promise.resolve(t2cpChanges(detect)) },
          { name: "bfdd", hosts: theirs, changes: () => bfddChanges(bfdd) },
        ];
        const before = ticks();
        const figures = await measure(watchers, interval, multiplier);
        const after = ticks();
        const stolen = 100 * (after.stolen - before.stolen) / (after.all - before.all);
        const load = Deno.loadavg()[0]!.toFixed(1);
        for (const [{ name }, { fromCut, fromLast, wrong }] of figures) {
          const last = fromLast.length === 0 ? "" : `; from the last packet: ${line("", fromLast)}`;
          console.log(
            `${interval} ms x ${multiplier} (${fromCut.length} cuts, load ${load}, ` +
              `${stolen.toFixed(1)} % stolen) ` +
              `${line(name, fromCut)}${last}; false failures: ${wrong}`,
          );
        }
        const { fromCut } = figures.get(watchers[0]!)!;
        const met = quantile(fromCut, 0.5)! <= GOAL.median && quantile(fromCut, 0.99)! <= GOAL.p99;
        if (!met) Deno.exitCode = 1;
        console.log(
          `${interval} ms x ${multiplier}: goal of median ${GOAL.median} and p99 ${GOAL.p99} ` +
            (met ? "met" : "MISSED"),
        );
      })
    )
  );
}
