import assert from "node:assert/strict";
import fc from "fast-check";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import { NdjsonWriter, ReaderGone, type Sink } from "../../lib/ndjson.ts";

/** Takes `take()` bytes a write at most, and keeps what it took. */
class SlowSink implements Sink {
  readonly bytes: number[] = [];
  writes = 0;
  readonly #take: () => number;

  constructor(take: () => number = () => Infinity) {
    this.#take = take;
  }

  async write(bytes: Uint8Array): Promise<number> {
    this.writes++;
    await Promise.resolve();
    const taken = Math.min(bytes.length, this.#take());
    this.bytes.push(...bytes.subarray(0, taken));
    return taken;
  }

  get text(): string {
    return new TextDecoder().decode(Uint8Array.from(this.bytes));
  }
}

/** A sink whose reader stalls until it is released. */
class StalledSink extends SlowSink {
  readonly #gate = Promise.withResolvers<void>();

  override async write(bytes: Uint8Array): Promise<number> {
    await this.#gate.promise;
    return await super.write(bytes);
  }

  release(): void {
    this.#gate.resolve();
  }
}

function failing(error: unknown): Sink {
  return { write: () => Promise.reject(error) };
}

Deno.test("what is queued in one turn goes out in one write", async () => {
  const sink = new SlowSink();
  const writer = new NdjsonWriter(sink);
  for (let i = 0; i < 1000; i++) writer.write({ i });
  await writer.close();
  assert.equal(sink.writes, 1);
  assert.equal(sink.text.split("\n").length, 1001);
});

Deno.test("what is queued during a write goes out together in the next", async () => {
  const sink = new StalledSink();
  const writer = new NdjsonWriter(sink);
  writer.write({ first: true });
  await new Promise((resolve) => setTimeout(resolve));
  for (let i = 0; i < 100; i++) writer.write({ i });
  sink.release();
  await writer.close();
  assert.equal(sink.writes, 2);
});

Deno.test("any lines through partial writes come out whole and in order", async () => {
  const value = fc.oneof(
    fc.record({ text: fc.string({ unit: "grapheme" }), n: fc.integer() }),
    fc.string({ unit: "grapheme" }).map((s) => s.replaceAll(/[\r\n]/g, "")),
    fc.uint8Array().map((bytes) => bytes.map((byte) => byte === 0x0a ? 0x20 : byte)),
  );
  const sizes = fc.infiniteStream(fc.integer({ min: 1, max: 7 }));
  await fc.assert(fc.asyncProperty(fc.array(value), sizes, async (values, size) => {
    const sink = new SlowSink(() => size.next().value);
    const writer = new NdjsonWriter(sink);
    const expected: number[] = [];
    for (const [i, value] of values.entries()) {
      const isRaw = typeof value === "string" || value instanceof Uint8Array;
      if (isRaw) writer.raw(value);
      else writer.write(value);
      const line = isRaw ? value : JSON.stringify(value);
      expected.push(...(typeof line === "string" ? new TextEncoder().encode(line) : line), 0x0a);
      if (i % 3 === 0) await writer.flush();
    }
    await writer.close();
    assert.deepEqual(sink.bytes, expected);
  }));
});

Deno.test("a raw line keeps its line end, and gets one where it has none", async () => {
  const sink = new SlowSink();
  const writer = new NdjsonWriter(sink);
  writer.raw("a\n");
  writer.raw("b");
  writer.raw(new TextEncoder().encode("c\r\n"));
  writer.raw(new TextEncoder().encode("d"));
  await writer.close();
  assert.equal(sink.text, "a\nb\nc\r\nd\n");
});

Deno.test("a raw line may be overwritten once it is queued", async () => {
  const sink = new SlowSink();
  const writer = new NdjsonWriter(sink);
  const buffer = new TextEncoder().encode("good\n");
  writer.raw(buffer);
  buffer.fill(0x78);
  await writer.close();
  assert.equal(sink.text, "good\n");
});

Deno.test("while the reader stalls, droppable lines are dropped and counted, others never", async () => {
  const sink = new StalledSink();
  const writer = new NdjsonWriter(sink, { dropMark: 1000 });
  let kept = 0;
  for (let i = 0; i < 500; i++) {
    if (!writer.full) kept++;
    writer.write({ type: "stats", i }, { droppable: true });
    writer.write({ type: "failed", i });
    writer.raw(`{"type":"unknown","i":${i}}`);
  }
  assert.equal(writer.dropped, 500 - kept);
  assert.ok(kept < 50);
  sink.release();
  await writer.close();
  const types = sink.text.trimEnd().split("\n").map((line) => JSON.parse(line).type);
  assert.equal(types.filter((type) => type === "stats").length, kept);
  assert.equal(types.filter((type) => type === "failed").length, 500);
  assert.equal(types.filter((type) => type === "unknown").length, 500);
});

Deno.test("ready waits for a stalled reader, and only above the higher mark", async () => {
  const sink = new StalledSink();
  const writer = new NdjsonWriter(sink, { dropMark: 10, waitMark: 100 });
  writer.raw("x".repeat(50));
  await writer.ready();
  writer.raw("y".repeat(50));
  let waited = false;
  const ready = writer.ready().then(() => waited = true);
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(waited, false);
  sink.release();
  await ready;
  await writer.close();
});

Deno.test("a reader that has gone aborts the signal and rejects flush and close", async () => {
  for (const error of [new Deno.errors.BrokenPipe(), new Deno.errors.ConnectionReset()]) {
    const writer = new NdjsonWriter(failing(error), { waitMark: 10 });
    writer.write({ more: "than the mark" });
    await writer.ready();
    assert.ok(writer.signal.aborted);
    assert.ok(writer.signal.reason instanceof ReaderGone);
    await assert.rejects(writer.flush(), ReaderGone);
    writer.write({ goes: "nowhere" });
    await assert.rejects(writer.close(), ReaderGone);
  }
});

Deno.test("another error of the sink is a failure of the operating system", async () => {
  const writer = new NdjsonWriter(failing(new Error("No space left on device")));
  writer.write({});
  await assert.rejects(writer.close(), (error) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.status, ExitStatus.OS);
    assert.equal(error.line, "Cannot write the output: No space left on device");
    return true;
  });
});

Deno.test("a sink that would block is tried again", async () => {
  const sink = new SlowSink();
  let refusals = 3;
  const writer = new NdjsonWriter({
    write: (bytes) => {
      return refusals-- > 0 ? Promise.reject(new Deno.errors.WouldBlock()) : sink.write(bytes);
    },
  });
  writer.write({ a: 1 });
  await writer.close();
  assert.equal(sink.text, `{"a":1}\n`);
});

Deno.test("nothing can be written to a closed writer", async () => {
  const writer = new NdjsonWriter(new SlowSink());
  await writer.close();
  assert.throws(() => writer.write({}), /closed writer/);
});

Deno.test("a value without a JSON form is refused at once", async () => {
  const writer = new NdjsonWriter(new SlowSink());
  assert.throws(() => writer.write({ big: 1n }), TypeError);
  await writer.close();
});
