import assert from "node:assert/strict";
import { Emitter } from "../../lib/event.ts";
import { NdjsonWriter } from "../../lib/ndjson.ts";
import { StatsTimer } from "../../lib/program/events.ts";

/** A timer with the interval `seconds` from time 0 on, and how often it has emitted. */
async function timed(
  seconds: number | undefined,
  use: (timer: StatsTimer, emitted: () => number) => void,
): Promise<Record<string, unknown>[]> {
  let text = "";
  const decoder = new TextDecoder();
  const writer = new NdjsonWriter({
    write(bytes) {
      text += decoder.decode(bytes);
      return Promise.resolve(bytes.length);
    },
  });
  const emitter = new Emitter("shadow", writer, "backup");
  let reads = 0;
  const timer = new StatsTimer(emitter, () => ({ flows: ++reads }), seconds, 0);
  use(timer, () => reads);
  await emitter.close();
  return text.trimEnd().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

Deno.test("stats timer: one event at each interval, however often it is asked", async () => {
  await timed(2, (timer, emitted) => {
    const counts: number[] = [];
    for (let now = 0; now <= 8000; now += 250) {
      timer.tick(now);
      if (now % 1000 === 0) counts.push(emitted());
    }
    assert.deepEqual(counts, [0, 0, 1, 1, 2, 2, 3, 3, 4]);
  });
});

Deno.test("stats timer: ticks that come late do not shift the pace", async () => {
  await timed(1, (timer, emitted) => {
    for (let i = 1; i <= 10; i++) {
      timer.tick(i * 1000 - 1);
      assert.equal(emitted(), i - 1, "not before its time");
      timer.tick(i * 1000 + 300);
      assert.equal(emitted(), i);
    }
  });
});

Deno.test("stats timer: what was missed during a long stall is not made up for", async () => {
  await timed(1, (timer, emitted) => {
    timer.tick(1000);
    timer.tick(3_600_000);
    for (let now = 3_600_000; now < 3_601_000; now += 10) timer.tick(now);
    assert.equal(emitted(), 2);
    timer.tick(3_601_000);
    assert.equal(emitted(), 3);
    timer.tick(3_605_300);
    timer.tick(3_605_900);
    assert.equal(emitted(), 4);
    timer.tick(3_606_000);
    assert.equal(emitted(), 5, "the pace is as it was");
  });
});

Deno.test("stats timer: it says when the next event is due", async () => {
  await timed(0.1, (timer) => {
    assert.deepEqual([0, 30, 100, 170].map((now) => timer.due(now)), [100, 70, 0, 0]);
    timer.tick(170);
    assert.equal(timer.due(170), 30);
  });
  await timed(undefined, (timer) => assert.equal(timer.due(1e9), Infinity));
});

Deno.test("stats timer: without an interval it never emits by itself", async () => {
  await timed(undefined, (timer, emitted) => {
    for (const now of [0, 1, 1e9, Number.MAX_VALUE]) timer.tick(now);
    assert.equal(emitted(), 0);
    timer.emit();
    assert.equal(emitted(), 1);
  });
});

Deno.test("stats timer: the event carries what was read, at the moment of reading", async () => {
  const events = await timed(0.5, (timer) => {
    timer.tick(500);
    timer.tick(1000);
    timer.emit();
  });
  assert.deepEqual(
    events.map(({ type, by, host, flows }) => ({ type, by, host, flows })),
    [1, 2, 3].map((flows) => ({ type: "stats", by: "shadow", host: "backup", flows })),
  );
});
