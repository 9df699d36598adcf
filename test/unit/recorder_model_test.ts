/**
 * The recorder against a model that has one map entry a byte.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type TestFlow, TestRecorder } from "../fixture/recorder.ts";

const MIB = 1 << 20;

/** What a flow's bytes should be: the first that came under each number, until the replica has it. */
class Model {
  readonly bytes = new Map<number, number>();
  /** Numbers relative to the flow's start, so that they do not wrap. */
  end = 0;
  primary = 0;
  replica: number | undefined;
  seen = 0;
  freed = 0;

  data(from: number, payload: readonly number[]): number | undefined {
    let diverged: number | undefined;
    payload.forEach((byte, i) => {
      const at = from + i;
      if (this.replica !== undefined && at < this.replica) return;
      const there = this.bytes.get(at);
      if (there === undefined) {
        this.bytes.set(at, byte);
        this.seen += 1;
      } else if (there !== byte) {
        diverged ??= at;
      }
    });
    this.end = Math.max(this.end, from + payload.length);
    return diverged;
  }

  replicaAck(upto: number): number {
    const to = Math.min(upto, Math.max(this.end, this.primary));
    if (this.replica !== undefined && to <= this.replica) return 0;
    this.replica = to;
    let freed = 0;
    for (const at of [...this.bytes.keys()]) {
      if (at >= to) continue;
      this.bytes.delete(at);
      freed += 1;
    }
    this.freed += freed;
    return freed;
  }
}

// Those of IPv4 share a place among the known flows.
const flows: TestFlow[] = [{ family: 4, port: 1000 }, { family: 4, port: 1512 }, {
  family: 6,
  port: 1000,
}];

const step = fc.record({
  flow: fc.nat(flows.length - 1),
  what: fc.constantFrom("data", "data", "data", "data", "primary", "replica"),
  /** How far from the flow's end, or from its start. */
  distance: fc.integer({ min: -9000, max: 3000 }),
  length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 6000 })),
  value: fc.nat(3),
});

Deno.test("recorder: bytes, holes and repetitions are what a map of bytes says", async () => {
  const starts = fc.constantFrom(0, 1000, 2 ** 32 - 1, 2 ** 32 - 5000, 2 ** 31 - 100);
  await fc.assert(
    fc.asyncProperty(
      starts,
      fc.array(step, { minLength: 1, maxLength: 40 }),
      async (start, steps) => {
        const test = new TestRecorder(4 * MIB, MIB);
        const models = flows.map(() => new Model());
        // Every flow begins with a byte at its start.
        flows.forEach((flow, i) => {
          test.data(flow, start, [7]);
          models[i]!.data(0, [7]);
        });
        let diverged = 0;
        for (const { flow: index, what, distance, length, value } of steps) {
          const [flow, model] = [flows[index]!, models[index]!];
          const at = Math.max(0, model.end + distance);
          if (what === "data") {
            // Mostly the same bytes for the same numbers; sometimes others.
            const payload = Array.from({ length }, (_, i) => value === 0 ? 1 : (at + i) * 7 & 255);
            test.data(flow, start + at, payload);
            const first = model.data(at, payload);
            if (first === undefined) {
              assert.equal(test.diverged.length, diverged);
            } else {
              assert.deepEqual(test.diverged.slice(diverged), [
                [test.ends(flow).client, start + first >>> 0],
              ]);
              diverged += 1;
            }
          } else if (what === "primary") {
            const ack = Math.max(model.primary, Math.min(at, model.end));
            test.primaryAck(flow, start + ack);
            model.primary = ack;
          } else {
            assert.equal(await test.replicaAck(flow, start + at), model.replicaAck(at));
          }
        }
        for (const [index, flow] of flows.entries()) {
          const model = models[index]!;
          const [bytes] = await test.fetch(flow, start, model.end + 10);
          const expected = Array.from(
            { length: model.end + 10 },
            (_, at) => model.bytes.get(at) ?? -1,
          );
          assert.deepEqual(bytes, expected);
          const { table, states } = test.recorder;
          const [described] = (await test.ask({ request: "flows" }))
            .map((line) => line["flow"] as Record<string, unknown>)
            .filter((flow) => flow["client"] === test.ends(flows[index]!).client);
          assert.equal(described!["seen"], model.seen);
          assert.equal(described!["held"], model.bytes.size);
          assert.equal(table.size, flows.length);
          assert.equal(
            states.freed.reduce((sum, value) => sum + value),
            test.recorder.ledger.freed,
          );
        }
        const { ledger } = test.recorder;
        assert.equal(ledger.seen, models.reduce((sum, model) => sum + model.seen, 0));
        assert.equal(ledger.freed, models.reduce((sum, model) => sum + model.freed, 0));
        assert.equal(ledger.held, ledger.seen - ledger.freed);
        assert.deepEqual(test.dropped, []);
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("recorder: in too little memory it loses bytes, says how many, and never has a wrong one", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 10, maxLength: 120 }),
      fc.constantFrom(20_000, 100_000, 200_000),
      async (steps, window) => {
        const start = 2 ** 32 - 60_000;
        const test = new TestRecorder(90_000, window);
        const ends = flows.map(() => 1);
        const lows = flows.map(() => 0);
        flows.forEach((flow) => test.data(flow, start, [0]));
        for (const { flow: index, what, distance, length } of steps) {
          const flow = flows[index]!;
          const at = Math.max(lows[index]!, ends[index]! + distance);
          if (what === "data") {
            test.data(flow, start + at, Array.from({ length }, (_, i) => (at + i) * 7 & 255));
            ends[index] = Math.max(ends[index]!, at + length);
          } else if (what === "primary") {
            test.primaryAck(flow, start + ends[index]!);
          } else {
            await test.replicaAck(flow, start + at);
            lows[index] = Math.min(at, ends[index]!);
          }
        }
        test.recorder.tick(1);
        const { ledger, states, holdings } = test.recorder;
        const lost = ledger.dropped_budget + ledger.dropped_window + ledger.dropped_closed;
        assert.equal(ledger.seen, ledger.held + ledger.freed + lost);
        assert.equal(states.held.reduce((sum, value) => sum + value), ledger.held);
        assert.ok(ledger.held <= 90_000 && holdings.store.used <= holdings.store.capacity);
        assert.equal(states.blocks.reduce((sum, value) => sum + value), holdings.store.used);
        assert.equal(lost > 0, test.dropped.length > 0);
        let held = 0;
        for (const [index, flow] of flows.entries()) {
          const [bytes] = await test.fetch(flow, start, ends[index]!);
          assert.equal(bytes.length, ends[index]);
          bytes.forEach((byte, at) => {
            if (byte >= 0) assert.equal(byte, at * 7 & 255, `byte ${at}`);
          });
          held += bytes.filter((byte) => byte >= 0).length;
        }
        assert.equal(held, ledger.held);
      },
    ),
    { numRuns: 60 },
  );
});
