/**
 * The whole stall that a client sees when its server's host fails, in the same lab and by the same measure: by t2cp, whose
 * client notices nothing, and by keepalived, whose client has to give up the silent connection, connect anew and ask for
 * the rest. Both notice the failure by what the host no longer says: t2cp by BFD heartbeats, 10 ms x 3, keepalived by VRRP
 * advertisements, of which three may be missing; their interval is the shortest that there is, 10 ms, unless --advert
 * says otherwise.
 *
 * How long keepalived's client waits before it gives up is a matter of the client: 50 ms here unless --patience says
 * otherwise, which is less than a real one can afford. A run in which the address moves before the host fails is counted
 * and made again. Exits with 1 where t2cp's median is over the bound, or content was wrong. Needs root and the lab's
 * packages.
 *
 *     deno task bench:stall [--runs N] [--patience MS] [--advert SECONDS] [--json]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { readLines } from "../../lib/ndjson.ts";
import { Commands } from "../../lib/lab/commands.ts";
import { type Content, makeContent } from "../../lib/lab/content.ts";
import { Lab } from "../../lib/lab/lab.ts";
import { maximum, median } from "../../lib/lab/measure.ts";
import { HostProcess } from "../../lib/lab/processes.ts";
import { Recorder } from "../../lib/lab/recorder.ts";
import { documentDirectory, startWebServer, WEB_PORT } from "../../lib/lab/servers.ts";
import { shapeClientLink } from "../../lib/lab/shaping.ts";
import { SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import { unique } from "../fixture/unique.ts";
import { Keepalived, SHORTEST } from "./keepalived.ts";
import type { StallResult, StallTask } from "./stall_client.ts";

/** The bound of t2cp's median, in milliseconds. */
const BOUND = 45;
/** Bytes to download, and bytes a second: the failure comes in the middle of a second and a half. */
const SIZE = 60_000_000;
const RATE = 40_000_000;
/** So often a run is made again where the address moves before the failure. */
const TRIES = 5;

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    patience: { type: "string", default: "50" },
    advert: { type: "string", default: String(SHORTEST) },
    json: { type: "boolean", default: false },
  },
});
const signal = new AbortController().signal;
const client = fileURLToPath(new URL("stall_client.ts", import.meta.url));

/** What one run has shown. */
interface Run extends StallResult {
  ok: boolean;
  /** Whether the address had moved before the host failed. */
  early: boolean;
}

/** Who moves the service. */
interface Arm {
  name: string;
  patience: number | undefined;
  /** Sets it up, and returns what looks whether it has acted already, and what ends it. */
  start: (lab: Lab) => Promise<{ early: () => Promise<boolean>; end: () => Promise<void> }>;
}

const t2cp: Arm = {
  name: "t2cp, 10 ms x 3",
  patience: undefined,
  start: async (lab) => {
    const options = {
      family: 4,
      port: WEB_PORT,
      interval: 10,
      multiplier: 3,
      commit: false,
    } as const;
    const quiet = new Recorder([]);
    const commands = await Commands.start(lab, options, quiet, signal);
    return {
      early: () => Promise.resolve(commands.find("failed") !== undefined),
      end: () => commands.stop(),
    };
  },
};

const keepalived: Arm = {
  name: `keepalived, ${Number(values.advert) * 1000} ms`,
  patience: Number(values.patience),
  start: async (lab) => {
    const both = await Keepalived.start(lab, Number(values.advert));
    return {
      early: async () => await both.entered("backup", "master") > 0,
      end: () => Promise.resolve(),
    };
  },
};

/** Downloads once, and lets the primary's host fail in the middle. */
async function runOnce({ patience, start }: Arm): Promise<Run> {
  const runDir = await Deno.makeTempDir({ prefix: "t2cp-bench-" });
  const lab = await Lab.create({ name: unique("stall-"), runDir, owned: true }, signal);
  try {
    const content = await serve(lab);
    await shapeClientLink(lab, RATE);
    const { early, end } = await start(lab);
    const task: StallTask = { address: SERVICE_ADDRESSES[4], size: SIZE, patience };
    const process = HostProcess.start(lab, {
      what: "client",
      role: "client",
      argv: [Deno.execPath(), "run", "-A", "--quiet", client, JSON.stringify(task)],
      stdout: true,
    });
    let moved: boolean | undefined;
    let result: StallResult | undefined;
    for await (const line of readLines(process.stdout)) {
      if ("error" in line) throw new Error(line.error);
      const told = JSON.parse(line.line);
      if ("sha256" in told) result = told;
      if (moved !== undefined || told.bytes < SIZE / 2) continue;
      moved = await early();
      await lab.failHost();
    }
    if (result === undefined) throw await process.unexpectedEnd();
    await end();
    return { ...result, ok: result.sha256 === content.sha256, early: moved === true };
  } finally {
    await lab.down();
    await Deno.remove(runDir, { recursive: true }).catch(() => {});
  }
}

async function serve(lab: Lab): Promise<Content> {
  const scratch = lab.makeScratch();
  await Deno.mkdir(documentDirectory(scratch));
  const content = await makeContent(`${documentDirectory(scratch)}/content`, SIZE);
  for (const role of ["primary", "backup"] as const) await startWebServer(lab, role, scratch);
  return content;
}

/** Clock ticks of all processors since the start: all, and those that the hypervisor gave to others. */
function ticks(): { all: number; stolen: number } {
  const [first = ""] = Deno.readTextFileSync("/proc/stat").split("\n", 1);
  const fields = first.trim().split(/\s+/).slice(1, 9).map(Number);
  return { all: fields.reduce((sum, field) => sum + field, 0), stolen: fields[7] ?? 0 };
}

const load = (): string => Deno.loadavg()[0]!.toFixed(1);
const before = { load: load(), ...ticks() };
const arms = [t2cp, keepalived];
const runs = new Map<Arm, Run[]>(arms.map((arm) => [arm, []]));
const early = new Map<Arm, number>(arms.map((arm) => [arm, 0]));
for (let i = 0; i < Number(values.runs); i++) {
  // In turn, so that both meet the same machine.
  for (const arm of arms) {
    for (let tries = 0; tries < TRIES && runs.get(arm)!.length === i; tries++) {
      const run = await runOnce(arm);
      if (values.json) console.log(JSON.stringify({ arm: arm.name, ...run }));
      if (run.early) early.set(arm, early.get(arm)! + 1);
      else runs.get(arm)!.push(run);
    }
    if (runs.get(arm)!.length === i) throw new Error(`${arm.name} moves the address all the time`);
  }
}
const after = ticks();
const stolen = 100 * (after.stolen - before.stolen) / (after.all - before.all);
console.log(
  `Longest time without a new byte, milliseconds, ${values.runs} failures of a host each; ` +
    `load ${before.load} to ${load()}, ${
      stolen.toFixed(1)
    } % of the processors taken by the hypervisor`,
);
for (const [arm, done] of runs) {
  const { name, patience } = arm;
  const stalls = done.map(({ stall_ms }) => stall_ms);
  const count = (what: (run: Run) => boolean): number => done.filter(what).length;
  const gives = patience === undefined ? "" : `, client gives up after ${patience} ms`;
  console.log(
    `${name}${gives}: median ${median(stalls)!.toFixed(1)}, longest ${
      maximum(stalls)!.toFixed(1)
    }; ` +
      `${count(({ ok }) => ok)} of ${done.length} right, ` +
      `${count(({ reconnects }) => reconnects > 0)} clients had to connect anew, ` +
      `${early.get(arm)} more runs in which the address moved without a failure`,
  );
}
const own = runs.get(t2cp)!;
const middle = median(own.map(({ stall_ms }) => stall_ms))!;
const wrong = [...runs.values()].flat().filter(({ ok }) => !ok).length;
if (middle > BOUND) console.error(`t2cp's median is over ${BOUND} ms`);
if (wrong > 0) console.error(`${wrong} downloads were wrong`);
if (middle > BOUND || wrong > 0) Deno.exitCode = 1;
