import assert from "node:assert/strict";
import fc from "fast-check";
import {
  Emitter,
  type Event,
  isDroppable,
  isEvent,
  parseEvent,
  vocabulary,
} from "../../lib/event.ts";
import { NdjsonWriter } from "../../lib/ndjson.ts";

const common = { v: 1, time: "2026-01-31T12:00:00.000250Z", by: "detect", host: "gw" };
const failed = {
  ...common,
  type: "failed",
  target: "primary",
  level: "host",
  cause: "unplanned",
  evidence: [{ signal: "bfd", last: "2026-01-31T11:59:59.850000Z" }],
};

function parse(value: unknown): Event | string {
  return parseEvent(JSON.stringify(value));
}

/** A writer, and the events that came out of it. */
function collector(
  options?: { dropMark: number },
): { writer: NdjsonWriter; events: () => Event[]; release: () => void } {
  let text = "";
  const gate = Promise.withResolvers<void>();
  const sink = {
    async write(bytes: Uint8Array): Promise<number> {
      await gate.promise;
      text += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  };
  return {
    writer: new NdjsonWriter(sink, options),
    events: () =>
      text.trimEnd().split("\n").map((line) => {
        const event = parseEvent(line);
        assert.ok(typeof event === "object", String(event));
        return event;
      }),
    release: () => gate.resolve(),
  };
}

Deno.test("an event of a known type is read with all its fields", () => {
  assert.deepEqual(parse({ ...failed, extra: { deep: [1] } }), { ...failed, extra: { deep: [1] } });
});

Deno.test("an event of an unknown type is read, its own fields unchecked", () => {
  for (const type of ["zebra", "toString", "__proto__", ""]) {
    const event = { ...common, type, from: "1", to: 2 };
    assert.deepEqual(parse(event), event);
  }
});

Deno.test("a line that is no event says which field is wrong and what it should be", () => {
  const { level: _, ...without } = failed;
  const cases: [unknown, string][] = [
    [[], "it is not a JSON object"],
    [null, "it is not a JSON object"],
    ["failed", "it is not a JSON object"],
    [{}, `field "v" is missing`],
    [{ ...failed, v: 2 }, `field "v" is 2, not 1`],
    [{ ...failed, type: null }, `field "type" is null, not string`],
    [{ ...failed, time: "noon" }, `field "time" is "noon", not an RFC 3339 time`],
    [
      { ...failed, evidence: [{ signal: "bfd" }, { last: "x" }] },
      `field "evidence.1.signal" is missing in event "failed"`,
    ],
    [without, `field "level" is missing in event "failed"`],
    [
      { ...failed, level: "rack" },
      `field "level" is "rack", not ("host" | "application") in event "failed"`,
    ],
    [
      { ...common, type: "active", flows: -1, took_ms: 1, steps: {} },
      `field "flows" is -1, not a whole number, 0 or more in event "active"`,
    ],
    [
      { ...common, type: "active", flows: 1, took_ms: 1, steps: { announce: "1" } },
      `field "steps.announce" is "1", not number in event "active"`,
    ],
  ];
  for (const [value, reason] of cases) assert.equal(parse(value), reason);
  assert.equal(parseEvent("{"), "it is not JSON");
});

Deno.test("a wrong value is shown shortened", () => {
  const reason = parse({ ...failed, level: "x".repeat(10_000) });
  assert.ok(typeof reason === "string" && reason.length < 200, String(reason));
});

Deno.test("any text is an event or a reason, never an exception", () => {
  const soup = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ v: fc.constant(1), type: fc.constantFrom(...Object.keys(vocabulary)) }, {
      requiredKeys: [],
    })
      .map((value) => JSON.stringify({ ...common, ...value })),
  );
  fc.assert(fc.property(soup, (line) => {
    const event = parseEvent(line);
    if (typeof event === "string") assert.match(event, /^(it|field) /);
    else assert.deepEqual(event, JSON.parse(line));
  }));
});

Deno.test("emitted events are complete and read back", async () => {
  const { writer, events, release } = collector();
  release();
  const emitter = new Emitter("detect", writer, "gw");
  const before = Date.now();
  emitter.emit("started", { peer: "10.0.0.1" });
  emitter.emit("failed", {
    target: "primary",
    level: "host",
    cause: "unplanned",
    evidence: [{ signal: "bfd" }],
    time: "2026-01-31T12:00:00.000250Z",
  });
  await emitter.close();
  const [started, other] = events();
  assert.ok(started !== undefined && other !== undefined && isEvent(other, "failed"));
  assert.equal(other.level, "host");
  assert.equal(other.time, "2026-01-31T12:00:00.000250Z");
  assert.deepEqual(Object.keys(started), ["v", "type", "time", "by", "host", "peer"]);
  assert.equal(started.by, "detect");
  assert.equal(started.host, "gw");
  const at = Date.parse(started.time);
  assert.ok(at >= before && at <= Date.now());
});

Deno.test("the host is this one unless given", async () => {
  const { writer, events, release } = collector();
  release();
  const emitter = new Emitter("lab", writer);
  emitter.emit("lab.mark", { what: "cut" });
  await emitter.close();
  assert.equal(events()[0]?.host, Deno.hostname());
});

Deno.test("dropped statistics are reported once the reader is back", async () => {
  const { writer, events, release } = collector({ dropMark: 500 });
  const emitter = new Emitter("shadow", writer, "b");
  for (let i = 0; i < 100; i++) emitter.emit("stats", { i });
  emitter.emit("warning", { message: "still said" });
  assert.ok(writer.dropped > 80);
  release();
  await writer.flush();
  await emitter.close();
  const all = events();
  const stats = all.filter((event) => event.type === "stats").length;
  const report = all.at(-1);
  assert.equal(stats + writer.dropped, 100);
  assert.equal(report?.type, "warning");
  assert.equal(report?.dropped, 100 - stats);
  assert.ok(all.some((event) => event.message === "still said"));
});

Deno.test("only statistics and the ordinary life of flows may be dropped", () => {
  const droppable = Object.keys(vocabulary).filter(isDroppable);
  assert.deepEqual(droppable.sort(), ["flow.close", "flow.open", "stats"]);
  assert.equal(isDroppable("gap"), false);
  assert.equal(isDroppable("constructor"), false);
});
