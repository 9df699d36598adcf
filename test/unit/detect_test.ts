import assert from "node:assert/strict";
import { Diag, emptyPacket, State } from "../../lib/bfd/packet.ts";
import type { Event } from "../../lib/event.ts";
import { parseEvent } from "../../lib/event.ts";
import { PEER, run, udpAddress, VirtualNetwork } from "./detect_network.ts";

const SECOND = 1_000_000;

function types(events: readonly Event[]): string[] {
  return events.map(({ type }) => type);
}

function only(events: readonly Event[], type: string): Event {
  const found = events.filter((event) => event.type === type);
  assert.equal(found.length, 1, `one ${type} in ${types(events)}`);
  return found[0]!;
}

/** A packet that asks for a session. */
function asking(myDiscriminator: number) {
  return {
    ...emptyPacket(),
    state: State.Down,
    detectMult: 3,
    myDiscriminator,
    desiredMinTxInterval: SECOND,
    requiredMinRxInterval: 50_000,
  };
}

Deno.test("detect: up, suspect and failed, each at its time, and recovered", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND, () => network.cut = true);
  network.at(4 * SECOND, () => network.cut = false);
  const events = await run(network, 8 * SECOND, {});
  assert.deepEqual(types(events), ["up", "suspect", "failed", "recovered"]);
  const failed = only(events, "failed");
  assert.equal(failed.target, "primary");
  assert.equal(failed.level, "host");
  assert.equal(failed.cause, "unplanned");
  assert.equal(failed.detection_ms, 150);
  assert.deepEqual(failed.evidence, [{
    signal: "bfd",
    last: failed.last_seen,
    state: "Down",
    diag: "Control Detection Time Expired",
  }]);
  assert.equal(only(events, "suspect").last_seen !== undefined, true);
  assert.equal(only(events, "recovered").after, "failed");
  for (const event of events) assert.equal(typeof parseEvent(JSON.stringify(event)), "object");
});

Deno.test("detect: a host that goes AdminDown has failed as planned, at once", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER);
  network.at(2 * SECOND, () => session.disable(network.now));
  const events = await run(network, 4 * SECOND, {});
  assert.deepEqual(types(events), ["up", "failed"]);
  const failed = only(events, "failed");
  assert.equal(failed.cause, "planned");
  assert.equal(failed.detection_ms, 0);
  const [evidence] = failed.evidence as { state: string; diag: string }[];
  assert.equal(evidence!.state, "AdminDown");
  assert.equal(evidence!.diag, "Administratively Down");
});

Deno.test("detect: a late packet makes a suspect that recovers, never a failure", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND, () => network.cut = true);
  network.at(2 * SECOND + 100_000, () => network.cut = false);
  const events = await run(network, 4 * SECOND, {});
  assert.deepEqual(types(events), ["up", "suspect", "recovered"]);
  assert.equal(only(events, "recovered").after, "suspect");
});

Deno.test("detect: a detector that itself was late takes what waits before it judges", async () => {
  const network = new VirtualNetwork();
  network.host(PEER, { detectMult: 3, requiredMinRxInterval: SECOND });
  network.at(2 * SECOND, () => network.oversleep = SECOND);
  network.at(3 * SECOND - 1, () => network.oversleep = 0);
  const events = await run(network, 6 * SECOND, {});
  assert.deepEqual(types(events), ["up"]);
});

Deno.test("detect: a peer that missed a detector that was late is a suspect at most", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND, () => network.oversleep = SECOND);
  network.at(3 * SECOND - 1, () => network.oversleep = 0);
  const events = await run(network, 6 * SECOND, {});
  assert.deepEqual(types(events), ["up", "suspect", "recovered"]);
});

Deno.test("detect: a peer that stays down after the detector was late has failed", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND, () => network.oversleep = SECOND);
  network.at(3 * SECOND - 1, () => network.oversleep = 0);
  network.at(2 * SECOND + 300_000, () => network.cut = true);
  const events = await run(network, 6 * SECOND, {});
  assert.deepEqual(types(events), ["up", "suspect", "failed"]);
});

Deno.test("detect: a peer that misses packets sent in time has failed", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER);
  network.at(2 * SECOND, () => session.receive = () => undefined);
  const events = await run(network, 3 * SECOND, {});
  assert.deepEqual(types(events), ["up", "failed"]);
  const [evidence] = only(events, "failed").evidence as { state: string; diag: string }[];
  assert.equal(evidence!.state, "Down");
  assert.equal(evidence!.diag, "Control Detection Time Expired");
});

Deno.test("detect: a machine that stood still as a whole fails nobody", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER);
  // Both clocks run on, neither process does.
  network.at(2 * SECOND, () => {
    network.now += SECOND;
    session.excuse(network.now);
  });
  const events = await run(network, 6 * SECOND, {});
  assert.deepEqual(types(events), ["up"]);
});

Deno.test("detect: a detector that was late gives a dead peer one interval more", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND, () => {
    network.cut = true;
    network.oversleep = SECOND;
  });
  network.at(2 * SECOND + 900_000, () => network.oversleep = 0);
  const events = await run(network, 4 * SECOND, {});
  assert.deepEqual(types(events), ["up", "suspect", "failed"]);
  const silence = only(events, "failed").detection_ms as number;
  assert.ok(silence > 900 && silence < 1150, `after ${silence} ms`);
});

Deno.test("detect: suspects can be turned off", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND, () => network.cut = true);
  const events = await run(
    network,
    3 * SECOND,
    {},
    (detector) => detector.watch(udpAddress(PEER), PEER, "primary", 0),
  );
  assert.deepEqual(types(events), ["up", "failed"]);
});

Deno.test("detect: the stop tells the peer, and is no failure to anyone here", async () => {
  const network = new VirtualNetwork();
  const { session, received } = network.host(PEER);
  const events = await run(network, 2 * SECOND, {});
  assert.deepEqual(types(events), ["up"]);
  assert.equal(session.remoteSessionState, State.AdminDown);
  assert.equal(session.remoteDiag, Diag.AdministrativelyDown);
  const last = received.at(-1)!;
  assert.equal(last.diag, Diag.AdministrativelyDown);
  assert.ok(network.now < 3 * SECOND + 10_000, "the peer confirms at once");
  assert.equal(network.senders, 0);
  assert.ok(network.closed);
});

Deno.test("detect: the stop waits no longer than a Detection Time for a dead peer", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  network.at(2 * SECOND - 1000, () => network.cut = true);
  await run(network, 2 * SECOND, {});
  assert.ok(network.now <= 3 * SECOND + 150_000);
});

Deno.test("detect: a peer that never answers gives one warning, no failure", async () => {
  const events = await run(new VirtualNetwork(), 20 * SECOND, {});
  assert.deepEqual(types(events), ["warning"]);
  assert.match(String(events[0]!.message), /No answer from "192.0.2.2" yet; run "t2cp detect/);
});

Deno.test("detect: a peer whose timers are slower than asked for gives one warning", async () => {
  const network = new VirtualNetwork();
  network.host(PEER, { desiredMinTxInterval: 400_000 });
  const events = await run(network, 20 * SECOND, {});
  assert.deepEqual(types(events), ["up", "warning"]);
  assert.match(String(events[1]!.message), /after 1200 ms instead of 150/);
});

Deno.test("detect: routed, malformed and foreign packets are counted, and told of once", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  const packet = { ...asking(5), yourDiscriminator: 12345 };
  for (let i = 0; i < 10; i++) {
    network.at(SECOND + i * 1000, () => {
      network.inject(asking(1), PEER, { ttl: 254 });
      network.inject(asking(1), PEER, { ttl: -1 });
      network.inject(new Uint8Array(10), PEER);
      network.inject(asking(9), "192.0.2.66");
      network.inject(packet, PEER);
    });
  }
  const events = await run(network, 3 * SECOND, { statsInterval: 2 * SECOND });
  assert.deepEqual(types(events), ["up", "warning", "warning", "warning", "warning", "stats"]);
  assert.deepEqual(only(events, "stats").discarded, {
    "ttl": 20,
    "truncated": 10,
    "unknown-peer": 10,
    "unknown-discriminator": 10,
  });
});

Deno.test("detect: the discriminator of one peer is of no use to another", async () => {
  const network = new VirtualNetwork();
  const { received } = network.host(PEER);
  network.at(2 * SECOND, () => {
    const stolen = received.at(-1)!.myDiscriminator;
    network.inject({ ...asking(7), yourDiscriminator: stolen }, "192.0.2.66");
  });
  const events = await run(network, 3 * SECOND, {});
  assert.deepEqual(types(events), ["up", "warning"]);
});

Deno.test("detect: several targets are judged each by itself", async () => {
  const network = new VirtualNetwork();
  network.host(PEER);
  const other = network.host("192.0.2.3", { localDiscr: 8 });
  network.at(2 * SECOND, () => other.session.disable(network.now));
  const events = await run(network, 3 * SECOND, {}, (detector) => {
    detector.watch(udpAddress(PEER), PEER, "one", 1.5);
    detector.watch(udpAddress("192.0.2.3"), "192.0.2.3", "two", 1.5);
  });
  assert.deepEqual(events.map(({ type, target }) => [type, target]), [
    ["up", "one"],
    ["up", "two"],
    ["failed", "two"],
  ]);
});

const answering = { allowed: [], limit: 4 };

Deno.test("respond: any peer gets a session by its own timers, and no verdict", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER, { role: "active", detectMult: 7 });
  let heard: [number, number] | undefined;
  network.at(3 * SECOND, () => {
    heard = [session.sessionState, session.detectionTime];
    network.cut = true;
  });
  const timers = { desiredMinTxInterval: 10_000, requiredMinRxInterval: 10_000, detectMult: 1 };
  const events = await run(network, 5 * SECOND, { answering, timers }, () => {});
  assert.deepEqual(heard, [State.Up, 7 * 50_000]);
  assert.deepEqual(types(events), []);
  assert.equal(network.senders, 0, "the session went a Detection Time after its peer");
});

Deno.test("respond: the stop is announced as planned", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER, { role: "active" });
  await run(network, 2 * SECOND, { answering }, () => {});
  assert.equal(session.remoteSessionState, State.AdminDown);
  assert.equal(session.localDiag, Diag.NeighborSignaledSessionDown);
});

Deno.test("respond: only the peers that are allowed get a session", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER, { role: "active" });
  const stranger = network.host("192.0.2.66", { role: "active", localDiscr: 9 });
  let states: State[] = [];
  network.at(2 * SECOND, () => {
    states = [session.sessionState, stranger.session.sessionState];
  });
  const allowed = { allowed: [udpAddress(PEER)], limit: 4 };
  const events = await run(network, 3 * SECOND, { answering: allowed }, () => {});
  assert.deepEqual(states, [State.Up, State.Down]);
  assert.equal(stranger.received.length, 0);
  assert.match(String(only(events, "warning").message), /"192.0.2.66": its sender is no peer/);
});

Deno.test("respond: a flood of unknown peers costs no session that is up, and ends by itself", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER, { role: "active" });
  let most = 0;
  for (let i = 0; i < 2000; i++) {
    network.at(SECOND + i * 500, () => {
      network.inject(asking(1000 + i), `198.51.100.${i % 250 + 1}`);
      most = Math.max(most, network.senders);
    });
  }
  let after: State | undefined;
  network.at(2 * SECOND, () => after = session.sessionState);
  const options = { answering, statsInterval: 20 * SECOND };
  const events = await run(network, 21 * SECOND, options, () => {});
  assert.equal(after, State.Up);
  assert.equal(most, 4);
  const { sessions } = only(events, "stats") as unknown as { sessions: { state: string }[] };
  assert.deepEqual(sessions.map(({ state }) => state), ["Up"]);
});

Deno.test("respond: where all sessions are up, another peer is refused and counted", async () => {
  const network = new VirtualNetwork();
  const hosts = [1, 2, 3].map((i) =>
    network.host(`192.0.2.${i}`, { role: "active", localDiscr: i })
  );
  let up = 0;
  network.at(5 * SECOND, () => {
    up = hosts.filter(({ session }) => session.sessionState === State.Up).length;
  });
  const options = { answering: { allowed: [], limit: 2 }, statsInterval: 6 * SECOND };
  const events = await run(network, 7 * SECOND, options, () => {});
  assert.equal(up, 2);
  const discarded = only(events, "stats").discarded as Record<string, number>;
  assert.ok(discarded["too-many-sessions"]! >= 2);
  const warnings = events.filter(({ type }) => type === "warning").map(({ message }) => message);
  assert.ok(warnings.some((text) => /as many sessions as there may be/.test(String(text))));
});

Deno.test("respond: packets to multicast groups start no session", async () => {
  const network = new VirtualNetwork();
  const destination = new Uint8Array(16);
  destination.set([0xff, 2]);
  network.at(SECOND, () => network.inject(asking(3), PEER, { destination }));
  const events = await run(network, 2 * SECOND, { answering }, () => {});
  assert.match(String(only(events, "warning").message), /multicast/);
  assert.equal(network.senders, 0);
});

Deno.test("detect: of many targets, one failure is late by a hundredth of the interval at most", async () => {
  const network = new VirtualNetwork();
  const addresses = Array.from({ length: 100 }, (_, i) => `192.0.2.${i + 100}`);
  addresses.forEach((address, i) => network.host(address, { localDiscr: i + 1 }));
  network.at(3 * SECOND, () => network.cut = true);
  const events = await run(network, 4 * SECOND, {}, (detector) => {
    for (const address of addresses) detector.watch(udpAddress(address), address, address, 0);
  });
  const failed = events.filter(({ type }) => type === "failed");
  assert.equal(failed.length, 100);
  for (const { detection_ms } of failed) {
    const late = detection_ms as number - 150;
    assert.ok(late >= -0.5 && late <= 0.501, `${late} ms late`);
  }
});
