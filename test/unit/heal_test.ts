import assert from "node:assert/strict";
import fc from "fast-check";
import { Mode } from "../../lib/flow/layout.ts";
import { Injection } from "../../lib/heal/injection.ts";
import { parseFrame, type TcpFrame } from "../fixture/frame.ts";
import { clock, type FlowShape, healerOf, Replica } from "../fixture/replica.ts";

/** A replica of which the tap showed all but bytes 20,000 to 30,000, and whose primary has all. */
function withGap(shape: FlowShape = {}): Replica {
  const replica = new Replica(shape);
  replica.tap(0, 20_000);
  replica.tap(20_000, 30_000, true);
  replica.tap(30_000, replica.content.length);
  replica.primaryAcks(replica.content.length);
  return replica;
}

for (
  const shape of [
    {},
    { ipv6: true },
    { irs: 0xffffffff - 25_000 },
    { irs: 0x7fffffff - 25_000, mss: 536 },
  ]
) {
  Deno.test(`heal: a gap gets exactly its bytes, ${JSON.stringify(shape)}`, async () => {
    const replica = withGap(shape);
    const { gap, recorder, said, healer } = healerOf([replica]);
    assert.equal(replica.received, 20_000);
    await gap(replica, 20_000, 30_000);
    assert.equal(replica.received, replica.content.length);
    assert.deepEqual(recorder.asked, [{ from: 20_000, to: 30_000 }]);
    const [healed, ...more] = said("healed");
    assert.deepEqual(more, []);
    const { took_ms, ...fields } = healed!;
    assert.deepEqual(fields, {
      ...{ type: "healed", ...replica.ends, bytes: 10_000 },
      from: replica.seq(20_000),
      to: replica.seq(30_000),
    });
    assert.ok(Number(took_ms) >= 0 && Number(took_ms) < 1000);
    // Segments as large as the flow has them, in order, nothing twice.
    const room = Math.min(shape.mss ?? 1460, shape.ipv6 ? 1440 : 1460) - 12;
    const lengths = replica.frames.map(({ length }) => length);
    assert.deepEqual(lengths.slice(0, -1), Array(lengths.length - 1).fill(room));
    assert.equal(lengths.reduce((sum, length) => sum + length), 10_000);
    const { healed_bytes, injected_bytes, lost_bytes, gaps } = healer.stats();
    assert.deepEqual([healed_bytes, injected_bytes, lost_bytes, gaps], [10_000, 10_000, 0, 1]);
  });
}

Deno.test("heal: segments obey the hold in shadow mode, and have the client's window afterwards", async () => {
  for (const mode of [Mode.SHADOW, Mode.SETTLING]) {
    const replica = withGap();
    const { gap, control } = healerOf([replica]);
    control.mode = mode;
    await gap(replica, 20_000, 30_000);
    for (const frame of replica.frames) {
      // The replica has emitted 3000 of the 4000 bytes that the client has: 1000 >> 7.
      assert.equal(frame.ack, 53_000);
      assert.equal(frame.window, mode === Mode.SHADOW ? 7 : 1234);
      assert.match(frame.flags, /^P?A$/);
    }
    assert.ok(replica.frames.length > 0);
  }
});

Deno.test("heal: no more is given than the replica's window takes, and the rest once it opens", async () => {
  const replica = new Replica({ buffer: 16_384, wscale: 0, size: 60_000 });
  replica.tap(0, 10_000);
  replica.primaryAcks(60_000);
  const { pass, gap, said } = healerOf([replica]);
  await gap(replica, 10_000, 60_000);
  for (let rounds = 0; replica.received < 60_000; rounds++) {
    assert.ok(rounds < 100, `${replica.received} bytes received`);
    const edge = replica.first + replica.right;
    const before = replica.frames.length;
    await pass(30);
    for (const { seq, length } of replica.frames.slice(before)) {
      assert.ok(seq + length <= edge, `${seq} + ${length} beyond ${edge}`);
    }
    replica.read();
  }
  await pass(2);
  assert.equal(said("healed").at(-1)!.to, replica.seq(60_000));
  assert.deepEqual(said("flow.unprotected"), []);
});

Deno.test("heal: what the replica does not acknowledge is given again", async () => {
  const replica = withGap();
  replica.deaf = 9;
  const { pass, gap, said, healer } = healerOf([replica]);
  await gap(replica, 20_000, 30_000);
  assert.equal(replica.received, 20_000);
  await pass(60);
  assert.equal(replica.received, replica.content.length);
  assert.equal(said("healed").length, 1);
  assert.ok(Number(healer.stats().retries) >= 1);
});

Deno.test("heal: a replica that has its bytes from elsewhere gets none", async () => {
  const replica = withGap();
  const { pass, gap, recorder, said, healer } = healerOf([replica]);
  replica.tap(20_000, 30_000);
  await gap(replica, 20_000, 30_000);
  await pass(50);
  assert.deepEqual([recorder.asked, replica.frames, said("healed")], [[], [], []]);
  assert.equal(healer.working, 0);
});

Deno.test("heal: without an event, a replica that stands still is found, whatever it lacks", async () => {
  // Bytes that the tap missed, and such as it showed and the replica had no room for.
  for (const shown of [false, true]) {
    const replica = new Replica({ size: 700_000, buffer: 1 << 22, wscale: 10 });
    replica.tap(0, 100_000);
    if (shown) {
      replica.set("client_end", replica.seq(700_000));
      replica.set("client_next", replica.seq(700_000));
    }
    replica.primaryAcks(700_000);
    const { pass, said, healer } = healerOf([replica]);
    await pass(8);
    assert.equal(replica.frames.length, 0, "a delayed acknowledgement is no lack");
    await pass(150);
    assert.equal(replica.received, 700_000);
    assert.deepEqual(said("flow.unprotected"), []);
    assert.ok(said("healed").length >= 1);
    assert.equal(healer.working, 0);
    const before = replica.frames.length;
    await pass(50);
    assert.equal(replica.frames.length, before, "nothing more is given");
  }
});

Deno.test("heal: a replica that was merely slow to acknowledge is asked, and given nothing", async () => {
  const replica = new Replica();
  replica.tap(0, 50_000);
  replica.primaryAcks(50_000);
  replica.set("replica_ack", replica.seq(49_000));
  const { pass, recorder } = healerOf([replica]);
  await pass(100);
  assert.equal(replica.frames.length, 1);
  assert.deepEqual([replica.frames[0]!.seq, replica.frames[0]!.length], [replica.seq(48_999), 1]);
  assert.deepEqual(recorder.asked, []);
});

Deno.test("heal: what the recorder has not seen yet is asked for again", async () => {
  const replica = withGap();
  const { pass, gap, recorder, said, healer } = healerOf([replica]);
  recorder.lacks = [{ from: 25_000, to: 100_000, reason: "not seen" }];
  await gap(replica, 20_000, 30_000);
  await pass(100);
  assert.equal(replica.received, 25_000);
  assert.ok(recorder.asked.length < 50, `${recorder.asked.length} requests in 100 ms`);
  recorder.lacks = [];
  await pass(40);
  assert.equal(replica.received, replica.content.length);
  assert.deepEqual([said("healed").length, said("flow.unprotected").length], [1, 0]);
  assert.ok(Number(healer.stats().not_seen) > 0);
});

for (
  const [reason, patience] of [["not seen", 1100], ["dropped for the budget", 5], ["freed", 5]] as [
    string,
    number,
  ][]
) {
  Deno.test(`heal: bytes that the recorder lacks are lost and reported once: ${reason}`, async () => {
    const replica = withGap();
    const { pass, gap, recorder, said, healer } = healerOf([replica]);
    recorder.lacks = [{ from: 24_000, to: 26_000, reason }];
    await gap(replica, 20_000, 30_000);
    await pass(patience);
    const reports = said("flow.unprotected");
    assert.equal(reports.length, 1);
    assert.equal(reports[0]!.client, replica.ends.client);
    assert.equal(
      reports[0]!.reason,
      `the recorder lacks 2000 bytes of the client: ${reason}`,
    );
    assert.equal(healer.lostBytes, 2000);
    const requests = recorder.asked.length;
    await pass(100);
    assert.deepEqual([said("flow.unprotected").length, recorder.asked.length], [1, requests]);
    const [flow] = [...healer.flows()];
    assert.equal(flow!.lost_bytes, 2000);
    assert.match(flow!.lost_reason!, new RegExp(reason));
    // It stays in the account when the flow has gone.
    replica.alive = false;
    await pass(2);
    assert.equal([...healer.flows()].length, 1);
  });
}

Deno.test("heal: a flow that the recorder does not know is lost after a while", async () => {
  for (const delay of [0, 7]) {
    const replica = withGap();
    const { pass, gap, recorder, said } = healerOf([replica]);
    recorder.knows = false;
    recorder.delay = delay;
    await gap(replica, 20_000, 30_000);
    await pass(900);
    assert.deepEqual(said("flow.unprotected"), []);
    await pass(300);
    assert.match(String(said("flow.unprotected")[0]!.reason), /Flow is not known/);
  }
});

Deno.test("heal: while answers are under way, nothing is asked for twice", async () => {
  const replica = withGap();
  const { pass, gap, recorder, said } = healerOf([replica]);
  recorder.delay = 25;
  await gap(replica, 20_000, 30_000);
  await pass(60);
  assert.equal(replica.received, replica.content.length);
  assert.equal(said("healed").length, 1);
  const asked = recorder.asked.filter(({ from }) => from === 20_000);
  assert.equal(asked.length, 1, JSON.stringify(recorder.asked));
});

Deno.test("heal: while the recorder cannot be reached it is tried on, and the flow is reported once", async () => {
  const replica = withGap();
  const { pass, gap, recorder, said, healer } = healerOf([replica]);
  recorder.connected = false;
  await gap(replica, 20_000, 30_000);
  await pass(5200);
  const reports = said("flow.unprotected");
  assert.equal(reports.length, 1);
  assert.match(String(reports[0]!.reason), /lacks 10000 bytes .* the recorder cannot be reached/);
  assert.ok(healer.lostBytes > 0);
  recorder.connected = true;
  await pass(50);
  assert.equal(replica.received, replica.content.length);
  assert.equal(said("flow.unprotected").length, 1);
  assert.equal(healer.lostBytes, 0, "healed after all");
});

Deno.test("heal: a FIN that the tap missed is given as one", async () => {
  const replica = new Replica({ size: 5000 });
  replica.tap(0, 5000);
  replica.primaryAcks(5001);
  const { gap, recorder, said } = healerOf([replica]);
  recorder.fin = true;
  await gap(replica, 5000, 5001);
  assert.equal(replica.finished, true);
  assert.deepEqual(replica.frames.map(({ flags, length }) => [flags, length]), [["FA", 0]]);
  assert.equal(said("healed")[0]!.bytes, 1);
});

Deno.test("heal: after the takeover all flows are healed at once, as far as the recorder has seen", async () => {
  const replicas = Array.from({ length: 20 }, (_, i) => new Replica({ port: 40_000 + i }));
  for (const replica of replicas) replica.tap(0, 60_000);
  // The tap lost the rest along with the primary's acknowledgements.
  for (const replica of replicas) replica.primaryAcks(60_000);
  const { pass, control, recorder, said, healer } = healerOf(replicas);
  await pass(100);
  assert.deepEqual(said("healed"), []);
  control.mode = Mode.SETTLING;
  // As long as the recorder cannot be asked, nobody knows that the replicas are whole.
  recorder.connected = false;
  await pass(300);
  assert.equal(control.surveyed, false);
  recorder.connected = true;
  while (!control.surveyed) await pass(1);
  for (const replica of replicas) assert.equal(replica.received, replica.content.length);
  assert.equal(said("healed").length, replicas.length);
  assert.equal(healer.lostBytes, 0);
});

Deno.test("heal: a flow that ends after the takeover before it was healed is lost", async () => {
  const replica = withGap();
  const { pass, gap, recorder, control, said, healer } = healerOf([replica]);
  recorder.connected = false;
  control.mode = Mode.SETTLING;
  await gap(replica, 20_000, 30_000);
  await pass(50);
  replica.alive = false;
  await pass(5);
  assert.equal(healer.lostBytes, 10_000);
  assert.equal(said("flow.unprotected").length, 1);
});

Deno.test("heal: a flow that its client has ended, or opened anew, is no loss", async () => {
  for (const anew of [false, true]) {
    const replica = withGap();
    const { pass, gap, recorder, said, healer } = healerOf([replica]);
    recorder.connected = false;
    await gap(replica, 20_000, 30_000);
    if (anew) replica.set("irs", 77);
    else replica.alive = false;
    await pass(20);
    assert.deepEqual([said("flow.unprotected"), healer.lostBytes], [[], 0]);
  }
});

Deno.test("heal: events of flows that nobody knows, and absurd ones, ask for nothing", async () => {
  const replica = withGap();
  const { healer, recorder, pass } = healerOf([replica]);
  const common = { v: 1, time: new Date().toISOString(), by: "shadow", host: "h" } as const;
  const at = (client: string, from: number, to: number): void =>
    healer.onGap({ ...common, type: "gap", client, server: replica.ends.server, from, to });
  at("10.77.1.9:1", replica.seq(20_000), replica.seq(30_000));
  at("no address", 1, 2);
  at("10.77.1.2:99999", 1, 2);
  at("[::ffff:10.77.1.2]:40000", 1, 2);
  at(replica.ends.client, replica.seq(0), replica.seq(10));
  at(replica.ends.client, replica.seq(30_000), replica.seq(20_000));
  at(replica.ends.client, replica.seq(200_000), replica.seq(300_000));
  at(replica.ends.client, replica.seq(0x70000000), replica.seq(0x70000010));
  healer.onLag({ ...common, type: "lag", client: "x", server: "y", bytes: 1 });
  await pass(2);
  assert.deepEqual(recorder.asked, []);
});

Deno.test("heal: the recorder is told what the replicas have, each once", async () => {
  const replicas = Array.from(
    { length: 1000 },
    (_, i) => new Replica({ size: 1000, port: 2000 + i }),
  );
  const { pass, recorder, healer } = healerOf(replicas);
  for (const replica of replicas) replica.tap(0, 500);
  await pass(101);
  assert.equal(recorder.told.size, 1000);
  assert.equal(recorder.told.get(replicas[7]!.ends.client), replicas[7]!.seq(500));
  recorder.told.clear();
  replicas[7]!.tap(500, 1000);
  replicas[7]!.primaryAcks(1000);
  await pass(101);
  assert.deepEqual([...recorder.told], [[replicas[7]!.ends.client, replicas[7]!.seq(1000)]]);
  const { seen_bytes, acknowledged_bytes, delivered_bytes } = healer.stats();
  assert.deepEqual([seen_bytes, acknowledged_bytes, delivered_bytes], [500_500, 1000, 500_500]);
  // One that was started anew knows nothing.
  recorder.told.clear();
  recorder.onChange(true, "");
  await pass(101);
  assert.equal(recorder.told.size, 1000);
});

Deno.test("heal: flows share the connection, and none is forgotten", async () => {
  const replicas = Array.from({ length: 50 }, (_, i) => withGap({ port: 3000 + i }));
  const { pass, gap, recorder } = healerOf(replicas);
  recorder.room = 15_000;
  await Promise.all(replicas.map((replica) => gap(replica, 20_000, 30_000)));
  await pass(60);
  for (const replica of replicas) assert.equal(replica.received, replica.content.length);
});

Deno.test("heal: whatever the tap loses, the replica gets all, and little of it twice", async () => {
  const piece = fc.record({ length: fc.integer({ min: 1, max: 9000 }), lost: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { minLength: 1, maxLength: 25 }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.boolean(),
      fc.nat(6),
      async (pieces, irs, reported, deaf) => {
        const size = pieces.reduce((sum, { length }) => sum + length, 0);
        const replica = new Replica({ irs, size });
        const { pass, gap } = healerOf([replica]);
        replica.deaf = deaf;
        let at = 0;
        for (const { length, lost } of pieces) {
          replica.tap(at, at + length, lost);
          replica.primaryAcks(at + length);
          if (lost && reported) await gap(replica, at, at + length);
          at += length;
          clock.now += 1;
        }
        for (let i = 0; i < 40 && replica.received < size; i++) await pass(20);
        assert.equal(replica.received, size);
        await pass(3);
        const given = replica.frames.reduce((sum, { length }) => sum + length, 0);
        const missed = pieces.reduce((sum, { length, lost }) => lost ? sum + length : sum, 0);
        if (reported && deaf === 0) assert.ok(given <= missed + 20, `${given} for ${missed}`);
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("heal: where the kernel takes large segments, they bear what it needs to know of them", () => {
  for (const ipv6 of [false, true]) {
    const replica = new Replica({ ipv6, mss: 1400 });
    const flow = new DataView(replica.value.buffer);
    const key = new DataView(replica.key.buffer);
    const place = { keys: key, keyAt: 0, flows: flow, at: 0 };
    const small: Uint8Array[] = [];
    const large: Uint8Array[] = [];
    const injection = new Injection(
      { send: (frame) => void small.push(frame.slice()) },
      1500,
      { send: (buffer) => void large.push(buffer.slice()) },
    );
    assert.equal(injection.most(place) % 1388, 0);
    assert.ok(injection.most(place) > 10 * 1388);
    injection.data(place, false, 77, replica.content.slice(0, 1388));
    assert.deepEqual([small.length, large.length], [1, 0], "one segment goes as it is");
    injection.data(place, false, 77, replica.content.slice(0, 10_000));
    const [buffer] = large;
    const header = new DataView(buffer!.buffer, 0, 10);
    const tcp = ipv6 ? 54 : 34;
    // struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
    assert.deepEqual([header.getUint8(0), header.getUint8(1)], [1, ipv6 ? 4 : 1]);
    assert.deepEqual([2, 4, 6, 8].map((at) => header.getUint16(at, true)), [
      tcp + 32,
      1388,
      tcp,
      16,
    ]);
    const frame = parseFrame(buffer!.slice(10)) as TcpFrame;
    assert.deepEqual([frame.seq, frame.length, frame.ack], [77, 10_000, 53_000]);
    assert.deepEqual(frame.payload, replica.content.slice(0, 10_000));
    // The kernel adds the rest to the sum of the pseudo header: then the checksum is right.
    const bytes = buffer!.slice(10);
    const view = new DataView(bytes.buffer);
    let sum = 0;
    for (let at = tcp; at < bytes.length; at += 2) sum += view.getUint16(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(tcp + 16, ~sum & 0xffff);
    assert.equal((parseFrame(bytes) as TcpFrame).tcpChecksum, true);
  }
});
