import assert from "node:assert/strict";
import fc from "fast-check";
import { after } from "../../lib/flow/sequence.ts";

const uint32 = fc.nat(0xffffffff);
/** Distances for which RFC 9293 section 3.4 defines an order. */
const distance = fc.integer({ min: 1, max: 0x7fffffff });

Deno.test("after: what lies ahead by less than half the space is later, also across the wrap", () => {
  fc.assert(fc.property(uint32, distance, (from, step) => {
    const to = (from + step) % 2 ** 32;
    assert.equal(after(to, from), true);
    assert.equal(after(from, to), false);
  }));
});

Deno.test("after: no number is later than itself", () => {
  fc.assert(fc.property(uint32, (number) => {
    assert.equal(after(number, number), false);
  }));
});

Deno.test("after: the edges", () => {
  const cases: [number, number, boolean][] = [
    [1, 0, true],
    [0, 0xffffffff, true],
    [0xffffffff, 0, false],
    [0x7fffffff, 0, true],
    [0x80000001, 0, false],
    [0, 0x80000001, true],
    [5, 0xfffffff0, true],
    [0xfffffff0, 5, false],
    [0x80000000, 0x7fffffff, true],
    [0x7fffffff, 0x80000000, false],
  ];
  for (const [a, b, expected] of cases) assert.equal(after(a, b), expected, `${a} after ${b}`);
});
