import assert from "node:assert/strict";
import type { Event } from "../../lib/event.ts";
import { isRoot, type Process, TwoHosts } from "./two_hosts.ts";

const NAMED = ["--target", "primary", "--stats", "0.1"];
const PEER = ["detect", "--peer", "10.99.0.2", ...NAMED];
/** Heartbeats that a machine which is busy for a moment does not miss: half a second. */
const PATIENT = ["--interval", "50", "--multiplier", "10", "--suspect", "8"];

/** A test that needs root. */
function onHosts(name: string, fn: (hosts: TwoHosts) => Promise<void>, ignore = false): void {
  Deno.test({ name, ignore: ignore || !isRoot, fn: () => TwoHosts.with(fn) });
}

/** Microseconds since the epoch of an event's time. */
function micros(time: unknown): number {
  const text = String(time);
  return Date.parse(`${text.slice(0, 19)}Z`) * 1000 + Number(text.slice(20, 26));
}

function checkFailed(failed: Event, cause: string, detectionMs: number): void {
  assert.equal(failed.target, "primary");
  assert.equal(failed.level, "host");
  assert.equal(failed.cause, cause);
  const measured = failed.detection_ms as number;
  const message = `detected after ${measured} ms`;
  assert.ok(measured >= detectionMs && measured < detectionMs + 2000, message);
  const silence = (micros(failed.time) - micros(failed.last_seen)) / 1000;
  assert.ok(Math.abs(silence - measured) < 1000, "the times agree with the measure");
}

/** Waits until the session is up and has settled on its detection time: it begins with a second an interval. */
async function settled(detector: Process, detectionMs: number): Promise<void> {
  await detector.next("up");
  for (let seen = 0;; seen += 1) {
    const stats = await detector.next("stats", seen);
    seen = detector.events.indexOf(stats);
    const [session] = stats.sessions as { detection_time_ms: number }[];
    if (session?.detection_time_ms === detectionMs) return;
  }
}

onHosts("detect on hosts: up, cut, back, and a planned end", async (hosts) => {
  const responder = hosts.start("b", "detect", "--respond");
  await responder.next("started");
  const detector = hosts.start("a", ...PEER, ...PATIENT);
  assert.deepEqual((await detector.next("started")).peers, ["10.99.0.2"]);
  await settled(detector, 500);
  const cut = Date.now() * 1000;
  await hosts.link("down");
  const failed = await detector.next("failed");
  checkFailed(failed, "unplanned", 500);
  assert.ok(micros(failed.last_seen) >= cut - 1_000_000, "the last packet was just before the cut");
  const at = detector.events.indexOf(failed);
  const before = detector.events.slice(0, at).findLast(({ type }) => type !== "stats");
  assert.equal(before?.type, "suspect");
  await hosts.link("up");
  assert.equal((await detector.next("recovered", at)).after, "failed");
  const seen = detector.events.length;
  assert.equal((await responder.end("SIGTERM")).code, 0);
  checkFailed(await detector.next("failed", seen), "planned", 0);
  assert.equal((await detector.end("SIGTERM")).code, 0);
  assert.equal(detector.stderr, "");
});

onHosts("detect on hosts: SIGKILL of the responder is an unplanned failure", async (hosts) => {
  const responder = hosts.start("b", "detect", "--respond", "--peer", "10.99.0.1");
  await responder.next("started");
  const detector = hosts.start("a", ...PEER, ...PATIENT);
  await settled(detector, 500);
  await responder.end("SIGKILL");
  checkFailed(await detector.next("failed"), "unplanned", 500);
  const seen = detector.events.length;
  const again = hosts.start("b", "detect", "--respond");
  await again.next("started");
  await detector.next("recovered", seen);
});

onHosts("detect on hosts: the end of a detector is no event to the responder", async (hosts) => {
  const responder = hosts.start("b", "detect", "--respond", "--stats", "0.5");
  await responder.next("started");
  const detector = hosts.start("a", ...PEER);
  await detector.next("up");
  assert.equal((await detector.end("SIGINT")).code, 0);
  const seen = responder.events.length;
  await responder.next("stats", seen + 1);
  const types = new Set(responder.events.map(({ type }) => type));
  assert.deepEqual([...types], ["started", "stats"]);
  const [session] = responder.events.at(-1)!.sessions as { state: string }[];
  assert.equal(session?.state, "Down");
});

const IPV6 = {
  "fd99::2": ["--local", "fd99::1"],
  "fe80::2": ["--local", "fe80::1", "--interface", "link0"],
  "fe80::2%link0": [],
};

for (const [peer, more] of Object.entries(IPV6)) {
  onHosts(`detect on hosts: IPv6 ${peer} ${more.join(" ")}`, async (hosts) => {
    const responder = hosts.start("b", "detect", "--respond");
    await responder.next("started");
    const detector = hosts.start("a", "detect", "--peer", peer, ...more, ...NAMED, ...PATIENT);
    await settled(detector, 500);
    await hosts.link("down");
    checkFailed(await detector.next("failed"), "unplanned", 500);
    await hosts.link("up");
    await detector.next("recovered");
  });
}

onHosts("detect on hosts: multihop, and authenticated", async (hosts) => {
  const keyFile = await Deno.makeTempFile({ prefix: "t2cp-test-" });
  try {
    await Deno.writeTextFile(keyFile, "a key of the test\n");
    const type = ["--multihop", "--auth-type", "meticulous-keyed-sha1", "--auth-key-id", "9"];
    const key = [...type, "--auth-key-file", keyFile];
    const responder = hosts.start("b", "detect", "--respond", "--stats", "0.2", ...key);
    const { port, auth_type } = await responder.next("started");
    assert.deepEqual([port, auth_type], [4784, "meticulous-keyed-sha1"]);
    const stranger = hosts.start("a", ...PEER, "--multihop", "--local", "10.99.0.1");
    assert.match(String((await responder.next("warning")).message), /: it is not authenticated$/);
    await stranger.end("SIGTERM");
    assert.ok(!stranger.events.some(({ type }) => type === "up"));
    const detector = hosts.start("a", ...PEER, ...PATIENT, ...key);
    await settled(detector, 500);
    await hosts.link("down");
    checkFailed(await detector.next("failed"), "unplanned", 500);
    await hosts.link("up");
    await detector.next("recovered");
    await Deno.chmod(keyFile, 0o644);
    const open = hosts.start("a", ...PEER, ...key);
    assert.equal((await open.status).code, 77);
  } finally {
    await Deno.remove(keyFile);
  }
});

onHosts("detect on hosts: a port in use and a foreign address are named", async (hosts) => {
  const first = hosts.start("b", "detect", "--respond");
  await first.next("started");
  const second = hosts.start("b", "detect", "--respond");
  assert.equal((await second.status).code, 75);
  const third = hosts.start("a", "detect", "--peer", "10.99.0.2", "--local", "10.99.0.77");
  assert.equal((await third.status).code, 69);
  const fourth = hosts.start("a", "detect", "--peer", "10.99.0.2", "--interface", "none-such0");
  assert.equal((await fourth.status).code, 66);
  for (
    const [process, message] of [
      [second, /^t2cp detect: UDP port 3784 is in use; /],
      [third, /^t2cp detect: This host has no address "10.99.0.77"; /],
      [fourth, /^t2cp detect: Interface "none-such0" does not exist; /],
    ] as const
  ) {
    await process.end("SIGTERM");
    assert.match(process.stderr, message);
    assert.equal(process.stderr.split("\n").length, 2, "one line");
    assert.deepEqual(process.events, []);
  }
});

async function hasTshark(): Promise<boolean> {
  try {
    return (await new Deno.Command("tshark", { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

onHosts("detect on hosts: tshark understands every packet", async (hosts) => {
  const responder = hosts.start("b", "detect", "--respond");
  await responder.next("started");
  const fields = ["bfd.sta", "bfd.my_discriminator", "bfd.desired_min_tx_interval", "ip.ttl"];
  const capturing = hosts.output(
    "b",
    ...["tshark", "-i", "link0", "-f", "udp port 3784", "-c", "60", "-a", "duration:60"],
    ...["-T", "fields", "-E", "separator=,"],
    ...[...fields, "_ws.malformed", "udp.srcport"].flatMap((field) => ["-e", field]),
  );
  const detector = hosts.start("a", ...PEER);
  await detector.next("up");
  const rows = (await capturing).trim().split("\n").map((row) => row.split(","));
  assert.ok(rows.length > 20);
  for (const [state, discriminator, interval, ttl, malformed, sourcePort] of rows) {
    assert.match(state!, /^0x0[0-3]$/);
    assert.notEqual(Number(discriminator), 0);
    assert.ok(Number(interval) > 0);
    assert.equal(ttl, "255");
    assert.equal(malformed, "");
    assert.ok(Number(sourcePort) >= 49152);
  }
}, !await hasTshark());
