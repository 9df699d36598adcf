import assert from "node:assert/strict";
import fc from "fast-check";
import { type ControlPacket, Diag, emptyPacket, State } from "../../lib/bfd/packet.ts";
import { Session, SLOW_INTERVAL } from "../../lib/bfd/session.ts";
import { seeded, type Sent, VirtualLink } from "./bfd_link.ts";

const SECOND = 1_000_000;

/** A session whose packets are collected, and a packet from its peer. */
function alone(options: Partial<ConstructorParameters<typeof Session>[0]> = {}) {
  const sent: ControlPacket[] = [];
  const session = new Session({
    localDiscr: 11,
    role: "active",
    desiredMinTxInterval: 50_000,
    requiredMinRxInterval: 50_000,
    detectMult: 3,
    random: seeded(1),
    send: (packet) => sent.push({ ...packet }),
    ...options,
  });
  return { session, sent };
}

function fromPeer(fields: Partial<ControlPacket>): ControlPacket {
  return {
    ...emptyPacket(),
    state: State.Down,
    detectMult: 3,
    myDiscriminator: 22,
    yourDiscriminator: 11,
    desiredMinTxInterval: 50_000,
    requiredMinRxInterval: 50_000,
    ...fields,
  };
}

/** A session that was brought to `state` by packets, at time 0. */
function inState(state: State, options: Parameters<typeof alone>[0] = {}) {
  const made = alone(options);
  const { session } = made;
  session.tick(0);
  if (state === State.Init) session.receive(fromPeer({ state: State.Down }), 0);
  if (state === State.Up) session.receive(fromPeer({ state: State.Init }), 0);
  if (state === State.AdminDown) session.disable(0);
  assert.equal(session.sessionState, state);
  made.sent.length = 0;
  return made;
}

Deno.test("session: transitions are those of RFC 5880 section 6.8.6", () => {
  const { AdminDown, Down, Init, Up } = State;
  // Rows: our state; columns: the received AdminDown, Down, Init, Up.
  const table: [State, State[]][] = [
    [AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown]],
    [Down, [Down, Init, Up, Down]],
    [Init, [Down, Init, Up, Up]],
    [Up, [Down, Down, Up, Up]],
  ];
  for (const [from, row] of table) {
    for (const received of [AdminDown, Down, Init, Up]) {
      const { session } = inState(from);
      session.receive(fromPeer({ state: received }), 10);
      assert.equal(session.sessionState, row[received], `${from} receives ${received}`);
      if (from !== Down && session.sessionState === Down) {
        assert.equal(session.localDiag, Diag.NeighborSignaledSessionDown);
      }
    }
  }
});

Deno.test("session: active and passive come up, and agree on the timers", () => {
  const link = new VirtualLink();
  link.run(10_000);
  assert.ok(link.bothUp, "one exchange is enough");
  link.run(SECOND);
  for (const session of [link.a, link.b]) {
    assert.equal(session.transmitInterval, 50_000);
    assert.equal(session.detectionTime, 150_000);
    assert.equal(session.polling, false);
    assert.equal(session.localDiag, Diag.None);
  }
});

Deno.test("session: the passive side is silent until it hears a peer", () => {
  const link = new VirtualLink();
  link.fate = () => undefined;
  link.run(5 * SECOND);
  assert.equal(link.sent.b.length, 0);
  assert.ok(link.sent.a.length >= 5);
});

Deno.test("session: packets are slow while not up, and advertise at least a second", () => {
  const link = new VirtualLink();
  link.fate = () => undefined;
  link.run(20 * SECOND);
  for (const { packet } of link.sent.a) assert.ok(packet.desiredMinTxInterval >= SLOW_INTERVAL);
  for (const gap of gaps(link.sent.a)) assert.ok(gap >= 0.75 * SECOND && gap <= SECOND);
});

function gaps(sent: readonly Sent[]): number[] {
  return sent.slice(1).map(({ at }, i) => at - sent[i]!.at);
}

Deno.test("session: jitter leaves 75 to 100 % of the interval, 75 to 90 % with multiplier 1", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1_000, max: 2 * SECOND }),
      fc.constantFrom(1, 2, 3, 255),
      fc.integer(),
      (interval, detectMult, seed) => {
        const timers = { desiredMinTxInterval: interval, requiredMinRxInterval: 1_000, detectMult };
        const link = new VirtualLink(timers, { requiredMinRxInterval: 1_000 }, seed);
        // An interval of one packet does not survive the delay of the link otherwise.
        link.fate = () => 1;
        link.bringUp();
        const from = link.sent.a.length;
        link.run(40 * interval);
        const measured = gaps(link.sent.a.slice(from).filter(({ packet }) => !packet.final));
        assert.ok(measured.length >= 38);
        const most = detectMult === 1 ? 0.9 : 1;
        for (const gap of measured) {
          assert.ok(gap >= 0.75 * interval - 1 && gap <= most * interval + 1);
        }
        const mean = measured.reduce((sum, gap) => sum + gap, 0) / measured.length;
        assert.ok(Math.abs(mean / interval - (0.75 + most) / 2) < 0.05, "jitter is spread");
      },
    ),
    { numRuns: 50 },
  );
});

Deno.test("session: a cut link is detected exactly after the Detection Time", () => {
  const interval = fc.integer({ min: 5_000, max: 2 * SECOND });
  const multiplier = fc.integer({ min: 1, max: 20 });
  fc.assert(
    fc.property(
      fc.tuple(interval, interval, multiplier),
      fc.tuple(interval, interval, multiplier),
      fc.integer(),
      ([tx, rx, mult], [remoteTx, remoteRx, remoteMult], seed) => {
        const link = new VirtualLink(
          { desiredMinTxInterval: tx, requiredMinRxInterval: rx, detectMult: mult },
          {
            desiredMinTxInterval: remoteTx,
            requiredMinRxInterval: remoteRx,
            detectMult: remoteMult,
          },
          seed,
        );
        link.bringUp();
        link.run(10 * Math.max(tx, rx, remoteTx, remoteRx));
        assert.ok(link.bothUp);
        const expected = remoteMult * Math.max(rx, remoteTx);
        assert.equal(link.a.detectionTime, expected);
        const last = link.a.lastReceived!;
        link.fate = () => undefined;
        link.changes.length = 0;
        link.run(expected + link.b.detectionTime + SECOND);
        const down = link.changes.find(({ end }) => end === "a")!;
        // What was in flight at the cut may still arrive, one delay later.
        assert.ok(down.at >= last + expected && down.at <= last + expected + 100);
        assert.equal(link.a.localDiag, Diag.ControlDetectionTimeExpired);
        assert.equal(link.a.remoteDiscr, 0);
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("session: no end stays up alone for longer than the Detection Times allow", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 95 }),
      fc.integer({ min: 0, max: 95 }),
      fc.integer({ min: 0, max: 120_000 }),
      fc.integer(),
      (lossA, lossB, jitter, seed) => {
        const random = seeded(seed);
        const link = new VirtualLink({}, {}, seed);
        link.fate = (from) =>
          random() * 100 < (from === "a" ? lossA : lossB)
            ? undefined
            : 1 + Math.floor(random() * jitter);
        let since: number | undefined;
        // Each end hears of the other's fall, or misses it for its own Detection Time; that is
        // three slow intervals at most.
        const bound = 2 * 3 * SLOW_INTERVAL + 2 * jitter;
        link.observe = () => {
          const ends = [link.a, link.b].filter(({ sessionState }) => sessionState === State.Up);
          if (ends.length !== 1) since = undefined;
          else since ??= link.now;
          assert.ok(since === undefined || link.now - since <= bound);
        };
        link.run(60 * SECOND);
        link.fate = () => 100;
        link.run(8 * SECOND);
        assert.ok(link.bothUp, "a healed link comes up again");
      },
    ),
    { numRuns: 150 },
  );
});

Deno.test("session: after a total cut no end is up for longer than its Detection Time", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3 * SECOND }), fc.integer(), (at, seed) => {
      const link = new VirtualLink({}, {}, seed);
      link.run(at);
      link.fate = () => undefined;
      link.observe = () => {
        for (const { sessionState, lastReceived, detectionTime } of [link.a, link.b]) {
          if (sessionState === State.Up) assert.ok(link.now <= lastReceived! + detectionTime);
        }
      };
      link.run(10 * SECOND);
      assert.equal(link.a.sessionState, State.Down);
      assert.equal(link.b.sessionState, State.Down);
      assert.equal(link.b.nextDeadline(), Infinity, "the passive end has nothing left to do");
    }),
    { numRuns: 50 },
  );
});

Deno.test("session: P and F never go together, and every poll is answered at once", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 60 }), fc.integer(), (loss, seed) => {
      const random = seeded(seed);
      const link = new VirtualLink({}, {}, seed);
      link.fate = () => random() * 100 < loss ? undefined : 100;
      link.run(20 * SECOND);
      for (const { packet } of [...link.sent.a, ...link.sent.b]) {
        assert.ok(!(packet.poll && packet.final));
      }
      if (loss > 0) return;
      for (const [polls, finals] of [[link.sent.a, link.sent.b], [link.sent.b, link.sent.a]]) {
        for (const { at, packet } of polls!) {
          if (!packet.poll) continue;
          assert.ok(finals!.some((sent) => sent.at === at + 100 && sent.packet.final));
        }
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("session: a Poll Sequence ends on a lossy link, by packets of the schedule alone", () => {
  const timers = fc.record({
    desiredMinTxInterval: fc.integer({ min: 20_000, max: 200_000 }),
    requiredMinRxInterval: fc.integer({ min: 20_000, max: 200_000 }),
    detectMult: fc.constant(100),
  });
  fc.assert(
    fc.property(timers, timers, fc.integer({ min: 0, max: 50 }), fc.integer(), (
      first,
      second,
      loss,
      seed,
    ) => {
      const random = seeded(seed);
      const link = new VirtualLink({ detectMult: 100 }, { detectMult: 100 }, seed);
      link.bringUp();
      link.fate = () => random() * 100 < loss ? undefined : 100;
      link.a.setTimers(first, link.now);
      link.run(10_000);
      // In the middle of the first poll.
      link.a.setTimers(second, link.now);
      link.run(20 * SECOND);
      assert.ok(link.bothUp);
      assert.equal(link.a.polling, false);
      assert.equal(link.a.desiredMinTxInterval, second.desiredMinTxInterval);
      assert.equal(link.b.remoteDesiredMinTxInterval, second.desiredMinTxInterval);
      assert.equal(link.b.remoteMinRxInterval, second.requiredMinRxInterval);
      assert.equal(link.a.transmitInterval, Math.max(second.desiredMinTxInterval, 50_000));
      assert.equal(link.a.receiveInterval, Math.max(second.requiredMinRxInterval, 50_000));
    }),
    { numRuns: 50 },
  );
});

Deno.test("session: slower packets and faster detection wait for the Final", () => {
  const { session, sent } = inState(State.Up);
  session.receive(fromPeer({ state: State.Up, final: true }), 1_000);
  session.receive(fromPeer({ state: State.Up }), 2_000);
  session.setTimers(
    { desiredMinTxInterval: 400_000, requiredMinRxInterval: 10_000, detectMult: 3 },
    3_000,
  );
  const offer = sent.at(-1)!;
  assert.ok(offer.poll);
  assert.deepEqual([offer.desiredMinTxInterval, offer.requiredMinRxInterval], [400_000, 10_000]);
  session.receive(fromPeer({ state: State.Up, desiredMinTxInterval: 10_000 }), 4_000);
  assert.equal(session.transmitInterval, 50_000);
  assert.equal(session.detectionTime, 3 * 50_000);
  session.receive(
    fromPeer({ state: State.Up, desiredMinTxInterval: 10_000, final: true }),
    5_000,
  );
  assert.equal(session.transmitInterval, 400_000);
  assert.equal(session.detectionTime, 3 * 10_000);
});

Deno.test("session: faster packets and slower detection hold at once", () => {
  const { session } = inState(State.Up);
  session.setTimers(
    { desiredMinTxInterval: 50_000, requiredMinRxInterval: 300_000, detectMult: 5 },
    1_000,
  );
  assert.equal(session.detectionTime, 3 * 300_000);
  session.receive(fromPeer({ state: State.Up, requiredMinRxInterval: 20_000 }), 2_000);
  assert.equal(session.transmitInterval, 50_000);
  assert.equal(session.detectMult, 5);
});

Deno.test("session: a peer that can receive faster is served faster at once", () => {
  const { session, sent } = inState(State.Up, { desiredMinTxInterval: 20_000 });
  session.receive(fromPeer({ state: State.Up, requiredMinRxInterval: 900_000 }), 1_000);
  session.tick(session.nextDeadline());
  sent.length = 0;
  const before = session.nextDeadline();
  session.receive(fromPeer({ state: State.Up, requiredMinRxInterval: 20_000 }), 2_000);
  assert.ok(session.nextDeadline() < before - 500_000);
});

Deno.test("session: a change of content is transmitted without waiting", () => {
  const { session, sent } = inState(State.Down);
  session.receive(fromPeer({ state: State.Down }), 7);
  assert.deepEqual(sent.map(({ state, yourDiscriminator }) => [state, yourDiscriminator]), [
    [State.Init, 22],
  ]);
  session.receive(fromPeer({ state: State.Down }), 8);
  assert.equal(sent.length, 1, "nothing new, nothing sent");
});

Deno.test("session: a poll is answered in every state, with the Final bit", () => {
  for (const state of [State.AdminDown, State.Down, State.Init, State.Up]) {
    const { session, sent } = inState(state);
    session.receive(fromPeer({ state: State.Up, poll: true }), 5);
    assert.ok(sent.some((packet) => packet.final && !packet.poll), `state ${state}`);
    assert.equal(sent[0]!.state, session.sessionState);
  }
});

Deno.test("session: AdminDown tells the peer, which confirms", () => {
  const link = new VirtualLink();
  link.bringUp();
  link.a.disable(link.now);
  assert.equal(link.a.announced, false);
  link.run(1_000);
  assert.equal(link.b.sessionState, State.Down);
  assert.equal(link.b.remoteSessionState, State.AdminDown);
  assert.equal(link.b.remoteDiag, Diag.AdministrativelyDown);
  assert.equal(link.b.localDiag, Diag.NeighborSignaledSessionDown);
  assert.equal(link.a.announced, true);
  link.a.enable(link.now);
  link.run(2 * SECOND);
  assert.ok(link.bothUp);
});

Deno.test("session: AdminDown is repeated at the old pace until it is confirmed", () => {
  const link = new VirtualLink();
  link.bringUp();
  let lost = 0;
  link.fate = (from) => from === "a" && lost++ < 2 ? undefined : 100;
  link.a.disable(link.now);
  link.run(110_000);
  assert.equal(link.b.remoteSessionState, State.AdminDown);
  assert.equal(link.a.announced, true);
});

Deno.test("session: AdminDown without a peer is announced by the Detection Time", () => {
  const link = new VirtualLink();
  link.bringUp();
  link.fate = () => undefined;
  link.a.disable(link.now);
  link.run(link.a.detectionTime);
  assert.equal(link.a.announced, true);
  const { session } = alone();
  session.disable(0);
  assert.equal(session.announced, true);
});

Deno.test("session: a peer that asks for Demand mode gets no periodic packets, but Finals", () => {
  const { session, sent } = inState(State.Up);
  const up = { state: State.Up, demand: true };
  session.receive(fromPeer({ ...up, final: true }), 1_000);
  assert.equal(session.remoteDemandMode, true);
  sent.length = 0;
  for (let now = 50_000; now < 5 * SECOND; now += 50_000) {
    session.receive(fromPeer(up), now);
    session.tick(now);
  }
  assert.equal(sent.length, 0);
  assert.equal(session.sessionState, State.Up);
  session.receive(fromPeer({ ...up, poll: true }), 5 * SECOND);
  assert.deepEqual(sent.map(({ final, demand }) => [final, demand]), [[true, false]]);
  session.receive(fromPeer({ state: State.Up }), 5 * SECOND + 1);
  session.tick(5 * SECOND + 1);
  assert.equal(sent.length, 2, "periodic packets go on where Demand mode ends");
});

Deno.test("session: Required Min RX Interval 0 asks for silence, and silence does not outlive the peer", () => {
  const { session, sent } = inState(State.Up);
  session.receive(fromPeer({ state: State.Up, requiredMinRxInterval: 0, final: true }), 1_000);
  sent.length = 0;
  session.tick(140_000);
  assert.equal(sent.length, 0);
  session.tick(151_000);
  assert.equal(session.sessionState, State.Down);
  sent.length = 0;
  session.tick(3 * SECOND);
  assert.equal(sent.length, 1);
});

Deno.test("session: a peer that restarts with another discriminator comes up again", () => {
  const link = new VirtualLink();
  link.bringUp();
  link.b = link.make("b", { localDiscr: 99, role: "active" });
  link.run(3 * SECOND);
  assert.ok(link.bothUp);
  assert.equal(link.a.remoteDiscr, 99);
  const ofA = link.changes.filter(({ end }) => end === "a").map(({ to }) => to);
  assert.deepEqual(ofA, [State.Up, State.Down, State.Up]);
});

Deno.test("session: a one-way cut takes both ends down, the deaf one first", () => {
  const link = new VirtualLink();
  link.bringUp();
  link.changes.length = 0;
  link.fate = (from) => from === "a" ? undefined : 100;
  link.run(160_000);
  assert.deepEqual(link.changes.map(({ end, to }) => [end, to]), [["b", State.Down], [
    "a",
    State.Down,
  ]]);
  assert.equal(link.a.remoteDiag, Diag.ControlDetectionTimeExpired);
});

Deno.test("session: packets for others and authenticated ones are discarded whole", () => {
  const { session } = inState(State.Up);
  const before = session.lastReceived;
  const wrong = fromPeer({ yourDiscriminator: 12 });
  assert.equal(session.receive(wrong, 9), "wrong-discriminator");
  const section = Uint8Array.of(1, 4, 1, 65);
  const signed = fromPeer({ authentication: section });
  assert.equal(session.receive(signed, 9), "unexpected-authentication");
  assert.equal(session.sessionState, State.Up);
  assert.equal(session.lastReceived, before);
});

Deno.test("session: timers out of range are refused", () => {
  const wrong = [
    { detectMult: 0 },
    { detectMult: 256 },
    { desiredMinTxInterval: 0 },
    { requiredMinRxInterval: 2 ** 32 },
    { localDiscr: 0 },
  ];
  for (const options of wrong) assert.throws(() => alone(options), RangeError);
});

Deno.test("session: no sound packet breaks it, whatever it says", () => {
  const field = fc.integer({ min: 0, max: 0xffffffff });
  const packet = fc.record({
    state: fc.constantFrom(0, 1, 2, 3) as fc.Arbitrary<State>,
    diag: fc.integer({ min: 0, max: 31 }),
    poll: fc.boolean(),
    final: fc.boolean(),
    demand: fc.boolean(),
    detectMult: fc.integer({ min: 1, max: 255 }),
    myDiscriminator: fc.integer({ min: 1, max: 0xffffffff }),
    yourDiscriminator: fc.constantFrom(0, 11, 12),
    desiredMinTxInterval: field,
    requiredMinRxInterval: field,
  });
  fc.assert(fc.property(fc.array(fc.tuple(packet, fc.nat(SECOND))), (steps) => {
    const { session, sent } = alone();
    let now = 0;
    for (const [fields, wait] of steps) {
      now += wait;
      session.tick(now);
      sent.length = 0;
      session.receive(fromPeer(fields), now);
      assert.ok(sent.length <= 2, "a packet causes an answer and a change at most");
      assert.ok(session.nextDeadline() >= -Infinity);
    }
    session.tick(now);
    assert.ok(session.nextDeadline() > now, "ticking makes progress");
  }));
});
