import assert from "node:assert/strict";
import fc from "fast-check";
import type { Event } from "../../lib/event.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import { NdjsonWriter } from "../../lib/ndjson.ts";
import { passThrough } from "../../lib/pipeline.ts";

const utf8 = new TextEncoder();
const stats = JSON.stringify({
  v: 1,
  type: "stats",
  time: "2026-01-31T12:00:00Z",
  by: "x",
  host: "y",
});
const unknown = stats.replace("stats", "from.the.future");

interface Passed {
  output: number[];
  events: Event[];
  warnings: string[];
}

async function pass(
  chunks: Iterable<Uint8Array>,
  options: { strict?: boolean; maxLine?: number } = {},
): Promise<Passed> {
  const passed: Passed = { output: [], events: [], warnings: [] };
  const writer = new NdjsonWriter({
    write: (bytes) => {
      passed.output.push(...bytes);
      return Promise.resolve(bytes.length);
    },
  });
  try {
    await passThrough(ReadableStream.from(chunks), writer, {
      ...options,
      onEvent: (event) => passed.events.push(event),
      warn: (message) => passed.warnings.push(message),
    });
  } finally {
    await writer.close();
  }
  return passed;
}

Deno.test("every line passes byte by byte: events, unknown types, blanks and garbage", async () => {
  const garbage = Uint8Array.of(0xff, 0xfe, 0x0a);
  const input = [
    utf8.encode(`${stats}\r\n  \n\n{"half":\n${unknown}\n`),
    garbage,
    utf8.encode(stats + "\n"),
  ];
  const { output, events, warnings } = await pass(input);
  assert.deepEqual(output, input.flatMap((chunk) => [...chunk]));
  assert.deepEqual(events.map((event) => event.type), ["stats", "from.the.future", "stats"]);
  assert.deepEqual(warnings, [
    "Line 4 of the input is no event: it is not JSON",
    "Line 6 of the input is no event: it is not valid UTF-8",
  ]);
});

Deno.test("any bytes in any chunks pass unchanged but for a missing last line end", async () => {
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 30 }),
    fc.constantFrom(stats, unknown, "\n", "\r\n", " ").map((text) => utf8.encode(text)),
  );
  await fc.assert(fc.asyncProperty(fc.array(chunk), async (chunks) => {
    const input = chunks.flatMap((chunk) => [...chunk]);
    const { output } = await pass(chunks);
    const ended = input.length === 0 || input.at(-1) === 0x0a ? input : [...input, 0x0a];
    assert.deepEqual(output, ended);
  }));
});

Deno.test("a last line without its end counts, and gets one", async () => {
  const { output, events } = await pass([utf8.encode(stats)]);
  assert.equal(events.length, 1);
  assert.deepEqual(output, [...utf8.encode(stats + "\n")]);
});

Deno.test("a line over the limit is left out, and the warning says so", async () => {
  const { output, warnings } = await pass([utf8.encode(`a\n${"b".repeat(20)}\n`)], { maxLine: 10 });
  assert.deepEqual(output, [...utf8.encode("a\n")]);
  assert.deepEqual(warnings, [
    "Line 1 of the input is no event: it is not JSON",
    "Line 2 of the input is no event: it is longer than 10 bytes, and was left out",
  ]);
});

Deno.test("a strict pipeline ends at the first line that is no event", async () => {
  const input = [utf8.encode(`${stats}\nnonsense\n${stats}\n`)];
  await assert.rejects(pass(input, { strict: true }), (error) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.status, ExitStatus.BAD_INPUT);
    assert.equal(error.message, "Line 2 of the input is no event: it is not JSON");
    return true;
  });
});

Deno.test("a strict pipeline lets unknown types and blank lines pass", async () => {
  const { events } = await pass([utf8.encode(`${unknown}\n\n`)], { strict: true });
  assert.equal(events.length, 1);
});

Deno.test("events are acted on while the reader of the output stalls", async () => {
  const gate = Promise.withResolvers<void>();
  let output = "";
  const writer = new NdjsonWriter({
    async write(bytes) {
      await gate.promise;
      output += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  }, { dropMark: 1000 });
  const failed = JSON.stringify({
    ...JSON.parse(stats),
    type: "failed",
    target: "p",
    level: "host",
    cause: "unplanned",
    evidence: [],
  });
  const lines = [...new Array(200).fill(stats), failed].map((line) => utf8.encode(line + "\n"));
  let acted = false;
  await passThrough(ReadableStream.from(lines), writer, {
    onEvent: (event) => acted ||= event.type === "failed",
    warn: assert.fail,
  });
  assert.ok(acted);
  gate.resolve();
  await writer.close();
  assert.equal(output.trimEnd().split("\n").at(-1), failed);
  assert.ok(writer.dropped > 150);
});

Deno.test("an abort ends a pipeline that waits for input", async () => {
  const controller = new AbortController();
  const writer = new NdjsonWriter({ write: (bytes) => Promise.resolve(bytes.length) });
  const passing = passThrough(new ReadableStream(), writer, {
    onEvent: () => assert.fail(),
    warn: assert.fail,
    signal: controller.signal,
  });
  controller.abort();
  await passing;
});
