import assert from "node:assert/strict";
import { isRoot, TwoHosts } from "./two_hosts.ts";

/** A test that needs root. */
function onHosts(name: string, fn: (hosts: TwoHosts) => Promise<void>): void {
  Deno.test({ name, ignore: !isRoot, fn: () => TwoHosts.with(fn) });
}

/** A machine that is busy for a moment misses neither the heartbeats nor the answers: half a second, and a second. */
const PEER = ["detect", "--peer", "10.99.0.2", "--target", "primary", "--multiplier", "10"];
const HTTP = "http://10.99.0.2:8080/,interval=500,fall=2,rise=1,match=fine";

/** A server that accepts, and answers by its only process; python3 is there wherever nginx would be. */
const SERVER = `import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '4'); self.end_headers()
        self.wfile.write(b'fine')
    def log_message(self, *args): pass
http.server.HTTPServer(('10.99.0.2', 8080), H).serve_forever()`;

/** What a `failed` says of its cause, without times. */
function said(event: Record<string, unknown>): unknown[] {
  const evidence = event.evidence as Record<string, unknown>[];
  return [event.level, event.cause, ...evidence.map(({ signal, state }) => `${signal} ${state}`)];
}

onHosts("probes on hosts: a server that is stopped is the application's failure", async (hosts) => {
  const server = hosts.command("b", ["python3", "-c", SERVER], { stdout: "null", stderr: "null" })
    .spawn();
  try {
    await hosts.start("b", "detect", "--respond").next("started");
    const detector = hosts.start("a", ...PEER, "--probe", HTTP, "--stats", "0.1");
    await detector.next("up");
    for (;;) {
      const stats = await detector.next("stats", detector.events.length);
      const [probe] = stats.probes as { state: string }[];
      const [session] = stats.sessions as { state: string }[];
      if (probe!.state === "good" && session!.state === "Up") break;
    }
    let seen = detector.events.length;
    server.kill("SIGSTOP");
    const failed = await detector.next("failed", seen);
    assert.deepEqual(said(failed), ["application", "unplanned", "bfd Up", "http dead"]);
    seen = detector.events.length;
    server.kill("SIGCONT");
    assert.equal((await detector.next("recovered", seen)).after, "failed");
    seen = detector.events.length;
    assert.deepEqual(await hosts.announceDown("b"), { code: 0, stderr: "" });
    const planned = await detector.next("failed", seen);
    assert.deepEqual(said(planned), ["host", "planned", "bfd AdminDown", "http good"]);
    assert.equal(planned.flaps, 1);
    assert.equal((await detector.end("SIGTERM")).code, 0);
    assert.equal(detector.stderr, "");
    const nobody = await hosts.announceDown("a");
    assert.equal(nobody.code, 69);
    assert.match(nobody.stderr, /No responder answers at/);
  } finally {
    server.kill("SIGKILL");
    await server.status;
  }
});

for (const address of ["10.99.0.2", "fd99::2", "fe80::2%link0"]) {
  onHosts(`probes on hosts: icmp:${address}`, async (hosts) => {
    const probe = `icmp:${address},interval=100,timeout=50,fall=2`;
    const detector = hosts.start("a", "detect", "--target", "primary", "--probe", probe);
    await detector.next("up");
    await hosts.link("down");
    const failed = await detector.next("failed");
    assert.deepEqual(said(failed), ["application", "unplanned", "icmp dead"]);
    await hosts.link("up");
    await detector.next("recovered");
    assert.equal((await detector.end("SIGTERM")).code, 0);
  });
}

/** An event of another detector. */
function foreign(type: string, host: string, fields: Record<string, unknown> = {}): string {
  return JSON.stringify({
    ...{ v: 1, type, time: "2026-01-01T00:00:00.000000Z", by: "guard", host, target: "primary" },
    ...fields,
  });
}

const FAILED = { level: "application", cause: "unplanned", evidence: [] };

onHosts(
  "quorum on hosts: foreign and own failures count together, and only then",
  async (hosts) => {
    const flags = ["--probe", "icmp:10.99.0.2,interval=300,fall=3,rise=1", "--require", "2"];
    const detector = hosts.pipe("a", "piped", "detect", "--target", "primary", ...flags);
    await detector.next("up");
    await detector.write(foreign("failed", "gateway", FAILED));
    const vote = await detector.next("suspect");
    assert.deepEqual([vote.by, vote.host, vote.vote], ["guard", "gateway", "failed"]);
    assert.equal(vote.level, "application");
    const seen = detector.events.length;
    await hosts.link("down");
    const failed = await detector.next("failed", seen);
    assert.deepEqual([failed.by, failed.votes, failed.require], ["detect", 2, 2]);
    assert.equal(detector.events.filter(({ type }) => type === "failed").length, 1);
    await detector.write(foreign("recovered", "gateway"));
    await detector.next("recovered", seen);
    await detector.endInput();
    assert.equal((await detector.end("SIGTERM")).code, 0);
  },
);

onHosts("suspicion on hosts: probes ask at once", async (hosts) => {
  const probe = "icmp:10.99.0.2,interval=60000,timeout=200,fall=2";
  const detector = hosts.pipe("a", "piped", "detect", "--probe", probe, "--on", "suspect");
  await detector.next("up");
  await hosts.link("down");
  const begin = performance.now();
  const suspect = foreign("suspect", "gateway", { target: "10.99.0.2", reason: "unanswered" });
  await detector.write(suspect);
  const failed = await detector.next("failed");
  assert.equal(failed.target, "10.99.0.2");
  assert.ok(performance.now() - begin < 10_000);
  assert.ok(detector.events.some((event) => JSON.stringify(event) === suspect), "it passes");
  await detector.endInput();
  assert.equal((await detector.end("SIGTERM")).code, 0);
});
