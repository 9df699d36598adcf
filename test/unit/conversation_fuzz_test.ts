import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { BadCapture } from "../../lib/capture/bad_capture.ts";
import { type AnalyseReport, runAnalyse } from "../../lib/conversation/analyse.ts";
import type { Conversation, ConversationSink } from "../../lib/conversation/conversation.ts";
import { Tracker } from "../../lib/conversation/tracker.ts";
import { LinkType } from "../../lib/packet/link.ts";
import type { AnalyseResultFields } from "../../lib/vocabulary/analyse.ts";
import { type Bytes, concat, pcapHeader, pcapRecord } from "../fixture/capture_file.ts";
import { handshake, packetOf, type Spec, track } from "../fixture/conversation.ts";
import { Bit, Ether, ethernet } from "../fixture/segment.ts";

const { ACK, FIN, URG } = Bit;

/** A conversation with a hole, an overlap, a retransmission and urgent data. */
const specs: Spec[] = [
  ...handshake,
  { from: "client", seq: 1, ack: 1, text: "hello" },
  { from: "client", seq: 9, ack: 1, text: "early" },
  { from: "client", seq: 8, ack: 1, text: "overlap" },
  { from: "server", flags: ACK | URG, seq: 1, ack: 6, text: "you" },
  { from: "client", seq: 1, ack: 1, text: "hello" },
  { from: "client", flags: FIN | ACK, seq: 15, ack: 4 },
  { from: "server", flags: FIN | ACK, seq: 4, ack: 16 },
];
const frames: Bytes[] = specs.map((spec) => ethernet(Ether.IPV4, packetOf(spec)));
const parts = [pcapHeader(true), ...frames.map((frame, i) => pcapRecord(true, 1, i, frame))];
const capture = concat(...parts);

/** Analyses the bytes as a file. */
async function analyse(
  path: string,
  bytes: Uint8Array,
): Promise<{ result: AnalyseResultFields | undefined; flows: number; error: unknown }> {
  let result: AnalyseResultFields | undefined;
  let flows = 0;
  const report: AnalyseReport = {
    flow: () => void flows++,
    note() {},
    result: (fields) => void (result = fields),
    warn() {},
    busy: () => undefined,
  };
  Deno.writeFileSync(path, bytes);
  const options = { file: path, filter: "", servers: [], notes: true };
  try {
    await runAnalyse(options, report, new AbortController().signal);
    return { result, flows, error: undefined };
  } catch (error) {
    return { result, flows, error };
  }
}

async function withFile(use: (path: string) => Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-analyse-" });
  try {
    await use(join(directory, "capture"));
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("analysis: a file cut at any byte gives what is whole, then block and offset", async () => {
  const ends = parts.map((_, i) => concat(...parts.slice(0, i + 1)).length);
  await withFile(async (path) => {
    for (let size = 0; size <= capture.length; size++) {
      const { result, flows, error } = await analyse(path, capture.subarray(0, size));
      const whole = ends.filter((end) => end <= size).length;
      const offset = whole === 0 ? 0 : ends[whole - 1]!;
      // The file header is a part, too.
      assert.equal(result?.frames ?? 0, Math.max(0, whole - 1), `${size} bytes`);
      assert.equal(flows, whole > 1 ? 1 : 0, `${size} bytes`);
      if (size > 0 && offset === size) {
        assert.equal(error, undefined, `${size} bytes`);
        assert.equal(result?.complete, true);
        continue;
      }
      assert.ok(error instanceof BadCapture, `${size} bytes: ${error}`);
      assert.equal(error.status, 65);
      assert.deepEqual(error.place, { file: path, block: whole + 1, offset });
      assert.ok(error.message.startsWith(`Block ${whole + 1} at byte ${offset} of `));
      assert.notEqual(result?.complete, true);
    }
  });
});

Deno.test("analysis: flipped bits give an account, or an error with block and offset", async () => {
  await withFile(async (path) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(8 * capture.length - 1), { minLength: 1, maxLength: 6 }),
        async (flips) => {
          const broken = capture.slice();
          for (const flip of flips) broken[flip >> 3]! ^= 1 << (flip & 7);
          const { result, flows, error } = await analyse(path, broken);
          if (error !== undefined) {
            assert.ok(error instanceof BadCapture, String(error));
            const { block, offset } = error.place;
            assert.ok(block >= 1 && offset <= capture.length, error.message);
            assert.ok(error.message.startsWith(`Block ${block} at byte ${offset} of `));
          } else {
            assert.equal(result?.complete, true);
          }
          if (result === undefined) return;
          assert.ok(result.frames <= frames.length);
          assert.equal(result.flows, flows);
          assert.ok(result.bytes <= capture.length);
        },
      ),
      { numRuns: 500 },
    );
  });
});

/** Checks the promises of {@linkcode ConversationSink}, and sums what it is told. */
class Checker implements ConversationSink {
  bytes = 0;
  missingBytes = 0;
  readonly #open: Map<Conversation, Set<string>> = new Map();

  get openCount(): number {
    return this.#open.size;
  }
  open(c: Conversation): void {
    assert.ok(!this.#open.has(c));
    this.#open.set(c, new Set());
  }
  data(c: Conversation, from: unknown, memory: Uint8Array, at: number, length: number): void {
    this.#goesOn(c, from);
    assert.ok(length > 0 && at >= 0 && at + length <= memory.length);
    this.bytes += length;
  }
  missing(c: Conversation, from: unknown, length: number): void {
    this.#goesOn(c, from);
    assert.ok(length > 0 && length < 2 ** 32);
    this.missingBytes += length;
  }
  finish(c: Conversation, from: { role: string }): void {
    this.#goesOn(c, from);
    this.#open.get(c)!.add(from.role);
  }
  note(c: Conversation, _from: unknown, _kind: string, seq: number, length: number): void {
    assert.ok(this.#open.has(c));
    assert.ok(seq >= 0 && seq < 2 ** 32 && length >= 0);
  }
  close(c: Conversation): void {
    assert.ok(this.#open.delete(c), "closed once");
  }
  #goesOn(c: Conversation, from: unknown): void {
    const ended = this.#open.get(c);
    assert.ok(ended !== undefined, "between open and close");
    assert.ok(from === c.client || from === c.server);
    assert.ok(!ended.has((from as { role: string }).role), "nothing behind the end");
  }
}

Deno.test("conversation: any segments in any order keep the sink's promises and the bounds", () => {
  const near = fc.oneof(
    fc.integer({ min: 0, max: 40 }),
    fc.constantFrom(2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1, 65_535),
  );
  const segment: fc.Arbitrary<Spec> = fc.record({
    from: fc.constantFrom("client" as const, "server" as const),
    flags: fc.oneof(fc.constant(ACK), fc.integer({ min: 0, max: 63 })),
    seq: near,
    ack: near,
    text: fc.string({ maxLength: 20, unit: "binary-ascii" }),
    window: fc.constantFrom(0, 1, 65_535),
    after: fc.constantFrom(0, 1, 300, 5000, -1000, 100_000_000),
    cut: fc.constantFrom(0, 0, 0, 3),
  });
  const hold = { conversation: 2000, total: 3000 };
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 40 }), (segments) => {
      const sink = new Checker();
      const tracker = new Tracker(sink, { hold, capacity: 2 });
      let [time, payload] = [1e15, 0];
      for (const spec of segments) {
        time += spec.after! * 1000;
        const bytes = Uint8Array.from(packetOf(spec));
        const captured = bytes.length - spec.cut!;
        payload += spec.text!.length;
        tracker.take(new DataView(bytes.buffer), 0, captured, bytes.length, LinkType.RAW, time);
        // A conversation is told of with the first that there is to tell.
        assert.ok(sink.openCount <= tracker.totals.open);
        assert.ok(tracker.totals.held <= hold.total);
      }
      tracker.end();
      const { totals } = tracker;
      assert.deepEqual([totals.open, totals.held, sink.openCount], [0, 0, 0]);
      assert.deepEqual([totals.bytes, totals.missing_bytes], [sink.bytes, sink.missingBytes]);
      assert.ok(totals.bytes <= payload, "each byte once");
      assert.ok(totals.held_max <= hold.total);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("conversation: whatever a capture lacks, nothing is told before what it acknowledges", () => {
  const line = fc.record({
    from: fc.constantFrom("client" as const, "server" as const),
    length: fc.integer({ min: 1, max: 9 }),
    after: fc.constantFrom(1, 300),
    lost: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(line, { maxLength: 20 }), (lines) => {
      // Each line acknowledges all that the other side has said before, and has a letter of its own.
      const said = { client: 0, server: 0 };
      const segments: Spec[] = [...handshake];
      const captured: { text: string; ack: number }[] = [];
      for (const [i, { from, length, after, lost }] of lines.entries()) {
        const ack = said[from === "client" ? "server" : "client"];
        const text = String.fromCharCode(97 + i).repeat(length);
        if (!lost) {
          segments.push({ from, seq: 1 + said[from], ack: 1 + ack, text, after });
          captured.push({ text, ack });
        }
        said[from] += length;
      }
      const told = { client: 0, server: 0 };
      for (const line of track(segments).notebook.lines) {
        const [, from, hole, data = ""] =
          /^0 (client|server) (?:missing ([0-9]+)|"(.*))$/.exec(line) ?? [];
        if (from !== "client" && from !== "server") continue;
        for (const [text] of data.matchAll(/(.)\1*/g)) {
          const next = captured.shift();
          assert.equal(text, next?.text, "as captured");
          assert.ok(told[from === "client" ? "server" : "client"] >= next!.ack, "all before it");
          told[from] += text.length;
        }
        told[from] += Number(hole ?? 0);
      }
      assert.deepEqual(captured, [], "all of it");
    }),
    { numRuns: 500 },
  );
});

Deno.test("conversation: times that jump to and fro do not slow reading down", () => {
  const sink = new Checker();
  const tracker = new Tracker(sink);
  const bytes = Uint8Array.from(packetOf({ from: "client", seq: 1, ack: 1, text: "hello" }));
  const view = new DataView(bytes.buffer);
  const [portAt, seqAt] = [20, 24];
  const take = (port: number, seq: number, time: number): void => {
    view.setUint16(portAt, port);
    view.setUint32(seqAt, seq);
    tracker.take(view, 0, bytes.length, bytes.length, LinkType.RAW, time);
  };
  // In each of them, bytes are waited for.
  for (let port = 2000; port < 22_000; port++) {
    take(port, 1, 1e15);
    take(port, 100, 1e15);
  }
  const begun = performance.now();
  for (let i = 0; i < 3000; i++) take(1000, 1 + 5 * i, 1e15 + i % 2 * 100_000);
  const took = performance.now() - begun;
  // To look at all of them for each frame takes a hundred times as long as to read it.
  assert.ok(took < 3000, `${took} ms`);
  tracker.end();
  assert.equal(sink.openCount, 0);
});
