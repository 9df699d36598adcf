import assert from "node:assert/strict";
import { answers, type Dialogue, says } from "../fixture/dialogue.ts";
import { replayDialogues, TestServer } from "../fixture/replay.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis));

/** Reads until the client has ended, or has said `count` bytes. */
async function hear(connection: Deno.TcpConn, count = Infinity): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(1 << 16);
  while (text.length < count) {
    const read = await connection.read(buffer);
    if (read === null) break;
    text += decoder.decode(buffer.subarray(0, read));
  }
  return text;
}

async function write(connection: Deno.TcpConn, text: string): Promise<void> {
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** Answers each line with the same in capitals. */
function shouting(): TestServer {
  return new TestServer(async (connection) => {
    const buffer = new Uint8Array(1 << 16);
    while (true) {
      const count = await connection.read(buffer);
      if (count === null) return;
      await write(connection, decoder.decode(buffer.subarray(0, count)).toUpperCase());
    }
  });
}

const chat: Dialogue = {
  lines: [says("one\n"), answers("ONE\n"), says("two\n"), answers("TWO\n")],
};

Deno.test("replay: a server that answers as captured is equal, however the connection ends", async () => {
  await using server = shouting();
  for (const end of ["client", "client reset", "capture"] as const) {
    const told = await replayDialogues([{ ...chat, end }], { to: server.text });
    const [{ outcome, sent, received }] = told.flows as [typeof told.flows[0]];
    assert.deepEqual([outcome, sent, received, told.equal], ["equal", 8, 8, true], end);
    assert.deepEqual(told.result.outcomes["equal"], 1);
    assert.equal(told.result.messages, 2);
  }
});

Deno.test("replay: a message waits for the answer that it followed in the capture", async () => {
  let early = 0;
  await using server = new TestServer(async (connection) => {
    const sides = [["one\n", "ONE\n"], ["two\n", "TWO\n"], ["three\n", "THREE\n"]] as const;
    let next = "";
    for (const [question, answer] of sides) {
      assert.equal(next + await hear(connection, question.length - next.length), question);
      // Whatever comes before the answer has gone out whole has not waited.
      const reading = hear(connection, 1);
      const byte = Promise.race([reading, pause(50).then(() => undefined)]);
      await write(connection, answer.slice(0, 2));
      if (await byte !== undefined) early++;
      await write(connection, answer.slice(2));
      next = await reading;
    }
  });
  const lines = [...chat.lines, says("three\n"), answers("THREE\n")];
  const told = await replayDialogues([{ lines }], { to: server.text });
  assert.equal(told.flows[0]!.outcome, "equal");
  assert.equal(early, 0);
});
