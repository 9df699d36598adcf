/**
 * Output commit in the gateway's BPF programs: what the client is told is never more than both servers have given, and
 * never waits for longer than it may. Frames are read by the RFCs alone, apart from the code under test.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { monotonicMicros } from "../../ffi/clock.ts";
import { reasons } from "../../lib/flow/event.ts";
import { ETHERTYPE_COMMIT, MARK_COMMIT } from "../../lib/flow/layout.ts";
import { MIRROR_COMMIT } from "../../lib/mirror/layout.ts";
import { type Ends, isRoot, LoadedMirror, runMarked, Verdict } from "../fixture/bpf.ts";
import { committed, Flow, linked, mac, macs } from "../fixture/commit_flow.ts";
import { Bit, long, readSegment, type Segment, word } from "../fixture/segment.ts";
import { shapes, TAGS } from "../fixture/shapes.ts";
import { fromClient, type Said, u32, uint32 } from "../fixture/tracked.ts";

const families: readonly Ends[] = [
  { client: "10.77.1.2", clientPort: 40_000, server: "10.77.0.100", serverPort: 9 },
  {
    client: "fd77:1:0:0:0:0:0:2",
    clientPort: 40_000,
    server: "fd77:0:0:0:0:0:0:100",
    serverPort: 9,
  },
];
/** Long beside what a busy machine takes from a test between two calls. */
const TIMEOUT = 10_000;
const ACK = Bit.ACK;

const loaded = isRoot ? new LoadedMirror(["10.77.0.100:9", "[fd77::100]:9"]) : undefined;

function withMirror(name: string, test: (mirror: LoadedMirror, ends: Ends) => void): void {
  for (const ends of families) {
    Deno.test({
      name: `bpf: commit: ${name}, IPv${ends.client.includes(":") ? 6 : 4}`,
      ignore: loaded === undefined,
      fn() {
        loaded!.control(macs, MIRROR_COMMIT, TIMEOUT);
        loaded!.forget(ends);
        loaded!.heard(now());
        loaded!.events();
        test(loaded!, ends);
      },
    });
  }
}

/** CLOCK_MONOTONIC in nanoseconds. */
const now = (): number => Math.round(monotonicMicros() * 1000);
const before = (milliseconds: number): number => now() - milliseconds * 1e6;

/** The reasons why flows became unprotected since the last call. */
const unprotected = (mirror: LoadedMirror): string[] =>
  mirror.events().filter(({ type }) => type === "flow.unprotected")
    .map(({ reason }) => reasons[reason]!);

const steps = fc.array(
  fc.record({
    by: fc.constantFrom("primary" as const, "replica" as const),
    ack: fc.nat(200_000),
    window: fc.nat(2000),
    payload: fc.constantFrom(0, 0, 1, 1000),
    stale: fc.integer({ min: 1, max: 8 }).map((one) => one === 1),
  }),
  { minLength: 1, maxLength: 25 },
);

withMirror("no more is told than both have given, and all of that is told", (mirror, ends) => {
  const flows = fc.record({
    seq: uint32,
    ack: uint32,
    scale: fc.nat(14),
    stamped: fc.boolean(),
    tags: fc.constantFrom(...TAGS),
  });
  fc.assert(
    fc.property(flows, steps, (made, steps) => {
      const flow = new Flow(mirror, ends, made).open(1000);
      const given = { primary: [0, 1000], replica: [0, 1000] };
      let told = 0, seq = 0;
      for (const { by, window, payload, stale, ack: advance } of steps) {
        const ack = stale ? given[by][0]! : Math.max(given[by][0]!, advance);
        given[by] = [ack, Math.max(given[by][1]!, ack + window * 2 ** flow.scale)];
        const both = [0, 1].map((i) => Math.min(given.primary[i]!, given.replica[i]!));
        let segment: Segment | undefined;
        if (by === "primary") {
          const data = Array(payload).fill(7);
          segment = flow.primary(ack, window, { seq, payload: data });
          seq += payload;
          if (payload > 0) assert.deepEqual(segment?.payload, data);
          if (segment !== undefined) assert.equal(segment.tcpChecksum, true);
        } else {
          segment = flow.replica(ack, window);
          if (segment !== undefined) assert.equal(segment.seq, u32(flow.seq + seq));
        }
        const numbers = flow.numbers(segment);
        if (numbers === undefined) {
          // Whoever is held back brings nothing new.
          assert.ok(both[0]! <= told, "all of it is told");
          continue;
        }
        assert.ok(numbers[0] <= both[0]! && numbers[1] <= both[1]!, `${numbers} of ${both}`);
        assert.equal(numbers[0], by === "primary" ? Math.min(ack, given.replica[0]!) : both[0]);
        told = Math.max(told, numbers[0]);
      }
    }),
    { numRuns: 150 },
  );
});

withMirror("the frame of a replica that was second becomes the acknowledgement", (mirror, ends) => {
  for (const stamped of [true, false]) {
    const flow = new Flow(mirror, ends, { stamped }).open();
    const payload = [1, 2, 3];
    assert.deepEqual(flow.numbers(flow.primary(500, 1000, { payload })), [0, 65_408]);
    assert.equal(flow.primary(700, 1000, { seq: 3 }), undefined, "nothing new for the client");
    assert.equal(mirror.commit(ends)!.waiting, true);
    const first = flow.replica(600, 900)!;
    assert.deepEqual(flow.numbers(first), [600, 600 + 900 * 128]);
    assert.equal(first.seq, flow.seq + 3, "the primary's SND.NXT");
    // The primary's newest timestamp; what it echoes is what the replica has got.
    assert.deepEqual(first.timestamps, stamped ? [800, 8] : undefined);
    assert.deepEqual(flow.numbers(flow.replica(900, 2000)), [700, 700 + 1000 * 128]);
    assert.equal(flow.replica(900, 2000), undefined, "told already");
    assert.equal(mirror.commit(ends)!.waiting, false);
    assert.deepEqual(flow.numbers(flow.primary(900, 500, { seq: 3 })), [900, 900 + 500 * 128]);
    // The commit frame was lost; the replica's next one, whatever made it speak, makes up for it.
    assert.equal(flow.primary(1900, 990, { seq: 3 }), undefined);
    assert.deepEqual(flow.numbers(flow.replica(1900, 2000)), [1900, 1900 + 990 * 128]);
  }
});

withMirror("a window of the replica's that opens is told", (mirror, ends) => {
  const flow = new Flow(mirror, ends, { scale: 0 }).open();
  flow.replica(1000, 0);
  assert.deepEqual(flow.numbers(flow.primary(1000, 5000)), [1000, 6000]);
  flow.primary(65_535, 60_000);
  assert.deepEqual(flow.numbers(flow.replica(65_535, 0)), [65_535, 65_535], "closed");
  assert.deepEqual(flow.numbers(flow.replica(65_535, 3000)), [65_535, 68_535]);
});

const sackOf = (flow: Flow, ...blocks: [number, number][]): number[] => [
  ...[1, 1, 5, 2 + 8 * blocks.length],
  ...blocks.flatMap(([from, to]) => [...long(u32(flow.ack + from)), ...long(u32(flow.ack + to))]),
];

/** The options behind the timestamps. */
function moreOptions(frame: Uint8Array, stamped: boolean): number[] {
  const { at } = readSegment(frame);
  return [...frame.subarray(at + (stamped ? 32 : 20), at + (frame[at + 12]! >> 4) * 4)];
}

withMirror("the client gets the replica's SACK where it is behind", (mirror, ends) => {
  for (const stamped of [true, false]) {
    const flow = new Flow(mirror, ends, { stamped }).open();
    assert.equal(flow.primary(5000, 1000), undefined);
    const cases: [[number, number][], [number, number][]][] = [
      [[[2000, 3000]], [[2000, 3000]]],
      [[[4000, 6000], [2000, 3000]], [[4000, 6000], [2000, 3000]]],
      [[[500, 900], [1000, 1500], [2000, 2000]], []], // a duplicate, the hole itself, nothing
      [[[500, 900], [6000, 7000], [4000, 4500]], [[6000, 7000], [4000, 4500]]],
    ];
    for (const [said, given] of cases) {
      const frame = flow.frame({
        ...{ seq: flow.seq, ack: flow.ack + 1000, window: 1000 },
        options: sackOf(flow, ...said),
      }, [50, 8]);
      const run = flow.run(committed(linked(frame, macs.backup)));
      if (run.verdict === Verdict.STOLEN) {
        assert.deepEqual(given, []);
        continue;
      }
      const segment = readSegment(run.frame);
      assert.deepEqual([segment.tcpChecksum, segment.ack], [true, flow.ack + 1000]);
      const expected = given.length === 0 ? [] : sackOf(flow, ...given);
      assert.deepEqual(moreOptions(run.frame, stamped), expected);
    }
  }
});

withMirror(
  "without SACK the replica's duplicates reach the client while it is behind",
  (mirror, ends) => {
    const flow = new Flow(mirror, ends).open();
    assert.equal(flow.primary(5000, 1000), undefined);
    assert.deepEqual(flow.numbers(flow.replica(1000, 1000)), [1000, 129_000]);
    assert.deepEqual(flow.numbers(flow.replica(1000, 1000)), [1000, 129_000]);
    assert.ok(flow.replica(5000, 1000));
    assert.equal(flow.replica(5000, 1000), undefined);
  },
);

withMirror("a lowered acknowledgement echoes what the replica has got", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  const echoed = (ack: number) => flow.primary(ack, 1000, { payload: [1] })!.timestamps![1];
  assert.equal(echoed(500), 2, "the SYN");
  flow.replica(300, 1000);
  assert.equal(echoed(500), 8);
  flow.replica(500, 1000);
  assert.equal(echoed(500), 7, "the primary's own");
});

withMirror("the primary's SACK is hidden where its acknowledgement is lowered", (mirror, ends) => {
  for (const stamped of [true, false]) {
    const flow = new Flow(mirror, ends, { stamped }).open();
    const options = sackOf(flow, [100, 200], [7000, 8000]);
    const send = (ack: number) => {
      const said = { seq: flow.seq, ack: u32(flow.ack + ack), window: 1000, payload: [1], options };
      const { frame, verdict } = flow.run(linked(flow.frame(said, [9, 9]), macs.primary));
      assert.equal(verdict, Verdict.PASS);
      assert.equal(readSegment(frame).tcpChecksum, true);
      return moreOptions(frame, stamped);
    };
    assert.deepEqual(send(5000), Array(options.length).fill(1));
    flow.replica(5000, 1000);
    assert.deepEqual(send(5000), options);
  }
});

withMirror("a flow waits for the timeout and no longer", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  assert.equal(flow.primary(500, 1000), undefined);
  mirror.waitedSince(ends, before(TIMEOUT / 2));
  assert.equal(flow.primary(500, 1000), undefined);
  mirror.waitedSince(ends, before(1.5 * TIMEOUT));
  assert.deepEqual(flow.numbers(flow.primary(500, 1000)), [500, 500 + 128_000]);
  assert.deepEqual(unprotected(mirror), ["its replica did not acknowledge in time"]);
  // From then on the primary alone counts.
  assert.deepEqual(flow.numbers(flow.primary(900, 1000)), [900, 900 + 128_000]);
  assert.equal(flow.replica(700, 10), undefined);
  assert.equal(mirror.silent, false);
  assert.deepEqual(unprotected(mirror), []);
});

withMirror("progress of the replica gives it the whole time again", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  flow.primary(5000, 1000);
  mirror.waitedSince(ends, before(1.5 * TIMEOUT));
  assert.deepEqual(flow.numbers(flow.replica(1000, 1000)), [1000, 129_000]);
  assert.equal(flow.primary(5000, 1000), undefined);
  assert.deepEqual(unprotected(mirror), []);
});

withMirror(
  "a silent backup holds up other flows only shortly, until it is heard",
  (mirror, ends) => {
    const first = new Flow(mirror, ends).open();
    first.primary(500, 1000);
    mirror.heard(before(2 * TIMEOUT));
    mirror.waitedSince(ends, before(1.5 * TIMEOUT));
    assert.ok(first.primary(500, 1000));
    assert.deepEqual(unprotected(mirror), ["the backup is silent"]);
    assert.equal(mirror.silent, true);

    const second = { ...ends, clientPort: 40_001 };
    const flow = new Flow(mirror, second).open();
    assert.equal(flow.primary(500, 1000), undefined);
    mirror.waitedSince(second, before(TIMEOUT / 8));
    assert.ok(flow.primary(500, 1000));
    assert.deepEqual(unprotected(mirror), ["the backup is silent"]);

    const third = { ...ends, clientPort: 40_002 };
    const after = new Flow(mirror, third).open();
    assert.equal(after.primary(500, 1000), undefined);
    assert.deepEqual(after.numbers(after.replica(500, 1000)), [500, 500 + 128_000]);
    assert.equal(mirror.silent, false);
    assert.equal(after.primary(900, 1000), undefined, "committed again");
    mirror.waitedSince(third, before(TIMEOUT / 8));
    assert.equal(after.primary(900, 1000), undefined);
  },
);

withMirror("a replica that does not read has longer, but not for ever", (mirror, ends) => {
  const flow = new Flow(mirror, ends, { scale: 0 }).open(5000);
  flow.replica(5000, 0);
  assert.deepEqual(flow.numbers(flow.primary(5000, 5000)), [5000, 5000]);
  mirror.waitedSince(ends, before(9 * TIMEOUT));
  assert.deepEqual(flow.numbers(flow.primary(5000, 6000)), [5000, 5000]);
  mirror.waitedSince(ends, before(11 * TIMEOUT));
  assert.deepEqual(flow.numbers(flow.primary(5000, 6000)), [5000, 11_000]);
  assert.deepEqual(unprotected(mirror), ["its replica's window stayed closed"]);
});

withMirror("a replica that resets the flow holds nobody up", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  assert.equal(flow.primary(500, 1000), undefined);
  assert.equal(flow.replica(0, 0, { flags: Bit.RST | ACK }), undefined);
  assert.deepEqual(flow.numbers(flow.primary(500, 1000)), [500, 128_500]);
  assert.deepEqual(unprotected(mirror), ["the replica reset it by itself"]);
});

withMirror(
  "the acknowledgement of the client's FIN waits, too; then all is forgotten",
  (mirror, ends) => {
    const flow = new Flow(mirror, ends).open();
    const toPrimary = (said: Said) => {
      const frame = fromClient(ends, said);
      frame.set([...macs.primary, ...macs.own]);
      mirror.egress.testRun(frame);
    };
    toPrimary({ seq: flow.ack, flags: Bit.FIN | ACK, payload: [1, 2] });
    assert.deepEqual(flow.numbers(flow.primary(3, 1000, { flags: Bit.FIN | ACK })), [0, 65_408]);
    assert.deepEqual(flow.numbers(flow.replica(3, 1000)), [3, 3 + 128_000]);
    assert.equal(mirror.commit(ends), undefined);
    // A late acknowledgement of the primary's, from TIME_WAIT.
    assert.deepEqual(flow.numbers(flow.primary(3, 2000, { seq: 1 })), [3, 3 + 256_000]);
    assert.equal(flow.replica(3, 1000), undefined);
    assert.deepEqual(unprotected(mirror), []);
  },
);

withMirror("a FIN alone that the replica did not acknowledge is no loss", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  const frame = fromClient(ends, { seq: flow.ack, flags: Bit.FIN | ACK });
  frame.set([...macs.primary, ...macs.own]);
  flow.primary(0, 1000);
  mirror.egress.testRun(frame);
  assert.equal(flow.primary(1, 1000), undefined);
  mirror.waitedSince(ends, before(1.5 * TIMEOUT));
  assert.ok(flow.primary(1, 1000));
  assert.deepEqual(unprotected(mirror), []);
});

withMirror("a reset of the primary passes, and ends the waiting", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  assert.equal(flow.primary(500, 1000), undefined);
  assert.deepEqual(flow.numbers(flow.primary(700, 0, { flags: Bit.RST | ACK })), [700, 700]);
  assert.equal(mirror.commit(ends), undefined);
  assert.equal(flow.replica(500, 1000), undefined);
});

withMirror(
  "a flow whose handshake was not seen is not limited, and reported once",
  (mirror, ends) => {
    const flow = new Flow(mirror, ends);
    for (let i = 0; i < 3; i++) assert.ok(flow.primary(500 + i, 1000));
    assert.equal(flow.replica(100, 1000), undefined);
    assert.deepEqual(unprotected(mirror), ["its handshake was not seen"]);
    // The same addresses and ports again, from the start.
    const anew = new Flow(mirror, ends, { seq: 70_000, ack: 80_000 }).open();
    assert.equal(anew.primary(500, 1000), undefined);
  },
);

withMirror("a probe for the primary goes there alone", (mirror, ends) => {
  const frame = fromClient(ends, { payload: [0] });
  frame.set([...macs.primary, ...macs.own]);
  const counted = mirror.counted(() => {
    const run = runMarked(mirror.egress, frame, MARK_COMMIT);
    assert.deepEqual([run.verdict, run.mark, run.frame], [Verdict.PASS, 0, frame]);
  });
  assert.deepEqual(counted, {});
});

withMirror("frames of commit are the backup's alone, and always taken", (mirror, ends) => {
  const flow = new Flow(mirror, ends).open();
  assert.equal(flow.primary(500, 1000), undefined);
  const frame = committed(linked(flow.frame({ ack: flow.ack + 500 }, [1, 1]), macs.backup));
  for (const source of [macs.own, mac(0x99)]) {
    const other = linked(frame, source);
    const run = flow.run(other);
    assert.deepEqual([run.verdict, run.frame], [Verdict.PASS, other]);
  }
  assert.equal(mirror.commit(ends)!.replica_ack, flow.ack);
  const pair = { source: ends.server, destination: ends.client, sourcePort: 9 };
  for (const [name, shape] of shapes({ ...pair, destinationPort: 40_777 })) {
    const whole = linked(shape, macs.backup);
    whole.set(word(ETHERTYPE_COMMIT), 12);
    assert.equal(flow.run(whole).verdict, Verdict.STOLEN, name);
  }
  for (let length = 14; length < frame.length; length++) {
    assert.equal(flow.run(frame.slice(0, length)).verdict, Verdict.STOLEN, `cut to ${length}`);
  }
  mirror.control(macs, 0);
  assert.equal(flow.run(frame).verdict, Verdict.STOLEN);
  assert.deepEqual(flow.numbers(flow.primary(500, 1000)), [500, 500 + 128_000]);
});
