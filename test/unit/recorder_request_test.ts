/**
 * Requests to the recorder, absurd ones too: each fails alone.
 */
import assert from "node:assert/strict";
import { Failure } from "../../lib/failure.ts";
import { type Answer, type TestFlow, TestRecorder } from "../fixture/recorder.ts";

const MIB = 1 << 20;
const flow: TestFlow = { family: 6, port: 5000 };

Deno.test("record socket: absurd requests are refused with a reason", async () => {
  const test = new TestRecorder(4 * MIB, MIB);
  test.data(flow, 0, [1, 2, 3]);
  const ends = test.ends(flow);
  const fetch = { request: "fetch", ...ends, from: 0, to: 3 };
  const ack = { request: "ack", ...ends, upto: 1 };
  const cases: [Answer, RegExp][] = [
    [{ ...fetch, client: "nobody" }, /"nobody"/],
    [{ ...fetch, client: 5 }, /"client"/],
    [{ ...fetch, client: "1".repeat(100_000) }, /"client"/],
    [{ ...fetch, server: "10.0.0.1" }, /lacks a port/],
    [{ ...fetch, client: "[2001:db8::9]:1" }, /"\[2001:db8::9\]:1" is not known/],
    [{ ...fetch, from: -1 }, /"from"/],
    [{ ...fetch, from: 1.5 }, /"from"/],
    [{ ...fetch, to: 2 ** 32 }, /"to"/],
    [{ ...fetch, to: "3" }, /"to"/],
    [{ ...fetch, to: 4 * MIB + 1 }, /4194305 bytes/],
    [{ ...fetch, from: 3, to: 2 }, /4294967295 bytes/],
    [{ ...ack, upto: null }, /"upto"/],
    [{ ...ack, flows: 3 }, /"flows"/],
    [{ ...ack, flows: [3] }, /not an object/],
    [{ ...ack, flows: [{ ...ends, upto: 1 }, { ...ends }] }, /"upto"/],
    [{ ...ack, flows: Array(1001).fill(ack) }, /1001 flows/],
  ];
  for (const [request, reason] of cases) {
    await assert.rejects(test.ask(request), (error) => {
      return error instanceof Failure && reason.test(error.message);
    }, JSON.stringify(request).slice(0, 200));
  }
  assert.deepEqual(await test.fetch(flow, 0, 3), [[1, 2, 3], []]);
});

Deno.test("record socket: a range may wrap, be empty, and be as long as 4 MiB", async () => {
  const test = new TestRecorder(8 * MIB, MIB);
  test.data(flow, 2 ** 32 - 2, [1, 2, 3]);
  assert.deepEqual(await test.fetch(flow, 2 ** 32 - 3, 5), [[-1, 1, 2, 3, -1], [
    "not seen",
    "not seen",
  ]]);
  assert.deepEqual(await test.fetch(flow, 7, 0), [[], []]);
  const [bytes] = await test.fetch(flow, 2 ** 32 - 2, 4 * MIB);
  assert.equal(bytes.length, 4 * MIB);
  assert.deepEqual(bytes.slice(0, 4), [1, 2, 3, -1]);
});

Deno.test("record socket: acknowledgements of many flows at once; unknown ones are counted", async () => {
  const test = new TestRecorder(4 * MIB, MIB);
  const known = Array.from({ length: 10 }, (_, i): TestFlow => ({ family: 4, port: 100 + i }));
  for (const each of known) test.data(each, 10, [1, 2, 3]);
  const flows = [...known, { family: 4, port: 99 } as TestFlow].map((each) => {
    return { ...test.ends(each), upto: 12 };
  });
  assert.deepEqual(await test.ask({ request: "ack", flows }), [{
    freed: { bytes: 20, unknown: 1 },
  }]);
  assert.deepEqual(await test.ask({ request: "ack", flows }), [{
    freed: { bytes: 0, unknown: 1 },
  }]);
  // More than was sent counts as all of it.
  assert.equal(await test.replicaAck(known[0]!, 5000), 1);
  assert.deepEqual(await test.fetch(known[0]!, 10, 4), [[-1, -1, -1, -1], ["freed", "not seen"]]);
});

Deno.test("record socket: raw bytes stand behind the line that announces them, and stay as they are", async () => {
  const test = new TestRecorder(8 * MIB, MIB);
  const sent = Uint8Array.from({ length: 100_000 }, (_, i) => i % 251);
  for (let at = 0; at < sent.length; at += 1000) test.data(flow, at, sent.slice(at, at + 1000));
  const range = { from: 0, to: sent.length + 5 };
  const answer = await test.ask({ request: "fetch", ...test.ends(flow), ...range, raw: true });
  const parts: number[] = [];
  for (let i = 0; i + 1 < answer.length; i += 2) {
    const bytes = answer[i + 1] as unknown as Uint8Array;
    assert.deepEqual(answer[i], { segment: { seq: parts.length, length: bytes.length } });
    parts.push(...bytes);
  }
  assert.deepEqual(Uint8Array.from(parts), sent);
  const missing = { from: sent.length, to: sent.length + 5, reason: "not seen" };
  assert.deepEqual(answer.at(-1), { missing });
});
