import assert from "node:assert/strict";
import fc from "fast-check";
import { Diag, State } from "../../lib/bfd/packet.ts";
import { SLOW_INTERVAL } from "../../lib/bfd/session.ts";
import { seeded, type Sent, VirtualLink } from "./bfd_link.ts";

const SECOND = 1_000_000;

function gaps(sent: readonly Sent[]): number[] {
  return sent.slice(1).map(({ at }, i) => at - sent[i]!.at);
}

Deno.test("pair: active and passive come up, and agree on the timers", () => {
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

Deno.test("pair: the passive side is silent until it hears a peer", () => {
  const link = new VirtualLink();
  link.fate = () => undefined;
  link.run(5 * SECOND);
  assert.equal(link.sent.b.length, 0);
  assert.ok(link.sent.a.length >= 5);
});

Deno.test("pair: packets are slow while not up, and advertise at least a second", () => {
  const link = new VirtualLink();
  link.fate = () => undefined;
  link.run(20 * SECOND);
  for (const { packet } of link.sent.a) assert.ok(packet.desiredMinTxInterval >= SLOW_INTERVAL);
  for (const gap of gaps(link.sent.a)) assert.ok(gap >= 0.75 * SECOND && gap <= SECOND);
});

Deno.test("pair: jitter leaves 75 to 100 % of the interval, 75 to 90 % with multiplier 1", () => {
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

Deno.test("pair: a cut link is detected exactly after the Detection Time", () => {
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
        link.fate = () => undefined;
        link.changes.length = 0;
        // What was in flight at the cut still arrives, one delay later.
        link.run(100);
        const last = link.a.lastReceived!;
        link.run(expected + link.b.detectionTime + SECOND);
        const down = link.changes.find(({ end }) => end === "a")!;
        assert.ok(down.at >= last + expected && down.at <= last + expected + 1);
        assert.equal(link.a.localDiag, Diag.ControlDetectionTimeExpired);
        assert.equal(link.a.remoteDiscr, 0);
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("pair: no end stays up alone for longer than the Detection Times allow", () => {
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

Deno.test("pair: after a total cut no end is up for longer than its Detection Time", () => {
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

Deno.test("pair: P and F never go together, and every poll is answered at once", () => {
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

Deno.test("pair: a Poll Sequence ends on a lossy link, by packets of the schedule alone", () => {
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

Deno.test("pair: AdminDown tells the peer, which confirms", () => {
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

Deno.test("pair: AdminDown is repeated at the old pace until it is confirmed", () => {
  const link = new VirtualLink();
  link.bringUp();
  let lost = 0;
  link.fate = (from) => from === "a" && lost++ < 2 ? undefined : 100;
  link.a.disable(link.now);
  link.run(110_000);
  assert.equal(link.b.remoteSessionState, State.AdminDown);
  assert.equal(link.a.announced, true);
});

Deno.test("pair: AdminDown is taken as announced to a dead peer by the Detection Time", () => {
  const link = new VirtualLink();
  link.bringUp();
  link.fate = () => undefined;
  link.a.disable(link.now);
  link.run(link.a.detectionTime);
  assert.equal(link.a.announced, true);
});

Deno.test("pair: a peer that restarts with another discriminator comes up again", () => {
  const link = new VirtualLink();
  link.bringUp();
  link.b = link.make("b", { localDiscr: 99, role: "active" });
  link.run(3 * SECOND);
  assert.ok(link.bothUp);
  assert.equal(link.a.remoteDiscr, 99);
  const ofA = link.changes.filter(({ end }) => end === "a").map(({ to }) => to);
  assert.deepEqual(ofA, [State.Up, State.Down, State.Up]);
});

Deno.test("pair: a one-way cut takes both ends down, the deaf one first", () => {
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
