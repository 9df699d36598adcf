/**
 * Early loss detection of the backup's BPF programs: what the primary acknowledges and the copied traffic lacks is
 * reported, once, and nothing else. Against a model that knows each byte.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type Ends, type LoadedShadow, recently, Verdict } from "../fixture/bpf.ts";
import { Bit } from "../fixture/segment.ts";
import { fromClient, fromService, u32, uint32, withShadow } from "../fixture/tracked.ts";

/** How many holes of a flow the programs tell apart. */
const HOLES = 4;
/** What one segment carries. */
const UNIT = 100;

/** The flow as byte ranges from its start on, of whole units; sequence numbers begin at `base`. */
class Model {
  readonly #shadow: LoadedShadow;
  readonly #ends: Ends;
  readonly #base: number;
  readonly #shown = new Set<number>();
  readonly #reported = new Set<number>();
  #acknowledged = 0;

  constructor(shadow: LoadedShadow, ends: Ends, base: number) {
    this.#shadow = shadow;
    this.#ends = ends;
    this.#base = base;
    shadow.setFlow(ends, {
      client_end: base,
      client_next: base,
      primary_ack: base,
      primary_right: u32(base + 0x1000000),
      replica_ack: base,
    });
  }

  /** The tap shows a segment of the client's. */
  show(from: number, to: number): void {
    const seq = u32(this.#base + from * UNIT);
    const payload = Array((to - from) * UNIT).fill(1);
    const frame = fromClient(this.#ends, { seq, payload, ack: 0 });
    assert.equal(this.#shadow.ingress.testRun(frame).verdict, Verdict.PASS);
    for (let unit = from; unit < to; unit++) this.#shown.add(unit);
  }

  /** The primary acknowledges all in front of `to`. Returns what it had that the tap has not shown. */
  acknowledge(to: number): number[] {
    const frame = fromService(this.#ends, { seq: 0, ack: u32(this.#base + to * UNIT) });
    assert.equal(this.#shadow.ingress.testRun(frame).verdict, Verdict.STOLEN);
    this.#acknowledged = Math.max(this.#acknowledged, to);
    const lost: number[] = [];
    for (let unit = 0; unit < this.#acknowledged; unit++) {
      if (!this.#shown.has(unit) && !this.#reported.has(unit)) lost.push(unit);
    }
    for (const unit of lost) this.#reported.add(unit);
    return lost;
  }

  /** What was reported since the last call, in its order. */
  reported(): number[] {
    return this.#shadow.events().filter(({ type }) => type === "gap").flatMap(({ from, to }) => {
      const first = u32(from - this.#base) / UNIT, count = u32(to - from) / UNIT;
      assert.ok(Number.isInteger(first) && Number.isInteger(count) && count > 0 && count < 1000);
      return Array.from({ length: count }, (_, index) => first + index);
    });
  }
}

/** Sequence numbers so that flows of a few thousand bytes wrap within. */
const bases = fc.oneof(uint32, fc.integer({ min: 0xffffffff - 40 * UNIT, max: 0xffffffff }));

const ascending = (a: number, b: number): number => a - b;

withShadow("bytes that the tap shows in order are no gap", (shadow, ends) => {
  for (const base of [0, 0xffffffff - 1000]) {
    const model = new Model(shadow, ends, base);
    for (let at = 0; at < 40; at++) {
      model.show(at, at + 1);
      assert.deepEqual(model.acknowledge(at + 1), []);
    }
    assert.deepEqual(model.reported(), []);
  }
});

withShadow("bytes that come late, twice or overlapping are no gap", (shadow, ends) => {
  for (const base of [0, 0xffffffff - 500]) {
    const model = new Model(shadow, ends, base);
    const order = [[0, 2], [4, 6], [1, 3], [8, 9], [3, 5], [6, 8], [0, 9], [10, 11], [9, 10]];
    for (const [from, to] of order) model.show(from!, to!);
    assert.deepEqual(model.acknowledge(11), []);
    assert.deepEqual(model.reported(), []);
  }
});

withShadow("a hole is no gap before the primary acknowledges it", (shadow, ends) => {
  const model = new Model(shadow, ends, 0xffffff00);
  model.show(0, 1);
  model.show(3, 5);
  assert.deepEqual(model.acknowledge(1), []);
  assert.deepEqual(model.reported(), []);
  model.acknowledge(2);
  assert.deepEqual(model.reported(), [1]);
  model.acknowledge(5);
  assert.deepEqual(model.reported(), [2]);
  model.acknowledge(5);
  assert.deepEqual(model.reported(), []);
});

withShadow("a gap behind the last segment shows by the acknowledgement alone", (shadow, ends) => {
  const model = new Model(shadow, ends, 0xfffffffe);
  model.show(0, 1);
  model.acknowledge(4);
  assert.deepEqual(model.reported(), [1, 2, 3]);
  model.show(4, 5);
  model.acknowledge(5);
  assert.deepEqual(model.reported(), []);
});

withShadow("an empty segment shows a hole, too", (shadow, ends) => {
  const model = new Model(shadow, ends, 77);
  model.show(2, 2);
  model.acknowledge(2);
  assert.deepEqual(model.reported(), [0, 1]);
});

withShadow("a lost FIN is a gap of one", (shadow, ends) => {
  const flow = { client_end: 0xffffffff, primary_ack: 0xffffffff, primary_right: 5000 };
  shadow.setFlow(ends, flow);
  shadow.ingress.testRun(fromService(ends, { ack: 0 }));
  const gaps = shadow.events().map(({ type, from, to }) => [type, from, to]);
  assert.deepEqual(gaps, [["gap", 0xffffffff, 0]]);
});

/**
 * A client that sends in order; of each segment it is known whether the tap shows it, and whether and when it is
 * sent again. Holes are filled from either end, as a sender's cumulative or selective repair does.
 */
const lives = fc.array(
  fc.record({
    length: fc.integer({ min: 1, max: 3 }),
    shown: fc.boolean(),
    acknowledge: fc.option(fc.nat(100)),
    again: fc.option(fc.record({ part: fc.constantFrom("start", "end", "all"), units: fc.nat(2) })),
  }),
  { minLength: 1, maxLength: 25 },
);

withShadow("the gaps are exactly what the primary has and the tap lacks", (shadow, ends) => {
  fc.assert(
    fc.property(bases, lives, (base, life) => {
      const model = new Model(shadow, ends, base);
      let holes: [from: number, to: number][] = [];
      let sent = 0, acknowledged = 0;
      for (const { length, shown, acknowledge, again } of life) {
        const last = holes.at(-1);
        // Neighbouring holes are one; a run of unshown segments at the end is none yet.
        const room = holes.length < HOLES || last![1] === sent;
        if (shown || !room) {
          model.show(sent, sent + length);
        } else if (last !== undefined && last[1] === sent) {
          last[1] += length;
        } else {
          holes.push([sent, sent + length]);
        }
        sent += length;
        const open = holes.find(([, to]) => to < sent);
        if (again && open) {
          const units = Math.min(again.units + 1, open[1] - open[0]);
          if (again.part === "all") model.show(open[0], open[1]);
          else if (again.part === "start") model.show(open[0], open[0] + units);
          else model.show(open[1] - units, open[1]);
          if (again.part === "end") open[1] -= units;
          else open[0] = again.part === "all" ? open[1] : open[0] + units;
        }
        if (acknowledge !== null) {
          acknowledged = Math.max(acknowledged, Math.min(sent, acknowledge));
          const lost = model.acknowledge(acknowledged);
          assert.deepEqual(model.reported().sort(ascending), lost);
          for (const hole of holes) hole[0] = Math.max(hole[0], acknowledged);
        }
        holes = holes.filter(([from, to]) => from < to);
      }
      const lost = model.acknowledge(sent);
      assert.deepEqual(model.reported().sort(ascending), lost);
    }),
    { numRuns: 300 },
  );
});

const shots = fc.array(
  fc.oneof(
    fc.record({ from: fc.nat(60), length: fc.integer({ min: 0, max: 8 }) }),
    fc.record({ acknowledge: fc.nat(60) }),
  ),
  { minLength: 1, maxLength: 40 },
);

withShadow("no lost byte goes unreported, however many holes there are", (shadow, ends) => {
  fc.assert(
    fc.property(bases, shots, (base, shots) => {
      const model = new Model(shadow, ends, base);
      const reported = new Set<number>();
      const check = (to: number): void => {
        const lost = model.acknowledge(to);
        for (const unit of model.reported()) {
          assert.ok(!reported.has(unit), `unit ${unit} again`);
          reported.add(unit);
        }
        for (const unit of lost) assert.ok(reported.has(unit), `unit ${unit} of ${lost}`);
      };
      for (const shot of shots) {
        if ("acknowledge" in shot) check(shot.acknowledge);
        else model.show(shot.from, shot.from + shot.length);
      }
      check(70);
    }),
    { numRuns: 300 },
  );
});

withShadow("more holes than there is room for become one", (shadow, ends) => {
  const model = new Model(shadow, ends, 0xffffffff - 7 * UNIT);
  const lost: number[] = [];
  for (let hole = 0; hole < HOLES + 4; hole++) {
    model.show(2 * hole + 1, 2 * hole + 2);
    lost.push(2 * hole);
  }
  const all = 2 * (HOLES + 4);
  assert.deepEqual(model.acknowledge(all), lost);
  const reported = model.reported();
  assert.deepEqual(reported.slice(0, HOLES - 1), lost.slice(0, HOLES - 1));
  const last = Array.from({ length: all - 1 - 2 * (HOLES - 1) }, (_, at) => 2 * (HOLES - 1) + at);
  assert.deepEqual(reported.slice(HOLES - 1), last);
});

withShadow("gaps are counted with their bytes", (shadow, ends) => {
  const model = new Model(shadow, ends, 0xffffffff);
  for (const at of [1, 3, 6]) model.show(at, at + 1);
  const counted = shadow.counted(() => void model.acknowledge(7));
  assert.deepEqual(counted, { primary_segments: 1, gaps: 3, gap_bytes: 4 * UNIT });
  assert.deepEqual(model.reported(), [0, 2, 4, 5]);
});

withShadow("a replica that stays behind the primary is reported at intervals", (shadow, ends) => {
  const flow = {
    ...{ client_end: 900, client_next: 900, primary_ack: 500, primary_right: 5000 },
    ...{ replica_ack: 0xfffffff0 },
  };
  const acknowledgement = fromService(ends, { ack: 600 });
  const lags = (): unknown[] => {
    shadow.ingress.testRun(acknowledgement);
    return shadow.events().map(({ type, from, to }) => [type, from, to]);
  };
  shadow.setFlow(ends, flow);
  assert.deepEqual(lags(), [], "it may have been slow for a moment");
  shadow.setFlow(ends, { ...flow, lag_ns: recently() - 2e8 });
  assert.deepEqual(lags(), [["lag", 0xfffffff0, 600]]);
  assert.deepEqual(lags(), [], "not with each segment");
  shadow.setFlow(ends, { ...flow, lag_ns: recently() - 2e8, replica_ack: 600 });
  assert.deepEqual(lags(), []);
  assert.equal(shadow.flow(ends)!.lag_ns, 0);
});

withShadow("gaps and lags are no concern of a flow that is in handshake", (shadow, ends) => {
  shadow.ingress.testRun(fromClient(ends, { seq: 9, flags: Bit.SYN }));
  shadow.ingress.testRun(fromService(ends, { seq: 9, ack: 10, flags: Bit.SYN | Bit.ACK }));
  shadow.ingress.testRun(fromService(ends, { seq: 10, ack: 500 }));
  assert.deepEqual(shadow.events(), []);
});

withShadow("a hole that is filled in its middle is two gaps", (shadow, ends) => {
  for (const base of [0, 0xffffffff]) {
    shadow.setFlow(ends, { client_end: base, primary_ack: base, primary_right: u32(base + 9000) });
    const show = (from: number, count: number) =>
      shadow.ingress.testRun(
        fromClient(ends, { seq: u32(base + from), payload: Array(count).fill(1) }),
      );
    show(300, 100);
    show(100, 100);
    shadow.ingress.testRun(fromService(ends, { ack: u32(base + 400) }));
    const gaps = shadow.events().map(({ from, to }) => [u32(from - base), u32(to - base)]);
    assert.deepEqual(gaps, [[0, 100], [200, 300]]);
  }
});

withShadow("no byte is reported twice, however many holes there are", (shadow, ends) => {
  shadow.setFlow(ends, { primary_right: 100_000 });
  const show = (from: number) =>
    shadow.ingress.testRun(fromClient(ends, { seq: from, payload: Array(100).fill(1) }));
  // Holes 0, 2, 4, 6; the second is filled, and its slot taken by hole 8; there is none for 10.
  for (const at of [100, 300, 500, 700, 200, 900, 1100]) show(at);
  shadow.ingress.testRun(fromService(ends, { ack: 1200 }));
  const seen = new Set<number>(), twice = new Set<number>();
  for (const { from, to } of shadow.events()) {
    for (let at = from; at < to; at += 100) (seen.has(at) ? twice : seen).add(at);
  }
  assert.deepEqual([...twice], []);
});
