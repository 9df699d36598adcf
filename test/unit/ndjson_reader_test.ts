import assert from "node:assert/strict";
import fc from "fast-check";
import { type Line, readLines, readRawLines } from "../../lib/ndjson.ts";

const utf8 = new TextEncoder();

/** `bytes` as a stream, cut at the given places. */
function stream(bytes: Uint8Array, cuts: readonly number[] = []): ReadableStream<Uint8Array> {
  const at = [
    0,
    ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b),
    bytes.length,
  ];
  return ReadableStream.from(at.slice(1).map((end, i) => bytes.slice(at[i], end)));
}

function read(bytes: Uint8Array, cuts?: readonly number[], maxLine?: number): Promise<Line[]> {
  return Array.fromAsync(readLines(stream(bytes, cuts), { maxLine }));
}

/** The reader's results as a plain model has them: split, measure, decode. */
function model(bytes: Uint8Array, maxLine: number): Line[] {
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  const parts = binary.split("\n");
  const last = parts.pop();
  const ended = parts.map((part) => part.replace(/\r$/, ""));
  // Without its LF a last CR is content; only the length forgives it, as an LF may follow.
  const all = last === "" || last === undefined ? ended : [...ended, last];
  return all.map((part, i) => {
    const open = i === ended.length;
    const number = i + 1;
    if ((open ? part.replace(/\r$/, "") : part).length > maxLine) {
      return { error: `it is longer than ${maxLine} bytes`, number };
    }
    try {
      const raw = Uint8Array.from(part, (char) => char.charCodeAt(0));
      const line = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
      return { line, number };
    } catch {
      return { error: "it is not valid UTF-8", number };
    }
  });
}

const cuts = fc.array(fc.nat(), { maxLength: 12 });
const text = fc.array(
  fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.constantFrom("\n", "\r\n", "\r", "\n\n", "é", "𝄞", "\ufeff"),
  ),
  { maxLength: 20 },
).map((parts) => utf8.encode(parts.join("")));
const noise = fc.array(fc.constantFrom(0x0a, 0x0d, 0x61, 0xc3, 0xa9, 0xff), { maxLength: 40 })
  .map((bytes) => Uint8Array.from(bytes));

Deno.test("lines end in LF or CRLF, the last one need not", async () => {
  assert.deepEqual(await read(utf8.encode("a\r\nb\n\nc")), [
    { line: "a", number: 1 },
    { line: "b", number: 2 },
    { line: "", number: 3 },
    { line: "c", number: 4 },
  ]);
  assert.deepEqual(await read(utf8.encode("")), []);
  assert.deepEqual(await read(utf8.encode("a\n")), [{ line: "a", number: 1 }]);
});

Deno.test("a character that is cut between chunks stays whole", async () => {
  const bytes = utf8.encode("𝄞\n");
  for (let cut = 1; cut < bytes.length; cut++) {
    assert.deepEqual(await read(bytes, [cut]), [{ line: "𝄞", number: 1 }]);
  }
});

Deno.test("invalid UTF-8 is reported with its line's number, and reading goes on", async () => {
  const bytes = Uint8Array.of(0x61, 0x0a, 0xc3, 0x28, 0x0a, 0x62, 0x0a);
  assert.deepEqual(await read(bytes), [
    { line: "a", number: 1 },
    { error: "it is not valid UTF-8", number: 2 },
    { line: "b", number: 3 },
  ]);
});

Deno.test("a line of exactly the limit passes, with either line end and in any pieces", async () => {
  for (const end of ["\n", "\r\n", ""]) {
    const bytes = utf8.encode("12345678" + end);
    for (let cut = 0; cut <= bytes.length; cut++) {
      assert.deepEqual(await read(bytes, [cut], 8), [{ line: "12345678", number: 1 }]);
    }
  }
});

Deno.test("a line over the limit is skipped to its end and reported once", async () => {
  for (let cut = 0; cut < 18; cut++) {
    assert.deepEqual(await read(utf8.encode("a\n123456789...\nb\n"), [cut, cut + 1], 8), [
      { line: "a", number: 1 },
      { error: "it is longer than 8 bytes", number: 2 },
      { line: "b", number: 3 },
    ]);
  }
});

Deno.test("a line over the limit is reported before it ends, and never held", async () => {
  let given = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      given++;
      controller.enqueue(new Uint8Array(1 << 20).fill(0x61));
      if (given === 512) controller.close();
    },
  });
  const before = Deno.memoryUsage();
  const lines = await Array.fromAsync(readRawLines(endless));
  const after = Deno.memoryUsage();
  assert.deepEqual(lines, [{ error: "it is longer than 1048576 bytes", number: 1 }]);
  assert.equal(given, 512);
  const grown = after.external - before.external;
  assert.ok(grown < 256 << 20, `held ${grown} bytes of 512 MiB`);
});

Deno.test("any bytes in any chunks give what a plain split gives", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(text, noise),
      cuts,
      fc.integer({ min: 0, max: 12 }),
      async (bytes, at, max) => {
        assert.deepEqual(await read(bytes, at, max), model(bytes, max));
      },
    ),
  );
});

Deno.test("raw lines put together are the input", async () => {
  await fc.assert(fc.asyncProperty(fc.oneof(text, noise), cuts, async (bytes, at) => {
    const parts: number[] = [];
    for await (const line of readRawLines(stream(bytes, at))) {
      assert.ok("bytes" in line);
      parts.push(...line.bytes);
    }
    assert.deepEqual(parts, [...bytes]);
  }));
});

Deno.test("who stops reading cancels the stream", async () => {
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(utf8.encode("a\n")),
    cancel: () => void (cancelled = true),
  });
  for await (const line of readLines(endless)) {
    if (line.number === 3) break;
  }
  assert.ok(cancelled);
});

Deno.test("an abort ends the reading of a silent stream", async () => {
  const controller = new AbortController();
  const silent = new ReadableStream<Uint8Array>();
  const lines = Array.fromAsync(readLines(silent, { signal: controller.signal }));
  controller.abort();
  assert.deepEqual(await lines, []);
  const late = new ReadableStream<Uint8Array>();
  assert.deepEqual(await Array.fromAsync(readLines(late, { signal: controller.signal })), []);
});

Deno.test("the stream's own error comes through", async () => {
  const broken = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.error(new Error("disk on fire")),
  });
  await assert.rejects(Array.fromAsync(readLines(broken)), /disk on fire/);
});
