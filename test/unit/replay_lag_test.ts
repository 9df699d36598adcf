/**
 * How late a replay may get.
 */
import assert from "node:assert/strict";
import { ExitStatus } from "../../lib/failure.ts";
import { answers, type Dialogue, says } from "../fixture/dialogue.ts";
import { replayDialogues, TestServer } from "../fixture/replay.ts";

const encoder = new TextEncoder();
const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis));

/** Answers whatever comes with "ok", `millis` later. */
function slow(millis: number): TestServer {
  return new TestServer(async (connection) => {
    const buffer = new Uint8Array(1 << 10);
    while (await connection.read(buffer) !== null) {
      await pause(millis);
      await connection.write(encoder.encode("ok"));
    }
  });
}

const twice: Dialogue = { lines: [says("a"), answers("ok"), says("b"), answers("ok")] };

Deno.test("replay: a conversation that gets later than --max-lag is skipped, and counted", async () => {
  await using server = slow(1500);
  const run = { to: server.text, speed: 1, maxLag: 1000 };
  const { flows, result, failure } = await replayDialogues([twice], run);
  assert.deepEqual([flows[0]!.outcome, flows[0]!.reason], ["skipped", "later than --max-lag"]);
  assert.equal(flows[0]!.sent, 1);
  assert.equal(failure?.status, ExitStatus.UNAVAILABLE);
  assert.equal(result.counters["late"], 1);
  assert.ok(result.counters["lag_max_ms"]! > 1000);
});

Deno.test("replay: a conversation that would begin too late is not begun", async () => {
  await using server = slow(1500);
  const dialogues = [twice, { ...twice, clientPort: 40_001, begin: 10 }];
  const run = { to: server.text, speed: 1, maxLag: 1000, concurrency: 1 };
  const { flows, result } = await replayDialogues(dialogues, run);
  assert.deepEqual(flows.map(({ outcome }) => outcome), ["skipped", "skipped"]);
  assert.equal(server.accepted, 1);
  assert.equal(result.counters["late"], 2);
});

Deno.test("replay: without a bound, or within it, nothing is skipped", async () => {
  await using server = slow(100);
  for (const maxLag of [Infinity, 30_000]) {
    const { flows, result } = await replayDialogues([twice], { to: server.text, speed: 1, maxLag });
    assert.equal(flows[0]!.outcome, "equal");
    assert.equal(result.counters["late"], 0);
  }
});
