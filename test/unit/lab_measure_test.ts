import assert from "node:assert/strict";
import fc from "fast-check";
import { maximum, median, Progress, quantile, toMillis } from "../../lib/lab/measure.ts";

function progressOf(...moments: [time: number, bytes: number][]): Progress {
  const progress = new Progress();
  for (const [time, bytes] of moments) progress.add(time, bytes);
  return progress;
}

Deno.test("lab measure: an empty progress has no times, no silence and no throughput", () => {
  const empty = new Progress();
  assert.equal(empty.bytes, 0);
  assert.equal(empty.first, undefined);
  assert.equal(empty.last, undefined);
  assert.equal(empty.firstSince(0), undefined);
  assert.equal(empty.bytesBefore(1), 0);
  assert.equal(empty.longestSilence(), undefined);
  assert.equal(empty.throughput(), null);
  assert.throws(() => empty.at(0), RangeError);
});

Deno.test("lab measure: the longest silence around a moment, not elsewhere", () => {
  const progress = progressOf([0, 1], [500, 1], [510, 1], [600, 1], [610, 1], [2000, 1]);
  assert.deepEqual(progress.longestSilence(), { length: 1390, from: 610, to: 2000 });
  assert.deepEqual(progress.longestSilence(505, 609), { length: 90, from: 510, to: 600 });
  assert.deepEqual(progress.longestSilence(550, 560), { length: 90, from: 510, to: 600 });
  assert.equal(progress.longestSilence(2001, 3000), undefined);
});

Deno.test("lab measure: a silence that begins before the span and ends after it counts", () => {
  const progress = progressOf([0, 1], [100, 1]);
  assert.deepEqual(progress.longestSilence(40, 60), { length: 100, from: 0, to: 100 });
});

Deno.test("lab measure: throughput is bytes after the first moment over the time between", () => {
  const progress = progressOf([0, 1000], [500_000, 20], [1_000_000, 20]);
  assert.equal(progress.throughput(), 40);
  assert.equal(progress.throughput(400_000, 1_000_000), 40);
  assert.equal(progress.throughput(0, 999_999), 40);
  assert.equal(progress.throughput(0, 499_999), null, "one moment has no duration");
});

Deno.test("lab measure: look-ups agree with a plain search in any progress", () => {
  const steps = fc.array(fc.tuple(fc.nat(50), fc.nat(1000)), { minLength: 1, maxLength: 3000 });
  fc.assert(
    fc.property(steps, fc.nat(200), (list, probe) => {
      let time = 0;
      const moments = list.map(([wait, bytes]): [number, number] => [time += wait, bytes]);
      const progress = progressOf(...moments);
      const at = probe * time / 200;
      assert.equal(progress.length, moments.length);
      assert.equal(progress.bytes, moments.reduce((sum, [, bytes]) => sum + bytes, 0));
      assert.equal(progress.firstSince(at), moments.find(([moment]) => moment >= at)?.[0]);
      assert.equal(
        progress.bytesBefore(at),
        moments.filter(([moment]) => moment < at).reduce((sum, [, bytes]) => sum + bytes, 0),
      );
      const gaps = moments.slice(1).map(([moment], index) => moment - moments[index]![0]);
      assert.equal(progress.longestSilence()?.length, gaps.length ? Math.max(...gaps) : undefined);
    }),
    { numRuns: 50 },
  );
});

Deno.test("lab measure: the wait from a moment to the next one", () => {
  const progress = progressOf([100, 1], [300, 1]);
  assert.deepEqual(progress.waits(120), [180]);
  assert.deepEqual(progress.waits(300), [0]);
  assert.deepEqual(progress.waits(301), []);
});

Deno.test("lab measure: median, quantile and maximum leave out what is missing", () => {
  assert.equal(median([3, null, 1, 2]), 2);
  assert.equal(median([4, 1]), 2.5);
  assert.equal(median([null]), null);
  assert.equal(quantile([0, 10], 0.99), 9.9);
  assert.equal(quantile([7], 0.99), 7);
  assert.equal(maximum([null, 2, 5, null]), 5);
  assert.equal(maximum([-1]), -1);
  assert.equal(maximum([]), null);
});

Deno.test("lab measure: microseconds become milliseconds with three digits", () => {
  assert.equal(toMillis(1234.4), 1.234);
  assert.equal(toMillis(undefined), null);
});
