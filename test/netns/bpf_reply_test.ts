/**
 * What the backup's BPF programs make of the replica's segments: none gets out, and one that the client has already
 * comes back as the client's acknowledgement. Checksums are computed apart from the code under test.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { reasons } from "../../lib/flow/event.ts";
import { MARK_INJECTED, Mode } from "../../lib/flow/layout.ts";
import { type Ends, type FlowFields, recently, runMarked, Verdict } from "../fixture/bpf.ts";
import { Bit, Ether, ipFrame, Next, readSegment, type Segment } from "../fixture/segment.ts";
import { TAGS } from "../fixture/shapes.ts";
import {
  type Frame,
  fromClient,
  fromService,
  type Said,
  stampedOptions,
  stamps,
  u32,
  uint32,
  withShadow,
} from "../fixture/tracked.ts";

/** The window that ends at `right`, seen from `ack`: 64 KiB at most, rounded down, and no more than its field holds. */
const hold = (right: number, ack: number, shift: number): number =>
  Math.min(0xffff, Math.min(0x10000, Math.max(0, (right - ack) | 0)) >>> shift);

/** The segment that answers the one in `frame`: its ends and timestamps change places, its payload is padding. */
function answerTo(frame: Frame, said: Partial<Segment>): Segment {
  const asked = readSegment(frame);
  const header = asked.timestamps === undefined && said.timestamps === undefined ? 20 : 32;
  return {
    ...asked,
    sourceMac: asked.destinationMac,
    destinationMac: asked.sourceMac,
    source: asked.destination,
    destination: asked.source,
    sourcePort: asked.destinationPort,
    destinationPort: asked.sourcePort,
    flags: Bit.ACK,
    tos: 0,
    timestamps: asked.timestamps?.toReversed() as Segment["timestamps"],
    payload: [],
    padding: frame.length - asked.at - header,
    ipChecksum: true,
    tcpChecksum: true,
    ...said,
  };
}

/** Segments of the replica: where they are in the flow, and how they are written. */
const segments = fc.record({
  seq: uint32,
  ack: uint32,
  payload: fc.uint8Array({ minLength: 1, maxLength: 1460 }).map((all) => [...all]),
  fin: fc.boolean(),
  tos: fc.nat(255),
  stamps,
  options: fc.constantFrom(...stampedOptions),
  window: fc.nat(0xffff),
  tags: fc.constantFrom(...TAGS),
});
type Made = typeof segments extends fc.Arbitrary<infer T> ? T : never;

function frameOf(ends: Ends, made: Made): { frame: Frame; end: number } {
  const { seq, ack, payload, fin, window, stamps, tags, tos } = made;
  const flags = Bit.ACK | Bit.PSH | (fin ? Bit.FIN : 0);
  const options = stamps === undefined ? {} : made.options(...stamps);
  const frame = fromService(ends, { seq, ack, flags, window, payload, ...options }, tags, tos);
  return { frame, end: u32(seq + payload.length + (fin ? 1 : 0)) };
}

withShadow("what the client has comes back as its acknowledgement", (shadow, ends) => {
  const ahead = fc.oneof(fc.nat(3), fc.nat(0x3fffffff));
  fc.assert(
    fc.property(segments, ahead, fc.nat(14), (made, ahead, shift) => {
      const { frame, end } = frameOf(ends, made);
      const right = u32(end + ahead);
      shadow.setFlow(ends, {
        client_ack: right,
        primary_end: right,
        replica_end: made.seq,
        client_wscale: shift,
      });
      const run = runMarked(shadow.egress, frame, 0);
      assert.equal(run.verdict, Verdict.REDIRECT);
      assert.equal(run.mark, MARK_INJECTED);
      const expected = { seq: made.ack, ack: end, window: hold(right, end, shift) };
      const options = made.stamps?.toReversed() as Segment["timestamps"];
      assert.deepEqual(
        readSegment(run.frame),
        answerTo(frame, { ...expected, timestamps: options }),
      );
      const flow = shadow.flow(ends)!;
      assert.deepEqual(
        [flow.replica_end, flow.replica_ack, flow.replica_window, flow.replica_fin],
        [end, made.ack, made.window, made.fin ? 1 : 0],
      );
    }),
    { numRuns: 300 },
  );
});

withShadow("what the client lacks is held, and remembered", (shadow, ends) => {
  const behind = fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 0x3fffffff }));
  fc.assert(
    fc.property(segments, behind, (made, behind) => {
      const { frame, end } = frameOf(ends, made);
      shadow.setFlow(ends, { client_ack: u32(end - behind), replica_end: made.seq });
      assert.equal(shadow.egress.testRun(frame).verdict, Verdict.STOLEN);
      assert.equal(shadow.flow(ends)!.replica_end, end);
    }),
    { numRuns: 300 },
  );
});

withShadow("an answer opens the window once the client has the primary's FIN", (shadow, ends) => {
  for (const [shift, window] of [[0, 0xffff], [4, 0x1000 + (50 >> 4)], [14, 4]]) {
    const fields = { primary_fin: 1, client_wscale: shift!, replica_end: 1000 };
    shadow.setFlow(ends, { ...fields, client_ack: 1060, primary_end: 1060 });
    const frame = fromService(ends, { seq: 1000, ack: 1, payload: Array(10).fill(1) });
    assert.equal(readSegment(shadow.egress.testRun(frame).frame).window, window);
    shadow.setFlow(ends, { ...fields, client_ack: 1060, primary_end: 1061 });
    assert.equal(readSegment(shadow.egress.testRun(frame).frame).window, 50 >> shift!);
  }
});

/** A flow in which the replica has sent all that the client has. */
const even = (next: number): FlowFields => ({
  client_ack: next,
  client_end: 500,
  primary_end: next,
  primary_ns: recently(),
  replica_end: next,
  replica_ack: 500,
});

withShadow("acknowledgements of the replica are held", (shadow, ends) => {
  for (const next of [0, 1, 7000, 0xffffffff]) {
    for (const stamps of [undefined, [7, 8] as [number, number]]) {
      shadow.setFlow(ends, even(next));
      const frame = fromService(ends, { seq: next, ack: 600, timestamps: stamps! });
      assert.equal(shadow.egress.testRun(frame).verdict, Verdict.STOLEN);
      assert.equal(shadow.flow(ends)!.replica_ack, 600);
    }
  }
});

withShadow(
  "probes and keep-alives are answered while the primary holds the flow",
  (shadow, ends) => {
    fc.assert(
      fc.property(uint32, stamps, fc.nat(5000), fc.nat(14), (next, stamps, ahead, shift) => {
        const right = u32(next + ahead);
        const flow = { ...even(next), client_ack: right, primary_end: right, client_wscale: shift };
        shadow.setFlow(ends, flow);
        const probe = fromService(ends, { seq: u32(next - 1), ack: 500, timestamps: stamps! });
        const { verdict, frame } = shadow.egress.testRun(probe);
        assert.equal(verdict, Verdict.REDIRECT);
        const window = hold(right, next, shift);
        assert.deepEqual(readSegment(frame), answerTo(probe, { seq: 500, ack: next, window }));
        assert.equal(shadow.flow(ends)!.replica_end, next);
        shadow.setFlow(ends, { ...flow, primary_ns: recently() - 301e9 });
        assert.equal(shadow.egress.testRun(probe).verdict, Verdict.STOLEN, "the primary gave up");
      }),
      { numRuns: 200 },
    );
  },
);

withShadow("a replica that closed first is reset instead of waiting", (shadow, ends) => {
  shadow.setFlow(ends, { ...even(1000), client_fin: 1, primary_fin: 1, replica_fin: 1 });
  const last = fromService(ends, { seq: 1000, ack: 500, timestamps: [7, 8] });
  const { verdict, frame } = shadow.egress.testRun(last);
  assert.equal(verdict, Verdict.REDIRECT);
  const reset = { seq: 500, ack: 0, window: 0, flags: Bit.RST };
  assert.deepEqual(readSegment(frame), answerTo(last, reset));
  assert.equal(shadow.flow(ends), undefined);
  assert.deepEqual(shadow.events().map(({ type, reason }) => [type, reasons[reason]]), [
    ["flow.close", "both sides closed"],
  ]);
});

withShadow("a replica that closes last is done with its FIN's acknowledgement", (shadow, ends) => {
  shadow.setFlow(ends, { ...even(1000), client_ack: 1001, primary_end: 1001, client_fin: 1 });
  const fin = fromService(ends, { seq: 1000, ack: 500, flags: Bit.ACK | Bit.FIN });
  const { verdict, frame } = shadow.egress.testRun(fin);
  assert.equal(verdict, Verdict.REDIRECT);
  // The acknowledgement has gone ahead of it; this ends the TIME_WAIT of a simultaneous close.
  const end = answerTo(fin, { seq: 500, ack: 1001, window: 0, flags: Bit.RST });
  assert.deepEqual(readSegment(frame), end);
  assert.equal(shadow.flow(ends), undefined);
  assert.deepEqual(shadow.events().map(({ type }) => type), ["flow.close"]);
});

withShadow("the replica's own resets do not get out, and are reported once", (shadow, ends) => {
  const reset = fromService(ends, { seq: 1000, ack: 500, flags: Bit.RST | Bit.ACK });
  shadow.setFlow(ends, even(1000));
  for (let time = 0; time < 3; time++) {
    assert.equal(shadow.egress.testRun(reset).verdict, Verdict.STOLEN);
  }
  assert.deepEqual(shadow.events().map(({ type, reason }) => [type, reasons[reason]]), [
    ["flow.unprotected", "the replica reset it by itself"],
  ]);
  assert.deepEqual(
    [shadow.flow(ends)!.replica_reset, shadow.flow(ends)!.unprotected],
    [1, 1],
  );
  const after = fromClient(ends, { seq: 500, ack: 1000 });
  assert.equal(shadow.ingress.testRun(after).verdict, Verdict.STOLEN, "its stack would reset it");
});

withShadow("a reset by the replica after both FINs ends the flow", (shadow, ends) => {
  const reset = fromService(ends, { seq: 1000, flags: Bit.RST });
  shadow.setFlow(ends, { ...even(1000), client_fin: 1, primary_fin: 1 });
  assert.equal(shadow.egress.testRun(reset).verdict, Verdict.STOLEN);
  assert.equal(shadow.flow(ends), undefined);
  assert.deepEqual(shadow.events().map(({ type }) => type), ["flow.close"]);
});

for (const fin of ["client_fin", "primary_fin"]) {
  withShadow(`a replica's reset after ${fin} alone is reported, until both end`, (shadow, ends) => {
    // One side goes on: a half-closed client that reads on, or a server that has shut down its sending side.
    shadow.setFlow(ends, { ...even(1000), primary_ack: 500, primary_right: 9000, [fin]: 1 });
    const reset = fromService(ends, { seq: 1000, ack: 500, flags: Bit.RST | Bit.ACK });
    // User space counts it, if the primary does not reset the flow, too.
    const counted = shadow.counted(() => shadow.egress.testRun(reset));
    assert.deepEqual(counted, { replica_segments: 1 });
    const events = () => shadow.events().map(({ type, reason }) => `${type}: ${reasons[reason]}`);
    assert.deepEqual(events(), ["flow.unprotected: the replica reset it by itself"]);
    const bit = Bit.ACK | Bit.FIN;
    const byClient = fin !== "client_fin", server = byClient ? 1000 : 1001;
    const close = byClient
      ? fromClient(ends, { seq: 500, ack: server, flags: bit })
      : fromService(ends, { seq: 1000, ack: 500, flags: bit });
    const last = byClient
      ? fromService(ends, { seq: server, ack: 501 })
      : fromClient(ends, { seq: 500, ack: server });
    for (const frame of [close, last]) {
      assert.equal(shadow.ingress.testRun(frame).verdict, Verdict.STOLEN);
    }
    assert.deepEqual(events(), ["flow.close: both sides closed"]);
  });
}

withShadow("of a flow without its replica no gap and no lag is reported", (shadow, ends) => {
  shadow.setFlow(ends, { ...even(1000), primary_ack: 500, replica_reset: 1, lag_ns: 1 });
  shadow.ingress.testRun(fromService(ends, { seq: 1000, ack: 900 }));
  assert.deepEqual(shadow.events(), []);
  for (const exact of [fromClient(ends, { seq: 900, flags: Bit.RST })]) {
    shadow.ingress.testRun(exact);
  }
  assert.deepEqual(shadow.events().map(({ reason }) => reasons[reason]), ["reset by the client"]);
});

withShadow("segments in a form that cannot be turned around are held", (shadow, ends) => {
  const { server: source, client: destination } = ends;
  const plain = fromService(ends, { seq: 1000, ack: 500, payload: [1, 2, 3] });
  const ipv6 = source.includes(":");
  const body = [...plain.subarray(ipv6 ? 54 : 34)];
  const odd = ipv6
    ? ipFrame({ source, destination, protocol: Next.DESTINATION }, [
      6,
      0,
      1,
      4,
      0,
      0,
      0,
      0,
      ...body,
    ])
    : ipFrame({ source, destination, protocol: Next.TCP, options: [1, 1, 1, 1] }, body);
  const flow = { ...even(1000), client_ack: 1003, primary_end: 1003 };
  shadow.setFlow(ends, flow);
  assert.equal(shadow.egress.testRun(odd).verdict, Verdict.STOLEN);
  assert.equal(shadow.flow(ends)!.replica_end, 1003, "it is followed all the same");
  shadow.setFlow(ends, flow);
  assert.equal(shadow.egress.testRun(plain).verdict, Verdict.REDIRECT);
});

withShadow("when settling, the replica speaks, but for what the client has", (shadow, ends) => {
  shadow.control(Mode.SETTLING);
  const flow = { ...even(1000), client_ack: 1010, primary_end: 1010, client_window: 77 };
  const has = fromService(ends, { seq: 1000, ack: 500, payload: Array(10).fill(1) });
  const lacks = fromService(ends, { seq: 1005, ack: 500, payload: Array(10).fill(1) });
  shadow.setFlow(ends, flow);
  const answered = shadow.egress.testRun(has);
  assert.equal(answered.verdict, Verdict.REDIRECT);
  const real = { seq: 500, ack: 1010, window: 77 };
  assert.deepEqual(readSegment(answered.frame), answerTo(has, real));
  for (const said of [lacks, fromService(ends, { seq: 999, ack: 500 })]) {
    const run = shadow.egress.testRun(said);
    assert.equal(run.verdict, Verdict.PASS);
    assert.deepEqual(run.frame, said);
  }
});

withShadow("marked frames go to the replica's own stack, in every mode", (shadow, ends) => {
  const frames = [fromClient(ends, { seq: 1, ack: 1 }), fromService(ends, { seq: 1, ack: 1 })];
  for (const mode of Object.values(Mode)) {
    shadow.control(mode);
    for (const frame of frames) {
      const out = runMarked(shadow.egress, frame, MARK_INJECTED);
      assert.deepEqual([out.verdict, out.mark], [Verdict.REDIRECT, MARK_INJECTED]);
      assert.deepEqual(out.frame, frame);
      const into = runMarked(shadow.ingress, frame, MARK_INJECTED);
      assert.equal(into.verdict, Verdict.PASS);
      assert.deepEqual(into.frame, frame);
    }
  }
});

withShadow("resets of the primary end the replica's connection", (shadow, ends) => {
  // What the tap missed of the client, the replica lacks; it may have more than it has acknowledged.
  const next = { client_end: 7000, client_next: 0xfffffffe, replica_ack: 0xfffffff0 };
  const said: Said[] = [{}, { timestamps: [7, 8] }, { payload: [1, 2, 3] }];
  for (const tags of [undefined, [Ether.VLAN]]) {
    for (const more of said) {
      shadow.setFlow(ends, { ...even(1000), ...next });
      const reset = fromService(ends, { seq: 1000, flags: Bit.RST, ...more }, tags);
      const { verdict, frame } = shadow.ingress.testRun(reset);
      assert.equal(verdict, Verdict.PASS);
      const turned = { seq: 0xfffffffe, ack: 0, window: 0, flags: Bit.RST };
      assert.deepEqual(readSegment(frame), answerTo(reset, turned));
      assert.equal(shadow.flow(ends), undefined);
      assert.deepEqual(shadow.events().map(({ type, reason }) => [type, reasons[reason]]), [
        ["flow.close", "reset by the primary"],
      ]);
    }
  }
});
