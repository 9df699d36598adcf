import assert from "node:assert/strict";
import fc from "fast-check";
import { Deadlines, type Timed } from "../../lib/detect/deadlines.ts";

Deno.test("deadlines: what is next and what is due is what a list would say", () => {
  const time = fc.integer({ min: 0, max: 20 });
  const step = fc.record({ item: fc.nat(15), time, kind: fc.constantFrom("set", "delete", "due") });
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
    const items: Timed[] = Array.from({ length: 16 }, () => ({ deadline: 0, heapIndex: -1 }));
    const deadlines = new Deadlines<Timed>();
    const list = new Map<Timed, number>();
    const due: Timed[] = [];
    for (const { item: index, time, kind } of steps) {
      const item = items[index]!;
      if (kind === "set") {
        deadlines.set(item, time);
        list.set(item, time);
      } else if (kind === "delete") {
        deadlines.delete(item);
        list.delete(item);
      } else {
        deadlines.due(time, due);
        const expected = [...list].filter(([, at]) => at <= time).map(([item]) => item);
        assert.equal(new Set(due).size, due.length);
        assert.deepEqual(new Set(due), new Set(expected));
      }
      assert.equal(deadlines.next, Math.min(Infinity, ...list.values()));
    }
  }));
});
