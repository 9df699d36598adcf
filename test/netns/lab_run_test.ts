import assert from "node:assert/strict";
import { join } from "node:path";
import { readState } from "../../lib/lab/state.ts";
import { inRole } from "../../lib/lab/namespaces.ts";
import { run, until } from "../../lib/lab/system.ts";
import { checkout, shell, t2cp } from "../cli/t2cp.ts";
import { PATIENCE } from "../fixture/wait.ts";
import { eventsOf, isRoot, labEvents, type TestLab, withLab } from "./lab.ts";

const ignore = !isRoot;

function runJson(lab: TestLab, ...args: string[]): Promise<Record<string, unknown>[]> {
  return labEvents("lab", "run", "--json", ...lab.flags, ...args);
}

/** A workload as small as it says something, and what it moves. */
interface Case {
  name: string;
  args: string[];
  bytes: number;
}

const CASES: readonly Case[] = [
  { name: "download", args: ["--workload", "download", "--size", "10M"], bytes: 10e6 },
  { name: "upload", args: ["--workload", "upload", "--size", "10M"], bytes: 10e6 },
  { name: "echo", args: ["--workload", "echo", "--size", "12800"], bytes: 12_800 },
  {
    name: "echo in 20 flows",
    args: ["--workload", "echo", "--flows", "20", "--size", "12800"],
    bytes: 12_800,
  },
  { name: "chat", args: ["--workload", "chat", "--size", "12800"], bytes: 12_800 },
  {
    name: "series of connections",
    args: ["--workload", "connections", "--flows", "200"],
    bytes: 200 * 4096,
  },
];

for (const family of ["4", "6"]) {
  for (const { name, args, bytes } of CASES) {
    Deno.test({
      name: `lab run: plain ${name} over IPv${family} arrives whole`,
      ignore,
      fn: () =>
        withLab(async (lab) => {
          const events = await runJson(lab, "--plain", "--family", family, ...args);
          const result = events.at(-1)!;
          assert.equal(result.ok, true);
          assert.equal(result.sha256_equal, true);
          assert.equal(result.failure, "none");
          assert.equal(result.family, Number(family));
          assert.equal(result.bytes, bytes);
          assert.deepEqual([result.detect_ms, result.takeover_ms], [null, null]);
          assert.ok(Number(result.throughput) > 0);
        }),
    });
  }
}

const FAILING: readonly Omit<Case, "bytes">[] = [
  { name: "download", args: ["--workload", "download", "--size", "30M"] },
  { name: "upload", args: ["--workload", "upload", "--size", "30M"] },
  {
    name: "upload with output commit and lost copies",
    args: ["--workload", "upload", "--size", "30M", "--commit", "--tap-loss", "1%"],
  },
  { name: "echo", args: ["--workload", "echo", "--size", "25600"] },
  {
    name: "echo in 20 flows",
    args: ["--workload", "echo", "--flows", "20", "--size", "25600"],
  },
  { name: "chat behind a fence", args: ["--workload", "chat", "--size", "25600", "--fence"] },
  { name: "chat in 10 flows", args: ["--workload", "chat", "--flows", "10"] },
  { name: "series of connections", args: ["--workload", "connections", "--flows", "300"] },
];

for (const family of ["4", "6"]) {
  for (const { name, args } of FAILING) {
    Deno.test({
      name: `lab run: ${name} over IPv${family} survives the failure of its server`,
      ignore,
      fn: () =>
        withLab(async (lab) => {
          const events = await runJson(lab, "--family", family, ...args);
          const result = events.at(-1)!;
          assert.equal(result.ok, true, JSON.stringify(result));
          assert.equal(result.sha256_equal, true);
          assert.equal(result.failure, "host");
          for (const field of ["stall_ms", "detect_ms", "takeover_ms"]) {
            assert.ok(Number(result[field]) > 0, `${field} ${result[field]}`);
          }
          if (args.includes("connections")) assert.equal(result.failures, 0);
          else if (args.includes("--flows")) {
            const spread = result.takeover_flows_ms as Record<string, number>;
            assert.equal(spread.flows, Number(args[args.indexOf("--flows") + 1]));
            assert.ok(spread.first! <= spread.p50! && spread.p50! <= spread.last!);
            assert.equal(spread.last, result.takeover_ms);
          }
          const types = events.map(({ type }) => type);
          for (const type of ["started", "up", "failed", "active", "lab.mark", "lab.run"]) {
            assert.ok(types.includes(type), type);
          }
          // fenced comes before the event that it belongs to.
          const fenced = events.filter(({ type }) => type === "fenced" || type === "failed");
          assert.deepEqual(
            fenced.map(({ type, by }) => `${type} by ${by}`),
            [...(args.includes("--fence") ? ["fenced by fence"] : []), "failed by detect"],
          );
          const service = family === "4" ? /^10\.77\.0\.100:/ : /^\[2001:db8:77::100\]:/;
          const [opened] = events.filter(({ type }) => type === "flow.open");
          if (opened !== undefined) assert.match(String(opened.server), service);
        }),
    });
  }
}

// Where the heartbeat was late already when the primary is cut off, what is left of the time is short.
for (const [interval, seconds, least] of [[17, 0.05, 0], [500, 1.5, 500]] as const) {
  Deno.test({
    name: `lab run: the takeover is as quick after a detection that may take ${seconds} s`,
    ignore,
    fn: () =>
      withLab(async (lab) => {
        const timers = ["--interval", String(interval), "--multiplier", "3"];
        const events = await runJson(lab, "--workload", "chat", "--after", "1s", ...timers);
        const result = events.at(-1)!;
        assert.equal(result.ok, true, JSON.stringify(result));
        assert.ok(Number(result.detect_ms) > least, `detect_ms ${result.detect_ms}`);
        // Far below the retransmission timeout that the client has come to after a second.
        assert.ok(Number(result.takeover_ms) < 600, `takeover_ms ${result.takeover_ms}`);
      }),
  });
}

const SIZES = { download: "10M", upload: "10M", echo: "12800" } as const;

for (const workload of ["download", "upload", "echo"] as const) {
  Deno.test({
    name: `lab run: ${workload} with t2cp running and no failure`,
    ignore,
    fn: () =>
      withLab(async (lab) => {
        const args = ["--workload", workload, "--size", SIZES[workload], "--failure", "none"];
        const events = await runJson(lab, ...args);
        assert.equal(events.at(-1)!.ok, true);
        assert.ok(!events.some(({ type }) => type === "failed" || type === "active"));
      }),
  });
}

Deno.test({
  name: "lab demo: a download of 200 MB at 40 MB/s survives, and the last line says how",
  ignore,
  fn: () =>
    withLab(async ({ runDir }) => {
      const result = (await labEvents("lab", "demo", "--json", "--run-dir", runDir)).at(-1)!;
      assert.deepEqual(
        [result.ok, result.workload, result.failure, result.sha256_equal, result.bytes],
        [true, "download", "host", true, 200e6],
      );
      assert.ok(Number(result.detect_ms) < 1000, `detect_ms ${result.detect_ms}`);
      assert.ok(Number(result.takeover_ms) > 0, `takeover_ms ${result.takeover_ms}`);
      assert.ok(Number(result.stall_ms) > 0, `stall_ms ${result.stall_ms}`);
    }),
});

Deno.test({
  name: "lab run: no room for the content, no place for the lab",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const room = await Deno.makeTempDir();
      await run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", room]);
      try {
        const env = { TMPDIR: room };
        const command = `t2cp lab run --plain --json ${lab.flags.join(" ")}`;
        const full = await shell(command, env);
        assert.equal(full.status, 71, full.stderr);
        assert.match(full.stderr, /Cannot write 200000000 bytes.*TMPDIR/);
      } finally {
        await run(["umount", room]);
        await Deno.remove(room);
      }
      const nowhere = await t2cp("lab", "up", "--run-dir", "/proc/t2cp", "--name", lab.name);
      assert.equal(nowhere.status, 66, nowhere.stderr);
      assert.match(nowhere.stderr, /Cannot make directory "\/proc\/t2cp.*--run-dir/);
    }),
});

Deno.test({
  name: "lab run: a reader of the events that goes away ends the run quietly",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const pipeline = `t2cp lab run --json ${lab.flags.join(" ")} | head -n 1`;
      const outcome = await shell(`set -o pipefail; ${pipeline}`);
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.equal(eventsOf(outcome).length, 1);
      assert.doesNotMatch(outcome.stderr, /t2cp lab run:/);
    }),
});

Deno.test({
  name: "lab run: several runs give one event each, medians and maxima, files and a report",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const out = await Deno.makeTempDir();
      try {
        const args = ["--plain", "--size", "2M", "--runs", "2", "--out", out];
        const outcome = await t2cp("lab", "run", ...lab.flags, ...args);
        assert.equal(outcome.status, 0, outcome.stderr);
        assert.match(outcome.stdout, /run 2 of 2/);
        assert.match(outcome.stdout, /^2 runs/m);
        for (const name of ["events.ndjson", "run-1.svg", "run-2.svg"]) {
          assert.ok(outcome.stdout.includes(`${out}/${name}`), name);
        }
        assert.match(await Deno.readTextFile(`${out}/run-2.svg`), /<\/svg>\n$/);
        const lines = (await Deno.readTextFile(`${out}/events.ndjson`)).trimEnd().split("\n");
        const results = lines.map((line) => JSON.parse(line)).filter(({ type }) =>
          type.startsWith("lab.r")
        );
        assert.deepEqual(results.map(({ type }) => type), ["lab.run", "lab.run", "lab.result"]);
        assert.equal(results[2].runs, 2);
        assert.equal(
          results[2].stall_ms_max,
          Math.max(results[0].stall_ms, results[1].stall_ms),
        );
      } finally {
        await Deno.remove(out, { recursive: true });
      }
    }),
});

Deno.test({
  name: "lab run: --keep leaves the lab standing",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      await runJson(lab, "--plain", "--size", "1M", "--keep");
      const list = await t2cp("lab", "list", "--run-dir", lab.runDir);
      assert.match(list.stdout, /standing/);
      lab.look();
      assert.equal((await t2cp("lab", "down", ...lab.flags)).status, 0);
    }),
});

Deno.test({
  name: "lab run: wrong flags are refused before anything is built",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const cases: [RegExp, string[]][] = [
        [/nothing survives a failure/, ["--plain", "--failure", "host"]],
        [/"echo" of 60000000 bytes takes over an hour/, ["--workload", "echo", "--size", "60M"]],
        [/--size: Size "big" is not valid/, ["--size", "big"]],
        [/--after: Point in time "half" is not valid/, ["--after", "half"]],
        [/Expected "talk" to be one of/, ["--workload", "talk"]],
        [/IP version "5" is not valid; write 4 or 6/, ["--family", "5"]],
        [/"upload" has one flow/, ["--workload", "upload", "--flows", "2"]],
      ];
      for (const [message, args] of cases) {
        const outcome = await t2cp("lab", "run", ...lab.flags, ...args);
        assert.equal(outcome.status, 64, outcome.stderr);
        assert.match(outcome.stderr, message);
      }
    }),
});

/** A run in its own process, to be ended from outside. */
function start(lab: TestLab, ...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", join(checkout, "cli", "main.ts")],
      ...["lab", "run", "--json", ...lab.flags, ...args],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits until the lab's state file names a process called `what`; "" is the state file itself. */
async function waitForProcess(lab: TestLab, what: string): Promise<void> {
  const found = await until(() => {
    const state = readState(lab.runDir, lab.name);
    return state !== undefined &&
      (what === "" || state.processes.some((process) => process.what === what));
  }, PATIENCE);
  assert.ok(found, `"${what}" was not started`);
  lab.look();
}

/** Runs that are not over by themselves before they are ended. */
const LONG = {
  download: ["--workload", "download", "--rate", "4"],
  connections: ["--workload", "connections", "--flows", "20000"],
} as const;

Deno.test({
  name: "lab run: a failure that is detected before the run's own is no measure of detection",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const child = start(lab, "--workload", "chat", "--size", "51200", "--after", "3s");
      await waitForProcess(lab, "chat-client");
      await run(inRole(lab.name, "gateway", ["ip", "link", "set", "primary", "down"]));
      const { code, stdout, stderr } = await child.output();
      const text = new TextDecoder();
      const outcome = { status: code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
      const { ok, problem, detect_ms, takeover_ms } = eventsOf(outcome).at(-2)!;
      assert.deepEqual(
        [code, ok, problem, detect_ms, takeover_ms],
        [69, false, "a failure was detected before there was one", null, null],
      );
    }),
});

const INTERRUPTIONS = [
  ["SIGINT", "", "download"],
  ["SIGTERM", "shadow", "download"],
  ["SIGINT", "curl", "download"],
  ["SIGTERM", "nginx-primary", "connections"],
  ["SIGTERM", "web-client", "connections"],
] as const;

for (const [signal, what, workload] of INTERRUPTIONS) {
  Deno.test({
    name: `lab run: ${signal} ${what ? `once ${what} runs` : "while building"} leaves nothing`,
    ignore,
    fn: () =>
      withLab(async (lab) => {
        const child = start(lab, ...LONG[workload]);
        await waitForProcess(lab, what);
        child.kill(signal);
        // An impatient user presses again.
        child.kill(signal);
        const { code, stdout, stderr } = await child.output();
        const text = new TextDecoder();
        assert.equal(code, 75, text.decode(stderr));
        assert.match(text.decode(stderr), new RegExp(`Interrupted by ${signal}`));
        const result = JSON.parse(text.decode(stdout).trimEnd().split("\n").at(-1)!);
        assert.deepEqual([result.type, result.ok], ["lab.result", false]);
      }),
  });
}

Deno.test({
  name: "lab run: a killed run leaves a stale lab, which down removes",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const child = start(lab, ...LONG.download);
      await waitForProcess(lab, "curl");
      const busy = await t2cp("lab", "down", ...lab.flags);
      assert.equal(busy.status, 75);
      assert.match(busy.stderr, new RegExp(`in use by process ${child.pid}`));
      child.kill("SIGKILL");
      await child.output();
      const list = await t2cp("lab", "list", "--run-dir", lab.runDir);
      assert.match(list.stdout, /stale/);
      const down = await t2cp("lab", "down", ...lab.flags);
      assert.equal(down.status, 0, down.stderr);
    }),
});
