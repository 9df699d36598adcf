import assert from "node:assert/strict";
import type { Detector } from "../../lib/detect/detector.ts";
import { type Event, parseEvent } from "../../lib/event.ts";
import { parseProbe } from "../../lib/probe/spec.ts";
import { PEER, run, udpAddress, VirtualNetwork } from "./detect_network.ts";

const SECOND = 1_000_000;

/** A service that a test makes good or bad, and how often it was asked. */
class Service {
  /** Why attempts fail; `"hang"` where they never end. */
  reason: string | undefined;
  /** When it was asked, microseconds since the start. */
  readonly asked: number[] = [];
  readonly #network: VirtualNetwork;

  constructor(network: VirtualNetwork) {
    this.#network = network;
  }

  /** Sets `reason` at `micros` after the start. */
  becomes(micros: number, reason: string | undefined): this {
    this.#network.at(micros, () => this.reason = reason);
    return this;
  }

  readonly attempt = (signal: AbortSignal): Promise<string | undefined> => {
    this.asked.push(this.#network.now - SECOND);
    if (this.reason !== "hang") return Promise.resolve(this.reason);
    return new Promise((resolve) => signal.addEventListener("abort", () => resolve("aborted")));
  };
}

function probing(service: Service, options = "", withPeer = false) {
  return (detector: Detector): void => {
    if (withPeer) detector.watch(udpAddress(PEER), PEER, "primary", 1.5);
    const spec = parseProbe(`tcp://${PEER}:80${options}`);
    detector.probe(spec, service.attempt, "primary", true);
  };
}

function types(events: readonly Event[]): string[] {
  for (const event of events) assert.equal(typeof parseEvent(JSON.stringify(event)), "object");
  return events.map(({ type }) => type);
}

Deno.test("probe: `fall` failures in a row make it dead, `rise` good ones bring it back", async () => {
  const network = new VirtualNetwork();
  const service = new Service(network).becomes(2_500_000, "refused").becomes(8_500_000, undefined);
  const options = ",interval=1000,fall=3,rise=2";
  const events = await run(network, 15 * SECOND, {}, probing(service, options));
  assert.deepEqual(types(events), ["up", "suspect", "failed", "recovered"]);
  const failed = events[2]!;
  assert.deepEqual([failed.level, failed.cause, failed.flaps], ["application", "unplanned", 0]);
  const [evidence] = failed.evidence as Record<string, unknown>[];
  assert.equal(evidence!.signal, "tcp");
  assert.equal(evidence!.probe, `tcp://${PEER}:80`);
  assert.equal(evidence!.state, "dead");
  assert.equal(evidence!.reason, "refused");
  assert.equal(evidence!.last, failed.last_seen);
  assert.equal(failed.detection_ms, 3000);
  assert.equal(events[3]!.after, "failed");
  const bad = service.asked.filter((at) => at > 2_500_000 && at < 8_500_000);
  assert.equal((events[3]!.lasted_ms as number) / 1000, bad.length - 3 + 2);
});

Deno.test("probe: fewer failures than `fall` make a suspect at most", async () => {
  const network = new VirtualNetwork();
  const service = new Service(network).becomes(2_500_000, "refused").becomes(4_400_000, undefined);
  const events = await run(network, 9 * SECOND, {}, probing(service, ",fall=3"));
  assert.deepEqual(types(events), ["up", "suspect", "recovered"]);
});

Deno.test("probe: what hangs is ended by the timeout, and counted", async () => {
  const network = new VirtualNetwork();
  const service = new Service(network).becomes(2_500_000, "hang");
  const options = ",interval=500,timeout=200,fall=2";
  const prepare = probing(service, options);
  const events = await run(network, 6 * SECOND, { statsInterval: 5 * SECOND }, prepare);
  assert.deepEqual(types(events), ["up", "suspect", "failed", "stats"]);
  assert.equal(events[2]!.detection_ms, 500 + 500 + 200);
  const [evidence] = events[2]!.evidence as Record<string, unknown>[];
  assert.equal(evidence!.reason, "No answer within 200 ms");
  const [probe] = events[3]!.probes as Record<string, unknown>[];
  const sent = service.asked.filter((at) => at < 5 * SECOND);
  assert.equal(probe!.sent, sent.length);
  assert.equal(probe!.timeouts, probe!.failed);
  assert.equal(probe!.ok, sent.filter((at) => at < 2_500_000).length);
});

Deno.test("probe: an attempt that never ends is not doubled", async () => {
  const network = new VirtualNetwork();
  const service = new Service(network);
  const stuck = Promise.withResolvers<string>();
  let opened = 0;
  network.at(2_500_000, () => {
    service.reason = "hang";
  });
  network.at(9 * SECOND, () => {
    opened = open;
    stuck.resolve("late");
  });
  let open = 0;
  const attempt = (signal: AbortSignal): Promise<string | undefined> => {
    if (service.reason !== "hang") return service.attempt(signal);
    open++;
    return stuck.promise;
  };
  const events = await run(network, 10 * SECOND, {}, (detector) => {
    detector.probe(parseProbe(`tcp://${PEER}:80,fall=2`), attempt, "primary", true);
  });
  assert.ok(types(events).includes("failed"));
  assert.equal(opened, 1);
});

Deno.test("probe: one that was never good fails nobody, and a warning says why, once", async () => {
  const network = new VirtualNetwork();
  const service = new Service(network);
  service.reason = "refused";
  const events = await run(network, 9 * SECOND, {}, probing(service));
  assert.deepEqual(types(events), ["warning"]);
  assert.match(String(events[0]!.message), /has not been good yet.*: refused$/);
});

Deno.test("verdict: a dead probe beside a live heartbeat is the application's failure", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  const service = new Service(network).becomes(2_500_000, "refused").becomes(5_500_000, undefined);
  const prepare = probing(service, ",interval=100,fall=2", true);
  const events = await run(network, 8 * SECOND, {}, prepare);
  assert.deepEqual(types(events), ["up", "suspect", "failed", "recovered"]);
  const failed = events[2]!;
  assert.equal(failed.level, "application");
  const [bfd, probe] = failed.evidence as Record<string, unknown>[];
  assert.deepEqual([bfd!.signal, bfd!.state], ["bfd", "Up"]);
  assert.deepEqual([probe!.signal, probe!.state], ["tcp", "dead"]);
  assert.ok(String(bfd!.last) >= String(probe!.last));
  assert.equal(failed.last_seen, bfd!.last);
});

Deno.test("verdict: a lost heartbeat is the host's failure, whatever the probes say", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  const service = new Service(network).becomes(2_500_000, "hang").becomes(5_500_000, undefined);
  network.at(2_500_000, () => network.cut = true);
  network.at(4_500_000, () => network.cut = false);
  const prepare = probing(service, ",interval=1000,fall=3", true);
  const events = await run(network, 12 * SECOND, {}, prepare);
  assert.deepEqual(types(events), ["up", "suspect", "failed", "recovered"]);
  assert.equal(events[2]!.level, "host");
  assert.ok(events[3]!.lasted_ms as number > 2500, "the probe was bad, too");
});

Deno.test("verdict: a probe that is faster says application first, the heartbeat then host", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  const service = new Service(network).becomes(2_500_000, "refused");
  network.at(2_500_000, () => network.cut = true);
  const prepare = probing(service, ",interval=20,fall=2", true);
  const events = await run(network, 5 * SECOND, {}, prepare);
  assert.deepEqual(types(events), ["up", "suspect", "failed", "failed"]);
  assert.deepEqual(events.slice(2).map(({ level }) => level), ["application", "host"]);
});

Deno.test("verdict: AdminDown is planned, and hides a dead probe", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER);
  const service = new Service(network).becomes(2_500_000, "refused");
  network.at(2_500_000, () => session.disable(network.now));
  const events = await run(network, 9 * SECOND, {}, probing(service, "", true));
  assert.deepEqual(types(events), ["up", "failed"]);
  assert.deepEqual([events[1]!.level, events[1]!.cause], ["host", "planned"]);
});

Deno.test("hold-down: a target has recovered once it was good for so long; failures do not wait", async () => {
  const network = new VirtualNetwork();
  // Bad from 2 to 3, 4 to 5, 6 to 7 and 20 to 21 seconds.
  const service = new Service(network);
  for (const from of [2, 4, 6, 20]) {
    service.becomes(from * SECOND + 50_000, "refused");
    service.becomes((from + 1) * SECOND + 50_000, undefined);
  }
  const prepare = probing(service, ",interval=100,fall=1,rise=1");
  const options = { holdDown: 3 * SECOND, statsInterval: 23 * SECOND };
  const events = await run(network, 24 * SECOND, options, prepare);
  assert.deepEqual(types(events), ["up", "failed", "recovered", "failed", "stats"]);
  assert.deepEqual(events.slice(1, 4).map(({ flaps }) => flaps), [0, 2, 3]);
  const lasted = events[2]!.lasted_ms as number;
  assert.ok(lasted > 7900 && lasted < 8200, `${lasted} ms`);
  const [target] = events[4]!.targets as Record<string, unknown>[];
  assert.deepEqual(target, { target: "primary", state: "failed", flaps: 3 });
});
