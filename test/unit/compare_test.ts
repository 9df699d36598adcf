/**
 * Comparison of answers, against a plain one that has everything at once.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { FlowComparison, type Verdict } from "../../lib/compare/flow.ts";
import { Masks, MAX_LINE } from "../../lib/compare/masks.ts";

const encoder = new TextEncoder();

/** Cuts `bytes` where `cuts` say. */
function pieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...places, bytes.length].map((end, i) => bytes.slice(i === 0 ? 0 : places[i - 1], end));
}

interface Feed {
  captured: readonly Uint8Array[];
  live: readonly Uint8Array[];
  /** Which side goes next: captured where even. */
  order?: readonly number[];
}

function compare(masks: Masks, { captured, live, order = [] }: Feed): Verdict {
  const comparison = new FlowComparison(masks);
  const queues = [[...captured], [...live]];
  for (let turn = 0; queues[0]!.length + queues[1]!.length > 0; turn++) {
    const side = (order[turn % (order.length || 1)] ?? turn) % 2;
    const bytes = queues[queues[side]!.length > 0 ? side : 1 - side]!;
    const own = bytes === queues[0];
    const memory = bytes.shift()!.slice();
    if (own) {
      comparison.captured(memory);
    } else {
      // The memory is the caller's: what is kept must have been copied.
      comparison.live(memory);
      memory.fill(0xee);
    }
  }
  return comparison.finish();
}

function once(captured: string, live: string, ...masks: string[]): Verdict {
  const feed = { captured: [encoder.encode(captured)], live: [encoder.encode(live)] };
  return compare(new Masks(masks), feed);
}

/** What a plain comparison says: the outcome, and where. */
function plain(a: Uint8Array, b: Uint8Array): [outcome: string, offset: number | undefined] {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  if (at === a.length && at === b.length) return ["equal", undefined];
  return [at === a.length ? "longer" : at === b.length ? "shorter" : "differs", at];
}

const cuts = fc.array(fc.nat(200), { maxLength: 6 });
const order = fc.array(fc.nat(1), { minLength: 1, maxLength: 12 });
const content = fc.array(fc.constantFrom(..."ab1\n"), { maxLength: 60 })
  .map((chars) => encoder.encode(chars.join("")));

Deno.test("however both sides are cut, the first byte that differs is found", () => {
  fc.assert(fc.property(content, content, fc.nat(60), cuts, cuts, order, (a, tail, at, x, y, o) => {
    const b = Uint8Array.of(...a.subarray(0, at), ...tail);
    const verdict = compare(new Masks(), { captured: pieces(a, x), live: pieces(b, y), order: o });
    assert.deepEqual([verdict.outcome, verdict.fields["offset"]], plain(a, b));
  }));
});

/** Each run of digits in a line as one byte; a line of digits alone as nothing. */
function normalise(bytes: Uint8Array): Uint8Array {
  const lines = new TextDecoder().decode(bytes).match(/[^\n]*\n|[^\n]+$/g) ?? [];
  return encoder.encode(
    lines.filter((line) => !/^1+\n?$/.test(line)).join("").replace(/1+/g, "#"),
  );
}

Deno.test("with a mask, what it matches may differ, and nothing else", () => {
  fc.assert(fc.property(content, content, fc.nat(60), cuts, cuts, order, (a, tail, at, x, y, o) => {
    const b = Uint8Array.of(...a.subarray(0, at), ...tail);
    const feed = { captured: pieces(a, x), live: pieces(b, y), order: o };
    const { outcome } = compare(new Masks(["1+"]), feed);
    const [wanted] = plain(normalise(a), normalise(b));
    assert.equal(outcome === "equal", wanted === "equal", `${outcome}, not ${wanted}`);
  }));
});

Deno.test("a difference is shown with what stands in front of it, in text and digits", () => {
  const { outcome, fields } = once("HTTP/1.1 200 OK\r\n\r\nold\0", "HTTP/1.1 200 OK\r\n\r\nnew\\");
  assert.equal(outcome, "differs");
  assert.deepEqual(fields, {
    offset: 19,
    before: "P/1.1 200 OK\\r\\n\\r\\n",
    expected: "old\\x00",
    actual: "new\\\\",
    before_hex: "502f312e3120323030204f4b0d0a0d0a",
    expected_hex: "6f6c6400",
    actual_hex: "6e65775c",
    answers: 1,
    answers_differing: 1,
    uncompared_bytes: 4,
  });
});

Deno.test("behind masked text of another length, the offsets of both sides are told", () => {
  const { outcome, fields } = once("id=1;a\n", "id=12345;b\n", "id=[0-9]+");
  assert.deepEqual([outcome, fields["offset"], fields["live_offset"]], ["differs", 5, 9]);
  assert.equal(fields["before"], "id=1;");
});

Deno.test("a header field that is masked whole may be missing", () => {
  const masks = ["@http"];
  const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
  assert.equal(once(`${head}Date: a\r\n\r\nx`, `${head}\r\nx`, ...masks).outcome, "equal");
  assert.equal(once(`${head}\r\nx`, `${head}Set-Cookie: a\r\n\r\nx`, ...masks).outcome, "equal");
  assert.equal(once(`${head}\r\nx`, `${head}Vary: a\r\n\r\nx`, ...masks).outcome, "differs");
});

Deno.test("a line longer than masks look at is compared in pieces", () => {
  const long = "x".repeat(3 * MAX_LINE);
  const a = `${long} id=1 ${long} id=2 ${long}`;
  const b = `${long} id=333 ${long} id=4444 ${long}`;
  assert.equal(once(a, b, "id=[0-9]+").outcome, "equal");
  const { outcome, fields } = once(a, `${b.slice(0, -2)}yx`, "id=[0-9]+");
  assert.deepEqual([outcome, fields["offset"], fields["live_offset"]], [
    "differs",
    a.length - 2,
    b.length - 2,
  ]);
});

interface Talk {
  client: string;
  server: string;
  live: string;
}

function talk(masks: Masks, ...talks: readonly Talk[]): Verdict {
  const comparison = new FlowComparison(masks);
  for (const { client, server, live } of talks) {
    comparison.capturedClient(encoder.encode(client));
    comparison.liveClient();
    comparison.captured(encoder.encode(server));
    comparison.live(encoder.encode(live));
  }
  return comparison.finish();
}

Deno.test("after an answer that differs, the next one is compared again", () => {
  const verdict = talk(
    new Masks(),
    { client: "a", server: "one", live: "one" },
    { client: "b", server: "two", live: "twenty" },
    { client: "c", server: "three", live: "three" },
    { client: "d", server: "four", live: "for" },
  );
  assert.equal(verdict.outcome, "differs");
  const { offset, answers, answers_differing: differing } = verdict.fields;
  assert.deepEqual([offset, answers, differing], [5, 4, 2]);
});

Deno.test("answers that come in one piece are compared one by one", () => {
  const comparison = new FlowComparison(new Masks(["1+"]));
  for (const [client, server] of [["a", "one1"], ["b", "two"], ["c", "three"]] as const) {
    comparison.capturedClient(encoder.encode(client));
    comparison.captured(encoder.encode(server));
    comparison.liveClient();
  }
  comparison.live(encoder.encode("one1twothree"));
  assert.equal(comparison.met, true);
  assert.equal(comparison.finish().outcome, "equal");
});

Deno.test("whether all has come that was expected is known also where it differs", () => {
  const comparison = new FlowComparison(new Masks(["id=[0-9]+"]));
  comparison.capturedClient(encoder.encode("a"));
  comparison.captured(encoder.encode("hello\nid=123"));
  assert.equal(comparison.met, false);
  comparison.live(encoder.encode("hello\n"));
  assert.equal(comparison.met, false);
  comparison.live(encoder.encode("id=9"));
  assert.equal(comparison.met, true);
  comparison.capturedClient(encoder.encode("b"));
  comparison.liveClient();
  comparison.captured(encoder.encode("four"));
  comparison.live(encoder.encode("fi"));
  assert.equal(comparison.met, false);
  comparison.live(encoder.encode("ve"));
  assert.equal(comparison.met, true);
  comparison.capturedClient(encoder.encode("c"));
  comparison.liveClient();
  assert.equal(comparison.held, 0);
  assert.equal(comparison.finish().fields["offset"], 13);
});

Deno.test("what the capture lacks is not compared, up to the client's next message", () => {
  const comparison = new FlowComparison(new Masks());
  comparison.capturedClient(encoder.encode("a"));
  comparison.captured(encoder.encode("one"));
  comparison.capturedMissing(100);
  comparison.captured(encoder.encode("end"));
  comparison.live(encoder.encode("one and other things"));
  comparison.capturedClient(encoder.encode("b"));
  comparison.captured(encoder.encode("two"));
  comparison.live(encoder.encode(", and more"));
  comparison.liveClient();
  comparison.live(encoder.encode("too"));
  const { outcome, fields } = comparison.finish();
  assert.deepEqual([outcome, fields["offset"], fields["live_offset"]], ["differs", 107, 31]);
  assert.equal(fields["uncompared_bytes"], 103 + 2);
});

Deno.test("where the capture ends within an answer, more of it is right", () => {
  for (const [cut, outcome] of [[true, "equal"], [false, "longer"]] as const) {
    const comparison = new FlowComparison(new Masks());
    comparison.captured(encoder.encode("one"));
    comparison.live(encoder.encode("one two"));
    assert.equal(comparison.finish(cut).outcome, outcome);
  }
});

Deno.test("the rest of an answer is waited for behind a difference, a hole, and in what is encrypted", () => {
  const differing = new FlowComparison(new Masks());
  differing.captured(encoder.encode("abcdef"));
  differing.live(encoder.encode("x"));
  assert.equal(differing.met, false);
  differing.live(encoder.encode("bcde"));
  assert.equal(differing.met, false);
  differing.live(encoder.encode("f"));
  assert.equal(differing.met, true);

  const holed = new FlowComparison(new Masks());
  holed.captured(encoder.encode("ab"));
  holed.capturedMissing(3);
  holed.live(encoder.encode("ab..."));
  holed.captured(encoder.encode("f"));
  assert.equal(holed.met, false);
  holed.live(encoder.encode("f"));
  assert.equal(holed.met, true);

  const opaque = new FlowComparison(new Masks());
  opaque.capturedClient(HELLO);
  opaque.captured(SERVER_HELLO);
  assert.equal(opaque.met, false);
  opaque.live(SERVER_HELLO);
  assert.equal(opaque.met, true);
});

const HELLO = Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3);
const SERVER_HELLO = Uint8Array.of(22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3);

Deno.test("TLS and SSH are said to be opaque, whatever the live server says", () => {
  for (const before of ["", "220 ready\r\n"]) {
    const comparison = new FlowComparison(new Masks());
    comparison.captured(encoder.encode(before));
    comparison.live(encoder.encode(before));
    comparison.capturedClient(HELLO);
    comparison.captured(SERVER_HELLO);
    comparison.liveClient();
    comparison.live(encoder.encode("HTTP/1.1 400 Bad Request\r\n"));
    assert.equal(comparison.met, true);
    assert.equal(comparison.held, 0);
    assert.deepEqual(comparison.finish(), { outcome: "opaque", fields: { protocol: "tls" } });
  }
  const banner = encoder.encode("SSH-2.0-OpenSSH_9.2\r\n");
  for (const serverFirst of [true, false]) {
    const comparison = new FlowComparison(new Masks());
    if (serverFirst) comparison.captured(banner);
    comparison.capturedClient(banner);
    comparison.captured(banner);
    comparison.live(encoder.encode("SSH-2.0-dropbear\r\n"));
    assert.deepEqual(comparison.finish(), { outcome: "opaque", fields: { protocol: "ssh" } });
  }
});

Deno.test("a hello that the captured server did not take is compared", () => {
  const comparison = new FlowComparison(new Masks());
  comparison.capturedClient(HELLO);
  comparison.captured(encoder.encode("HTTP/1.1 400 Bad Request\r\n"));
  comparison.live(encoder.encode("HTTP/1.1 500 Bad Request\r\n"));
  assert.equal(comparison.finish().outcome, "differs");
});
