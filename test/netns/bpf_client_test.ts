/**
 * What the backup's BPF programs make of the client's segments for the replica: acknowledgement and window change, and
 * nothing else; forged ones stay out. Checksums are computed apart from the code under test.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { reasons } from "../../lib/flow/event.ts";
import { Mode } from "../../lib/flow/layout.ts";
import { after } from "../../lib/flow/sequence.ts";
import { type Ends, type FlowFields, type LoadedShadow, Verdict } from "../fixture/bpf.ts";
import { Bit, ipFrame, Next, readSegment } from "../fixture/segment.ts";
import { TAGS } from "../fixture/shapes.ts";
import {
  type Frame,
  fromClient,
  fromService,
  stampedOptions,
  stamps,
  u32,
  uint32,
  withShadow,
} from "../fixture/tracked.ts";

/** Runs a client's segment that must reach the replica; checks that no more than those fields were changed. */
function assertGiven(
  shadow: LoadedShadow,
  frame: Frame,
  expected: { ack: number; window: number },
): void {
  const run = shadow.ingress.testRun(frame);
  assert.equal(run.verdict, Verdict.PASS);
  const before = readSegment(frame);
  assert.deepEqual(readSegment(run.frame), { ...before, ...expected });
  // Behind the acknowledgement stand offset and flags, behind the window the checksum.
  const { at } = before, changed = new Set<number>();
  for (const [index, byte] of frame.entries()) {
    if (run.frame[index] !== byte) changed.add(index - at);
  }
  for (const index of [8, 9, 10, 11, 14, 15, 16, 17]) changed.delete(index);
  assert.deepEqual([...changed], []);
}

/** Where a flow stands: all sequence numbers follow from these. */
const places = fc.record({
  seq: uint32,
  acknowledged: uint32,
  /** How much of that the replica has not sent; how much more the primary has. */
  behind: fc.oneof(fc.constant(0), fc.nat(3), fc.nat(0x1ffffff)),
  inFlight: fc.oneof(fc.constant(0), fc.nat(3), fc.nat(0x1ffffff)),
  shift: fc.nat(14),
});
type Place = typeof places extends fc.Arbitrary<infer T> ? T : never;

function flowAt({ seq, acknowledged, behind, inFlight, shift }: Place): FlowFields {
  return {
    client_end: seq,
    client_next: seq,
    client_ack: acknowledged,
    client_window: 0xffff,
    client_wscale: shift,
    primary_ack: seq,
    primary_right: u32(seq + 0x100000),
    primary_end: u32(acknowledged + inFlight),
    replica_ack: seq,
    replica_end: u32(acknowledged - behind),
  };
}

const written = fc.record({
  payload: fc.uint8Array({ maxLength: 1460 }).map((all) => [...all]),
  window: fc.nat(0xffff),
  stamps,
  options: fc.constantFrom(...stampedOptions),
  reserved: fc.nat(15),
  tags: fc.constantFrom(...TAGS),
});
type Written = typeof written extends fc.Arbitrary<infer T> ? T : never;

function frameOf(ends: Ends, written: Written, seq: number, ack: number): Frame {
  const { payload, window, stamps, reserved, tags } = written;
  const options = stamps === undefined ? {} : written.options(...stamps);
  return fromClient(ends, { seq, ack, window, payload, reserved, ...options }, tags);
}

/** The window that ends at `right`, seen from `ack`, 64 KiB at most. */
const hold = (right: number, ack: number, shift: number): number =>
  Math.min(0xffff, Math.min(0x10000, u32(right - ack)) >>> shift);

withShadow(
  "the replica sees no more acknowledged than it has sent, and a held window",
  (shadow, ends) => {
    fc.assert(
      fc.property(places, written, fc.nat(0xffffff), (place, written, forward) => {
        shadow.setFlow(ends, flowAt(place));
        // Never beyond what the primary has sent.
        const ack = u32(place.acknowledged + Math.min(forward, place.inFlight));
        const frame = frameOf(ends, written, place.seq, ack);
        const given = u32(place.acknowledged - place.behind);
        const clamped = after(ack, given) ? given : ack;
        const window = hold(ack, clamped, place.shift);
        assertGiven(shadow, frame, { ack: clamped, window });
        const flow = shadow.flow(ends)!;
        assert.equal(flow.client_ack, ack);
        assert.equal(flow.client_window, written.window);
        assert.equal(flow.client_end, u32(place.seq + written.payload.length));
      }),
      { numRuns: 300 },
    );
  },
);

withShadow("an old acknowledgement neither takes the hold back nor its window", (shadow, ends) => {
  fc.assert(
    fc.property(places, written, fc.integer({ min: 1, max: 0xffff }), (place, written, back) => {
      const flow = flowAt(place);
      shadow.setFlow(ends, flow);
      const ack = u32(place.acknowledged - back);
      const clamped = after(ack, flow.replica_end!) ? flow.replica_end! : ack;
      const window = hold(place.acknowledged, clamped, place.shift);
      assertGiven(shadow, frameOf(ends, written, place.seq, ack), { ack: clamped, window });
      assert.equal(shadow.flow(ends)!.client_ack, place.acknowledged);
      assert.equal(shadow.flow(ends)!.client_window, 0xffff);
    }),
    { numRuns: 300 },
  );
});

withShadow("when settling, the client's right edge stays where it is", (shadow, ends) => {
  shadow.control(Mode.SETTLING);
  fc.assert(
    fc.property(places, written, (place, written) => {
      fc.pre(place.behind > 0);
      place = { ...place, inFlight: 0 };
      shadow.setFlow(ends, flowAt(place));
      const ack = u32(place.acknowledged - place.behind);
      const real = (written.window * 2 ** place.shift + place.behind) / 2 ** place.shift;
      const window = Math.min(0xffff, Math.floor(real));
      const frame = frameOf(ends, written, place.seq, place.acknowledged);
      assertGiven(shadow, frame, { ack, window });
    }),
    { numRuns: 300 },
  );
});

withShadow("when settling, half of what the primary had in flight is allowed", (shadow, ends) => {
  shadow.control(Mode.SETTLING);
  fc.assert(
    fc.property(places, written, (place, written) => {
      fc.pre(place.inFlight > 0);
      shadow.setFlow(ends, flowAt(place));
      const ack = u32(place.acknowledged - place.behind);
      const most = Math.max(Math.floor(place.inFlight / 2), 0x10000);
      const bytes = Math.min(written.window * 2 ** place.shift, most);
      const window = Math.min(0xffff, Math.floor((bytes + place.behind) / 2 ** place.shift));
      const frame = frameOf(ends, written, place.seq, place.acknowledged);
      assertGiven(shadow, frame, { ack, window });
      assert.ok(shadow.flow(ends) !== undefined, "let go before the client has it");
    }),
    { numRuns: 300 },
  );
});

withShadow("padding and urgent data reach the replica as they are", (shadow, ends) => {
  const place = { seq: 77, acknowledged: 5000, behind: 100, inFlight: 0, shift: 0 };
  shadow.setFlow(ends, flowAt(place));
  const plain = fromClient(ends, { seq: 77, ack: 5000, flags: Bit.ACK | Bit.URG });
  const padded = Uint8Array.from([...plain, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
  assertGiven(shadow, padded, { ack: 4900, window: 100 });
  assert.equal(shadow.flow(ends)!.client_end, 77);
});

/** What RFC 5961 section 5 allows: from here to there, both inclusive. */
const bounds = fc.record({
  acknowledged: uint32,
  window: fc.oneof(fc.constant(0), fc.nat(0xffff)),
  shift: fc.nat(14),
  /** How far the primary is ahead of the client, and the replica of both. */
  primary: fc.nat(0x3fffffff),
  replica: fc.nat(0x3fffffff),
});

for (const mode of [Mode.SHADOW, Mode.SETTLING]) {
  const name = mode === Mode.SHADOW ? "forged" : "when settling, forged";
  withShadow(`${name} acknowledgements do not reach the replica`, (shadow, ends) => {
    shadow.control(mode);
    fc.assert(
      fc.property(bounds, ({ acknowledged, window, shift, primary, replica }) => {
        const fields: FlowFields = {
          client_ack: acknowledged,
          client_window: window,
          client_wscale: shift,
          client_end: 100,
          client_next: 100,
          primary_ack: 100,
          primary_end: u32(acknowledged + primary),
          primary_right: 100_000,
          replica_ack: 99, // not in step, so that the flow stays
          replica_end: u32(acknowledged + replica),
        };
        const sent = mode === Mode.SHADOW ? primary : Math.max(primary, replica);
        const highest = Math.max(sent, window * 2 ** shift);
        const lowest = -0xffff * 2 ** shift;
        const probe = (offset: number): boolean => {
          shadow.setFlow(ends, fields);
          const said = { seq: 100, ack: u32(acknowledged + offset), payload: [1] };
          const { verdict } = shadow.ingress.testRun(fromClient(ends, said));
          assert.ok(verdict === Verdict.PASS || verdict === Verdict.STOLEN);
          const moved = shadow.flow(ends)!.client_end !== 100;
          assert.equal(moved, verdict === Verdict.PASS, "only what is taken is followed");
          return verdict === Verdict.PASS;
        };
        assert.deepEqual([lowest, 0, highest].map(probe), [true, true, true]);
        assert.deepEqual([lowest - 1, highest + 1, 2 ** 31 - 1].map(probe), [false, false, false]);
      }),
      { numRuns: 150 },
    );
  });
}

withShadow("forged acknowledgements are counted, and change nothing", (shadow, ends) => {
  const fields = flowAt({ seq: 10, acknowledged: 0xfffffff0, behind: 0, inFlight: 100, shift: 0 });
  shadow.setFlow(ends, fields);
  const { seen_ns: _seen, ...before } = shadow.flow(ends)!;
  const forged = fromClient(ends, { seq: 10, ack: 0x80000000, payload: [1, 2, 3], window: 1 });
  const counted = shadow.counted(() => shadow.ingress.testRun(forged));
  assert.deepEqual(counted, { client_segments: 1, implausible: 1 });
  const { seen_ns: _later, ...later } = shadow.flow(ends)!;
  assert.deepEqual(later, before);
});

withShadow(
  "data beyond the primary's window is the stack's to judge, and not followed",
  (shadow, ends) => {
    fc.assert(
      fc.property(uint32, fc.nat(0xfffff), (right, beyond) => {
        const place = { seq: u32(right - 50), acknowledged: 9, behind: 0, inFlight: 0, shift: 0 };
        shadow.setFlow(ends, { ...flowAt(place), primary_right: right });
        const frame = fromClient(ends, { seq: u32(right + 1 + beyond), ack: 9, payload: [1] });
        assertGiven(shadow, frame, { ack: 9, window: 0 });
        assert.equal(shadow.flow(ends)!.client_end, place.seq);
        const within = fromClient(ends, { seq: right, ack: 9, payload: [1] });
        assertGiven(shadow, within, { ack: 9, window: 0 });
        assert.equal(shadow.flow(ends)!.client_end, u32(right + 1));
      }),
      { numRuns: 200 },
    );
  },
);

withShadow("segments that the replica has no use for stay out", (shadow, ends) => {
  const place = { seq: 10, acknowledged: 20, behind: 0, inFlight: 0, shift: 0 };
  const whole = fromClient(ends, { seq: 10, ack: 20, payload: Array(50).fill(1) });
  const cases: [Frame, Record<string, number>][] = [
    [fromClient(ends, { seq: 10, flags: Bit.PSH, payload: [1] }), { client_segments: 1 }],
    [fromClient(ends, { seq: 10, flags: 0 }), { client_segments: 1 }],
    [whole.slice(0, -1), { truncated: 1 }],
    [whole.slice(0, -50), { truncated: 1 }],
  ];
  for (const [frame, counters] of cases) {
    shadow.setFlow(ends, flowAt(place));
    let verdict: number | undefined;
    assert.deepEqual(
      shadow.counted(() => verdict = shadow.ingress.testRun(frame).verdict),
      counters,
    );
    assert.equal(verdict, Verdict.STOLEN);
    assert.equal(shadow.flow(ends)!.client_end, 10);
  }
});

withShadow("fragments of a known flow stay out, in both directions", (shadow, ends) => {
  const { client, server } = ends, place = { seq: 10, acknowledged: 20, behind: 0, inFlight: 90 };
  const ipv6 = client.includes(":");
  for (const offset of [0x2000, 0x2001, 0x0001]) {
    const cut = (frame: Frame, source: string, destination: string): Frame => {
      const tcp = [...frame.subarray(ipv6 ? 54 : 34)];
      if (!ipv6) return ipFrame({ source, destination, protocol: Next.TCP, fragment: offset }, tcp);
      // The same in IPv6's order: the offset first, the flag in the last bit.
      const at = (offset & 0x1fff) << 3 | offset >> 13;
      const header = [Next.TCP, 0, at >> 8, at & 255, 0, 0, 0, 1];
      return ipFrame({ source, destination, protocol: Next.FRAGMENT }, [...header, ...tcp]);
    };
    shadow.setFlow(ends, flowAt({ ...place, shift: 0 }));
    const before = shadow.flow(ends);
    const payload = Array(40).fill(1);
    const into = cut(fromClient(ends, { seq: 10, ack: 20, payload }), client, server);
    const out = cut(
      fromService(ends, { seq: 0, ack: 10, payload: payload.slice(30) }),
      server,
      client,
    );
    assert.equal(shadow.ingress.testRun(into).verdict, Verdict.STOLEN);
    assert.equal(shadow.egress.testRun(out).verdict, Verdict.STOLEN);
    assert.deepEqual(shadow.flow(ends), before);
  }
});

withShadow("a client's reset ends the flow if its number is exact", (shadow, ends) => {
  const place = { seq: 0xffffffff, acknowledged: 20, behind: 0, inFlight: 0, shift: 0 };
  for (const [seq, exact] of [[0xffffffff, true], [0, false], [0xfffffffe, false]] as const) {
    shadow.setFlow(ends, flowAt(place));
    shadow.events();
    const frame = fromClient(ends, { seq, flags: Bit.RST });
    const run = shadow.ingress.testRun(frame);
    assert.equal(run.verdict, Verdict.PASS, "the replica's stack judges it too");
    assert.deepEqual(run.frame, frame);
    assert.equal(shadow.flow(ends) === undefined, exact);
    const ended = shadow.events().map(({ type, reason }) => `${type}: ${reasons[reason]}`);
    assert.deepEqual(ended, exact ? ["flow.close: reset by the client"] : []);
  }
});

withShadow("both FINs, acknowledged, end the flow", (shadow, ends) => {
  const place = { seq: 0, acknowledged: 0, behind: 0, inFlight: 0, shift: 7 };
  const closing = { client_fin: 1, primary_fin: 1, replica_fin: 1 };
  for (const missing of [undefined, "client_fin", "replica_fin"] as const) {
    shadow.setFlow(ends, { ...flowAt(place), ...closing, ...(missing && { [missing]: 0 }) });
    assertGiven(shadow, fromClient(ends, { seq: 0, ack: 0 }), { ack: 0, window: 0x10000 >> 7 });
    assert.equal(shadow.flow(ends) === undefined, missing === undefined);
  }
});

withShadow(
  "segments of the primary stay out, and are followed even if cut to headers",
  (shadow, ends) => {
    fc.assert(
      fc.property(places, fc.nat(0xffff), fc.nat(14), stamps, (place, window, shift, stamps) => {
        shadow.setFlow(ends, { ...flowAt(place), primary_wscale: shift });
        const seq = u32(place.acknowledged + place.inFlight), payload = Array(999).fill(1);
        const said = { seq, ack: place.seq, window, payload, timestamps: stamps! };
        const frame = fromService(ends, { ...said, flags: Bit.ACK | Bit.FIN });
        const cut = frame.slice(0, -999);
        assert.equal(shadow.ingress.testRun(cut).verdict, Verdict.STOLEN);
        const flow = shadow.flow(ends)!;
        assert.equal(flow.primary_end, u32(seq + 1000));
        assert.equal(flow.primary_fin, 1);
        const right = u32(place.seq + window * 2 ** shift), before = u32(place.seq + 0x100000);
        assert.equal(flow.primary_right, after(right, before) ? right : before);
      }),
      { numRuns: 200 },
    );
  },
);
