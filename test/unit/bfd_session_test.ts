import assert from "node:assert/strict";
import fc from "fast-check";
import { type ControlPacket, Diag, emptyPacket, State } from "../../lib/bfd/packet.ts";
import { Session } from "../../lib/bfd/session.ts";
import { seeded } from "./bfd_link.ts";

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

Deno.test("session: a poll is answered in every state but AdminDown, with the Final bit", () => {
  for (const state of [State.Down, State.Init, State.Up]) {
    const { session, sent } = inState(state);
    session.receive(fromPeer({ state: State.Up, poll: true }), 5);
    assert.ok(sent.some((packet) => packet.final && !packet.poll), `state ${state}`);
    assert.equal(sent[0]!.state, session.sessionState);
  }
});

Deno.test("session: AdminDown without a peer needs no announcement", () => {
  const { session } = alone();
  session.disable(0);
  assert.equal(session.announced, true);
});

Deno.test("session: an excuse moves a Detection Time that has passed by one interval, once", () => {
  const { session } = inState(State.Up);
  session.receive(fromPeer({ state: State.Up, final: true }), 1_000);
  session.excuse(100_000);
  assert.equal(session.detectionDeadline, 151_000, "nothing has passed yet");
  session.excuse(400_000);
  assert.equal(session.detectionDeadline, 450_000);
  session.excuse(460_000);
  assert.equal(session.detectionDeadline, 450_000);
  session.receive(fromPeer({ state: State.Up }), 449_000);
  assert.equal(session.detectionDeadline, 599_000);
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
