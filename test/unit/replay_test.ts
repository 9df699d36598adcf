import assert from "node:assert/strict";
import { FlowComparison } from "../../lib/compare/flow.ts";
import { Masks } from "../../lib/compare/masks.ts";
import { ExitStatus } from "../../lib/failure.ts";
import { parseMapping } from "../../lib/replay/targets.ts";
import { answers, type Dialogue, says } from "../fixture/dialogue.ts";
import { replayDialogues, type RunOptions, TestServer } from "../fixture/replay.ts";

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

/** Plays one question and answer to a server, with little patience. */
async function playBad(
  serve: (connection: Deno.TcpConn) => Promise<void>,
  options: RunOptions = {},
  dialogue: Dialogue = chat,
) {
  await using server = new TestServer(serve);
  const told = await replayDialogues([dialogue], {
    ...{ to: server.text, wait: 600, settle: 200 },
    ...options,
  });
  assert.equal(told.flows.length, 1);
  assert.equal(told.equal, false, JSON.stringify(told));
  return told.flows[0]!;
}

Deno.test("replay: a server that never answers is timed out", async () => {
  const flow = await playBad(async (connection) => void await hear(connection));
  assert.deepEqual([flow.outcome, flow.reason, flow.received], ["timed_out", "no answer", 0]);
  assert.ok(flow.took_ms >= 600);
});

Deno.test("replay: a server that says a byte at a time takes no longer than --wait", async () => {
  const flow = await playBad(
    async (connection) => {
      for (let i = 0; i < 1000; i++) {
        await write(connection, "O");
        await pause(20);
      }
    },
    { settle: 30_000 },
    { lines: [says("one"), answers("O".repeat(1000)), says("two")] },
  );
  assert.deepEqual([flow.outcome, flow.reason], ["timed_out", "the answer takes too long"]);
  assert.ok(flow.received > 0 && flow.received < 1000);
});

Deno.test("replay: a server that closes at once is shorter, or has reset the connection", async () => {
  const flow = await playBad(() => Promise.resolve());
  assert.match(flow.outcome, /^(shorter|reset)$/);
  const silent = await playBad(() => Promise.resolve(), {}, { lines: [answers("hello")] });
  assert.deepEqual([silent.outcome, silent.received, silent.ended], ["shorter", 0, "fin"]);
});

Deno.test("replay: a server that leaves before the client is done is not equal", async () => {
  const flow = await playBad(async (connection) => {
    await hear(connection, 4);
    await write(connection, "ONE\n");
    await connection.closeWrite();
    await hear(connection);
  }, { wait: 30_000 });
  assert.deepEqual([flow.outcome, flow.received], ["shorter", 4]);
});

Deno.test("replay: a server that never stops is given up after --excess, and little is kept", async () => {
  const chunk = "x".repeat(1 << 16);
  for (const [first, outcome] of [["ONE\nTWO\n", "longer"], ["?", "differs"]] as const) {
    const flow = await playBad(async (connection) => {
      await write(connection, first);
      while (true) await write(connection, chunk);
    }, { excess: 1 << 20, wait: 30_000, settle: 10_000 });
    assert.equal(flow.outcome, outcome);
    assert.equal(flow.reason, "the server says too much");
    assert.ok(flow.received > 1 << 20 && flow.received < 4 << 20);
  }
});

Deno.test("replay: however much a server says within --excess, little of it is kept", async () => {
  let most = 0;
  class Weighed extends FlowComparison {
    override live(bytes: Uint8Array): void {
      super.live(bytes);
      most = Math.max(most, this.held);
    }
  }
  const chunk = "x".repeat(1 << 16);
  const chunks = 512;
  const masks = new Masks(["x=[0-9]+"]);
  for (const [first, outcome] of [["ONE\nTWO\n", "longer"], ["?", "differs"]] as const) {
    const flow = await playBad(async (connection) => {
      await write(connection, first);
      for (let i = 0; i < chunks; i++) await write(connection, chunk);
      // What is not read makes a reset of the end.
      await hear(connection);
    }, { excess: 1 << 30, wait: 60_000, settle: 60_000, makeCheck: () => new Weighed(masks) });
    assert.deepEqual([flow.outcome, flow.received], [outcome, first.length + chunks * (1 << 16)]);
  }
  assert.ok(most > 0 && most < 1 << 18, `${most} bytes were kept`);
});

Deno.test("replay: a server that takes nothing is timed out", async () => {
  const lines = [says("x".repeat(16 << 20)), answers("thanks")];
  const flow = await playBad(
    async (connection) => {
      // Throws once the test has ended the connection.
      while (true) {
        connection.setNoDelay();
        await pause(20);
      }
    },
    { readAhead: 1 << 26 },
    { lines },
  );
  assert.deepEqual([flow.outcome, flow.reason], ["timed_out", "the server takes no more bytes"]);
});

Deno.test("replay: nobody listens", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const to = `127.0.0.1:${listener.addr.port}`;
  listener.close();
  const told = await replayDialogues([chat], { to });
  assert.deepEqual(told.flows.map(({ outcome }) => outcome), ["refused"]);
  assert.equal(told.equal, false);
});

Deno.test("replay: an answer that lacks bytes is not waited for after --settle", async () => {
  const flow = await playBad(async (connection) => {
    await hear(connection, 4);
    await write(connection, "ON");
    await hear(connection, 4);
    await write(connection, "TWO\n");
    await hear(connection);
  }, { wait: 30_000 });
  assert.deepEqual([flow.sent, flow.unmet], [8, 1]);
  assert.notEqual(flow.outcome, "equal");
});

Deno.test("replay: bytes of the client that the capture lacks are never sent", async () => {
  const lost = { ...says("two\n"), lost: true };
  let heard = "";
  await using server = new TestServer(async (connection) => {
    heard = await hear(connection, 4);
    await write(connection, "ONE\n");
    heard += await hear(connection);
  });
  const lines = [says("one\n"), answers("ONE\n"), lost, answers("TWO\n"), says("six\n")];
  const told = await replayDialogues([{ lines }], { to: server.text, settle: 200 });
  assert.equal(told.flows[0]!.outcome, "skipped");
  assert.equal(told.flows[0]!.reason, "the capture lacks 4 bytes of the client");
  assert.equal(told.flows[0]!.sent, 4);
  assert.equal(heard, "one\n");
  assert.equal(told.failure?.status, ExitStatus.BAD_INPUT);
  assert.match(told.failure.message, /^No conversation of ".*" was played to its end: the capture/);
});

Deno.test("replay: an answer to bytes that the capture lacks is not waited for", async () => {
  await using server = new TestServer(async (connection) => void await hear(connection));
  const lines = [says("head"), { ...says("body"), lost: true }, answers("thanks")];
  for (const end of ["client", "capture"] as const) {
    const run = { to: server.text, settle: 30_000, wait: 30_000 };
    const [flow] = (await replayDialogues([{ lines, end }], run)).flows;
    assert.deepEqual([flow?.outcome, flow?.sent, flow?.unmet], ["skipped", 4, undefined]);
    assert.ok(flow!.took_ms < 20_000, "--wait and --settle are longer");
  }
});

Deno.test("replay: answers to a client that was not captured are not waited for", async () => {
  await using server = new TestServer(async (connection) => void await hear(connection));
  const lines = [{ ...says("one\n"), lost: true }, answers("ONE\n")];
  const dialogue = { lines, serverOnly: true, end: "capture" } as const;
  const { flows, failure } = await replayDialogues([dialogue], { to: server.text });
  const [{ outcome, reason, took_ms: took }] = flows as [typeof flows[0]];
  assert.deepEqual([outcome, reason], ["skipped", "the capture lacks 4 bytes of the client"]);
  assert.ok(took < 10_000, "neither --wait nor --settle, which are longer here");
  assert.equal(failure?.status, ExitStatus.BAD_INPUT);
});

Deno.test("replay: where every conversation is skipped, the most frequent cause says what is wrong", async () => {
  await using server = shouting();
  const many = [0, 1, 2].map((i): Dialogue => ({ ...chat, clientPort: 40_000 + i }));
  const nobody = { ...chat, server: "10.0.0.9", clientPort: 40_003 };
  const mapping = [parseMapping(`10.0.0.9=${server.text}`)];
  const all = await replayDialogues(many, { mapping });
  assert.deepEqual(all.flows.map(({ outcome }) => outcome), ["skipped", "skipped", "skipped"]);
  assert.equal(all.failure?.status, ExitStatus.USAGE);
  assert.match(all.failure.line, /: no --map for 10\.0\.0\.2:80, and no --to, 3 times; give --to/);
  const some = await replayDialogues([...many, nobody], { mapping });
  assert.deepEqual([some.failure, some.equal], [undefined, true]);
  const stopped = await replayDialogues(many, { to: server.text, stop: AbortSignal.abort() });
  assert.equal(stopped.failure, undefined);
});

Deno.test("replay: what was said before the capture began is not made up", async () => {
  let heard = "";
  await using server = new TestServer(async (connection) => {
    await write(connection, "TWO\n");
    heard = await hear(connection);
  });
  const lines = [{ ...says("two\n"), lost: true }, answers("TWO\n"), says("six\n")];
  const { flows } = await replayDialogues([{ lines, joined: true }], { to: server.text });
  assert.deepEqual([flows[0]!.outcome, flows[0]!.sent], ["equal", 4]);
  assert.equal(heard, "six\n");
});

Deno.test("replay: the time of the capture, faster, and with shorter pauses", async () => {
  await using server = shouting();
  const lines = [
    says("a"),
    answers("A"),
    says("b", 400),
    answers("B"),
    says("c", 4000),
    answers("C"),
  ];
  const slow = await replayDialogues([{ lines }], { to: server.text, speed: 1, idleCap: 0.4 });
  assert.ok(slow.result.took_ms >= 800, String(slow.result.took_ms));
  assert.equal(slow.equal, true);
  const fast = await replayDialogues([{ lines }], { to: server.text, speed: 8 });
  assert.ok(fast.result.took_ms >= 550, String(fast.result.took_ms));
});

Deno.test("replay: which conversations are played, how often, and how many at once", async () => {
  await using server = shouting();
  const many = Array.from({ length: 20 }, (_, i): Dialogue => ({
    ...chat,
    client: `10.0.1.${i % 4}`,
    clientPort: 40_000 + i,
    begin: i * 0.1,
  }));
  const to = server.text;
  const numbers = async (options: RunOptions) => {
    const { flows, result, equal } = await replayDialogues(many, { to, ...options });
    assert.equal(equal, true);
    return { flows: flows.map(({ flow }) => flow).toSorted((a, b) => a - b), result };
  };
  assert.deepEqual((await numbers({ flows: [3, 7] })).flows, [3, 7]);
  assert.deepEqual((await numbers({ clients: [{ host: "10.0.1.1" }] })).flows, [1, 5, 9, 13, 17]);
  assert.deepEqual((await numbers({ limit: 4 })).flows, [0, 1, 2, 3]);
  assert.deepEqual((await numbers({ filter: "tcp port 40007" })).flows, [0]);
  const { flows, result } = await numbers({ loop: 3, concurrency: 2 });
  assert.equal(flows.length, 60);
  assert.equal(result.counters["open_max"], 2);
  await assert.rejects(replayDialogues(many, { to, flows: [99] }), /has no conversation to play/);
});

Deno.test("replay: a small --read-ahead, and conversations that wait for each other", async () => {
  await using server = shouting();
  const text = "x".repeat(4000);
  const many = Array.from({ length: 50 }, (_, i): Dialogue => ({
    lines: Array.from({ length: 10 }, () => [says(text), answers(text.toUpperCase())]).flat(),
    clientPort: 40_000 + i,
  }));
  const to = server.text;
  const told = await replayDialogues(many, { to, readAhead: 1 << 18, concurrency: 2 });
  const { equal = 0, skipped = 0 } = told.result.outcomes;
  assert.equal(equal + skipped, 50);
  assert.ok(equal >= 2);
  assert.ok(told.result.counters["read_ahead_max"]! < 1 << 20);
  const enough = await replayDialogues(many, { to, readAhead: 1 << 18, concurrency: 50 });
  assert.equal(enough.result.outcomes["equal"], 50);
});
