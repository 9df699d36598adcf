import assert from "node:assert/strict";
import { installedNames, PACKAGES } from "../../lib/host/packages.ts";
import { Progress } from "../../lib/lab/measure.ts";
import { quote } from "../../lib/lab/processes.ts";
import { describeScenario, painter, reportResult, reportRun } from "../../lib/lab/report.ts";
import { sumUp } from "../../lib/lab/result.ts";
import { type Measures, type Scenario, serverOf } from "../../lib/lab/scenario.ts";

const scenario: Scenario = {
  workload: "download",
  server: "nginx",
  failure: "host",
  family: 4,
  flows: 1,
  size: 1000,
  rate: 40e6,
  link: 0,
  interval: 50,
  multiplier: 3,
  after: { share: 0.4 },
  plain: false,
  commit: false,
  heal: false,
  tapLoss: 0,
  blackout: 0,
};

function measures(fields: Partial<Measures> = {}): Measures {
  return {
    ok: true,
    workload: "download",
    server: "nginx",
    failure: "host",
    family: 4,
    flows: 1,
    sha256_equal: true,
    stall_ms: 150,
    pause_ms: 149,
    detect_ms: 148,
    takeover_ms: 2,
    took_ms: 1,
    bytes: 1000,
    throughput: 40e6,
    throughput_before: 41e6,
    throughput_after: 39e6,
    ...fields,
  };
}

Deno.test("lab result: medians and maxima of several runs", () => {
  const runs = [
    measures(),
    measures({ stall_ms: 170, takeover_ms: 9, detect_ms: null }),
    measures({ stall_ms: 160, takeover_ms: 3 }),
  ];
  const result = sumUp(runs, scenario, 3);
  assert.equal(result.ok, true);
  assert.equal(result.runs, 3);
  assert.equal(result.stall_ms, 160);
  assert.equal(result.stall_ms_max, 170);
  assert.equal(result.takeover_ms, 3);
  assert.equal(result.takeover_ms_max, 9);
  assert.equal(result.detect_ms, 148);
  assert.equal(result.bytes, 1000);
  assert.equal("problem" in result, false);
});

Deno.test("lab result: one run that is not ok, or is missing, makes the whole not ok", () => {
  const bad = measures({ ok: false, sha256_equal: false, problem: "the content differs" });
  const result = sumUp([measures(), bad], scenario, 2);
  assert.equal(result.ok, false);
  assert.equal(result.sha256_equal, false);
  assert.equal(result.problem, "the content differs");
  assert.equal(sumUp([measures()], scenario, 2).ok, false);
});

Deno.test("lab result: without any run all measurements are null", () => {
  const result = sumUp([], scenario, 1);
  assert.deepEqual(
    [result.ok, result.sha256_equal, result.stall_ms, result.stall_ms_max, result.bytes],
    [false, false, null, null, 0],
  );
});

Deno.test("lab report: the timeline of a failure, without colour codes where none are wanted", () => {
  const progress = new Progress();
  progress.add(0, 400);
  progress.add(1_000_000, 400);
  progress.add(2_000_000, 200);
  const trace = {
    progress,
    cut: 1_000_100,
    failed: 1_150_000,
    active: 1_151_000,
    firstByte: 2_000_000,
  };
  const text = reportRun(scenario, measures(), trace, painter(false)).join("\n");
  assert.match(text, /1\.000 s {2}primary cut off, 80 % received/);
  assert.match(text, /\+ 149\.9 ms {2}failure detected/);
  assert.match(text, /first new byte at the client/);
  assert.match(text, /last byte, 1 kB/);
  assert.match(text, /equal \(SHA-256\)/);
  assert.match(text, /longest silence at the client +150\.0 ms/);
  assert.ok(!text.includes("\x1b"));
  const coloured = reportRun(scenario, measures({ ok: false, problem: "p" }), trace, painter(true));
  assert.ok(coloured.at(-1)!.includes("\x1b[31mnot ok: p\x1b[39m"));
});

Deno.test("lab report: a run that never had a byte", () => {
  const none = measures({ ok: false, problem: "curl ended", stall_ms: null, bytes: 0 });
  const lines = reportRun(scenario, none, { progress: new Progress() }, painter(false));
  assert.match(lines.at(-1)!, /not ok: curl ended/);
});

Deno.test("lab result: flows' takeovers as medians of each figure, failures as their sum", () => {
  const spread = (first: number, last: number) => ({ flows: 3, first, p50: 2, p99: 3, last });
  const runs = [
    measures({ takeover_flows_ms: spread(1, 4), failures: 0 }),
    measures({ takeover_flows_ms: spread(3, 9.5), failures: 2 }),
    measures({ failures: 1 }),
  ];
  const result = sumUp(runs, { ...scenario, family: 6, flows: 3 }, 3);
  assert.deepEqual(result.takeover_flows_ms, { flows: 3, first: 2, p50: 2, p99: 3, last: 6.75 });
  assert.deepEqual([result.failures, result.family, result.flows], [3, 6, 3]);
  assert.equal("failures" in sumUp([measures()], scenario, 1), false);
});

Deno.test("lab report: what killed the server, and whether the client heard of it", () => {
  const killed: Scenario = { ...scenario, failure: "process" };
  const progress = new Progress();
  progress.add(0, 400);
  progress.add(1_000_000, 600);
  const run = measures({ failure: "process", early_ends: 1 });
  const text = reportRun(killed, run, { progress, cut: 500_000 }, painter(false)).join("\n");
  assert.match(text, /0\.500 s {2}server killed, 40 % received/);
  assert.match(text, /FIN and RST too early +1$/m);
  assert.match(describeScenario(killed), /; the primary's server is killed$/);
  assert.match(describeScenario({ ...scenario, failure: "hang" }), /; the primary's server hangs$/);
});

Deno.test("lab result: FIN and RST that came too early as their sum, where somebody looked", () => {
  const runs = [measures({ early_ends: 1 }), measures({ early_ends: 2 })];
  assert.equal(sumUp(runs, scenario, 2).early_ends, 3);
  assert.equal("early_ends" in sumUp([measures()], scenario, 1), false);
});

Deno.test("lab scenario: a workload's server", () => {
  assert.equal(serverOf("download", undefined), "nginx");
  assert.equal(serverOf("echo", undefined), "socat");
  assert.equal(serverOf("echo", "threaded"), "threaded");
  assert.throws(
    () => serverOf("echo", "nginx"),
    /Server "nginx" cannot serve workload "echo".*/,
  );
});

Deno.test("lab report: several flows, and connections that failed", () => {
  const takeover = { flows: 300, first: 1, p50: 2, p99: 3, last: 4 };
  const run = measures({ flows: 300, takeover_flows_ms: takeover, failures: 7 });
  const text = reportRun(scenario, run, { progress: new Progress() }, painter(false)).join("\n");
  assert.match(
    text,
    /of 300 flows, the first +1\.00 ms\n +the median +2\.00 ms\n +the last +4\.00/,
  );
  assert.match(text, /connections that failed +7 of 300/);
});

Deno.test("lab report: scenario and summary in words", () => {
  assert.equal(describeScenario(scenario), "download of 1 kB at 40 MB/s; the primary is cut off");
  assert.match(describeScenario({ ...scenario, plain: true, rate: 0 }), /full speed, without t2cp/);
  assert.equal(
    describeScenario({ ...scenario, workload: "echo", flows: 300, family: 6 }),
    "echo of 1 kB in 300 flows, 10 messages a second on each over IPv6; the primary is cut off",
  );
  assert.match(
    describeScenario({ ...scenario, workload: "connections", flows: 2000, failure: "none" }),
    /^2000 connections, 1 kB in all, 200 a second; nothing fails$/,
  );
  const summary = reportResult(sumUp([measures(), measures()], scenario, 2), painter(false));
  assert.match(summary[0]!, /^2 runs/);
});

Deno.test("lab processes: a quoted command line survives a shell", async () => {
  const words = [
    "plain",
    "a b",
    "it's",
    "$HOME",
    "",
    "*",
    'q"q',
    "10.77.0.100:80",
    "~",
    "a=b",
    "[1:2]:3",
  ];
  const command = new Deno.Command("sh", {
    args: ["-c", `printf '%s\\n' ${quote(words)}`],
  });
  const { stdout } = await command.output();
  assert.deepEqual(new TextDecoder().decode(stdout).trimEnd().split("\n"), words);
});

Deno.test("packages: only what dpkg calls installed counts", () => {
  const lines = "nginx installed\ncurl config-files\nsocat not-installed\nlibbpf1 installed\n";
  assert.deepEqual([...installedNames(lines)], ["nginx", "libbpf1"]);
  assert.deepEqual([...installedNames("")], []);
});

Deno.test("packages: every one says what it is for", () => {
  assert.equal(new Set(PACKAGES.map(({ name }) => name)).size, PACKAGES.length);
  for (const { reason } of PACKAGES) assert.match(reason, /^[a-z].*[^.]$/);
});
