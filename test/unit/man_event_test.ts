import assert from "node:assert/strict";
import { type EventType, vocabulary } from "../../lib/event.ts";
import { eventJsonSchema } from "../../lib/event_schema.ts";
import { fenceCounters } from "../../lib/fence/layout.ts";
import { guardCounters } from "../../lib/guard/layout.ts";
import { reasons } from "../../lib/flow/event.ts";
import { FLOW, readFlow, shadowCounters } from "../../lib/flow/layout.ts";
import { mirrorCounters } from "../../lib/mirror/layout.ts";
import { items, marked, readPage, section } from "../fixture/man.ts";

/** The parts of a JSON Schema that matter here. */
interface Schema {
  title?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  allOf?: { then: Schema }[];
}

/** The names of all fields of `schema`, and of the objects in its lists. */
function fieldNames({ properties = {}, items: element }: Schema): string[] {
  const own = Object.entries(properties).flatMap(([name, field]) => [name, ...fieldNames(field)]);
  return element === undefined ? own : [...own, ...fieldNames(element)];
}

const schema: Schema = eventJsonSchema();
const page = readPage("t2cp-event.5");
const types = items(section(page, "TYPES"), "Cm");

Deno.test("t2cp-event(5) describes every type, and no other", () => {
  assert.deepEqual([...types.keys()].toSorted(), Object.keys(vocabulary).toSorted());
});

Deno.test("t2cp-event(5) describes the common fields", () => {
  const described = items(section(page, "COMMON FIELDS"), "Va");
  assert.deepEqual([...described.keys()], Object.keys(schema.properties ?? {}));
});

for (const { then } of schema.allOf ?? []) {
  const type = then.title as EventType;

  Deno.test(`t2cp-event(5) describes every field of ${type}, and no other`, () => {
    const described = marked(types.get(type) ?? [], "Va");
    assert.deepEqual([...described].toSorted(), fieldNames(then).toSorted());
  });

  Deno.test(`t2cp-event(5) says whether ${type} may be dropped`, () => {
    const { droppable } = vocabulary[type];
    assert.equal((types.get(type) ?? []).includes("May be dropped."), droppable);
  });
}

Deno.test("the pages of shadow, mirror, guard and fence describe all of their counters", () => {
  for (
    const [name, counters] of [
      ["shadow", shadowCounters],
      ["mirror", mirrorCounters],
      ["guard", guardCounters],
      ["fence", fenceCounters],
    ] as const
  ) {
    const words = marked(section(readPage(`t2cp-${name}.8`), "EVENTS"), "Va");
    for (const counter of counters) assert.ok(words.has(counter), `${counter} of ${name}`);
  }
});

Deno.test("t2cp-shadow(8) and t2cp-mirror(8) name every reason of a flow's end", () => {
  const pages = ["t2cp-shadow.8", "t2cp-mirror.8"].map(readPage);
  const text = pages.flatMap((page) => section(page, "EVENTS")).join("\n");
  const [none, ...real] = reasons;
  assert.equal(none, "none");
  for (const reason of real) assert.ok(text.includes(`Dq ${reason}`), reason);
});

Deno.test("t2cp-shadow(8) names every field that the control socket shows of a flow", () => {
  const words = marked(section(readPage("t2cp-shadow.8"), "CONTROL SOCKET"), "Va");
  const shown = Object.keys(readFlow(new DataView(new ArrayBuffer(FLOW.size)), 0));
  for (const name of shown) assert.ok(words.has(name), name);
});
