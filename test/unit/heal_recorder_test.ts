import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { readLines } from "../../lib/ndjson.ts";
import { Answers } from "../../lib/heal/answers.ts";
import { Ranges } from "../../lib/heal/ranges.ts";
import {
  connectTo,
  RecorderClient,
  RecorderGone,
  RecorderRefused,
} from "../../lib/heal/recorder_client.ts";
import { poll } from "../fixture/wait.ts";

const flow = { client: "10.77.1.2:40000", server: "10.77.0.100:80" };

/** A Unix socket whose connections `serve` handles: it gets each request, and says its answer's lines. */
async function withServer(
  serve: (request: Record<string, unknown>, say: (line: string) => Promise<void>) => Promise<void>,
  test: (client: RecorderClient, server: { drop(): void; path: string }) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "record.sock");
  const listener = Deno.listen({ transport: "unix", path });
  const connections = new Set<Deno.UnixConn>();
  const tasks: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const connection of listener) {
      connections.add(connection);
      tasks.push(
        (async () => {
          const say = async (line: string) => {
            await connection.write(new TextEncoder().encode(line + "\n"));
          };
          for await (const line of readLines(connection.readable)) {
            if ("line" in line) await serve(JSON.parse(line.line), say);
          }
        })().catch(() => {}),
      );
    }
  })();
  const drop = (): void => {
    for (const connection of connections) {
      try {
        connection.close();
      } catch {
        // It is closed already.
      }
    }
    connections.clear();
  };
  const client = new RecorderClient(connectTo(path));
  try {
    await poll("the connection", () => client.connected);
    await test(client, { drop, path });
  } finally {
    await client[Symbol.asyncDispose]();
    listener.close();
    await accepting;
    drop();
    await Promise.all(tasks);
    await Deno.remove(directory, { recursive: true });
  }
}

/** Collects what a fetch brings. */
function receiver() {
  const got: unknown[] = [];
  return {
    got,
    segment: (seq: number, data: Uint8Array) => void got.push([seq, [...data]]),
    fin: (seq: number) => void got.push(["fin", seq]),
    missing: (range: { from: number; to: number }, reason: string) =>
      void got.push([range.from, range.to, reason]),
  };
}

Deno.test("recorder client: requests go out at once, answers reach who asked, in order", async () => {
  const seen: Record<string, unknown>[] = [];
  const serve = async (request: Record<string, unknown>, say: (line: string) => Promise<void>) => {
    seen.push(request);
    if (request.from === 7) return await say('{"ok":false,"error":"No such flow"}');
    // Four bytes; say() adds the last one.
    await say(JSON.stringify({ segment: { seq: request.from, length: 4 } }) + "\n\x01\n\x03");
    await say(JSON.stringify({ missing: { from: 13, to: 20, reason: "freed" } }));
    await say('{"fin":{"seq":20}}\n{"ok":true}');
  };
  await withServer(serve, async (client) => {
    const [one, two] = [receiver(), receiver()];
    const first = client.fetch(flow, { from: 10, to: 21 }, one);
    const refused = client.fetch(flow, { from: 7, to: 8 }, receiver());
    const second = client.fetch(flow, { from: 0xfffffffe, to: 5 }, two);
    await first;
    await assert.rejects(refused, new RecorderRefused("No such flow"));
    await second;
    assert.deepEqual(seen, [
      { request: "fetch", ...flow, from: 10, to: 21, raw: true },
      { request: "fetch", ...flow, from: 7, to: 8, raw: true },
      { request: "fetch", ...flow, from: 0xfffffffe, to: 5, raw: true },
    ]);
    assert.deepEqual(one.got, [[10, [1, 10, 3, 10]], [13, 20, "freed"], ["fin", 20]]);
    assert.deepEqual(two.got[0], [0xfffffffe, [1, 10, 3, 10]]);
  });
});

Deno.test("recorder client: acknowledgements and flows", async () => {
  const seen: Record<string, unknown>[] = [];
  const known = { ...flow, end: 99, primary_ack: 98, held: 1 };
  const serve = async (request: Record<string, unknown>, say: (line: string) => Promise<void>) => {
    seen.push(request);
    if (request.request === "flows") await say(JSON.stringify({ flow: known }));
    else await say('{"freed":{"bytes":5}}');
    await say('{"flow":{"client":"without an end"}}\n{"ok":true}');
  };
  await withServer(serve, async (client) => {
    await client.acknowledge([{ ...flow, upto: 42 }]);
    assert.deepEqual(seen, [{ request: "ack", flows: [{ ...flow, upto: 42 }] }]);
    assert.deepEqual(await client.flows(), [known]);
  });
});

Deno.test("recorder client: there is a bound on what is under way", async () => {
  const asked: (() => Promise<void>)[] = [];
  const serve = (_: unknown, say: (line: string) => Promise<void>) => {
    asked.push(() => say('{"ok":true}'));
    return Promise.resolve();
  };
  await withServer(serve, async (client) => {
    const MiB = 1 << 20;
    assert.equal(client.hasRoom(100 * MiB), true, "one request may always go");
    const fetches = [0, 1, 2].map((i) =>
      client.fetch(flow, { from: i * MiB, to: (i + 1) * MiB }, receiver())
    );
    assert.equal(client.hasRoom(MiB), true);
    assert.equal(client.hasRoom(2 * MiB), false);
    await poll("the requests", () => asked.length === 3);
    await asked[0]!();
    await fetches[0];
    assert.equal(client.hasRoom(2 * MiB), true);
    await asked[1]!();
    await asked[2]!();
    await Promise.all(fetches);
    const many = Array.from(
      { length: 32 },
      () => client.fetch(flow, { from: 0, to: 1 }, receiver()),
    );
    assert.equal(client.hasRoom(1), false);
    await poll("the requests", () => asked.length === 35);
    for (const answer of asked.slice(3)) await answer();
    await Promise.all(many);
  });
});

Deno.test("recorder client: where the recorder goes, all fails that is under way, and it connects again", async () => {
  let answering = false;
  const serve = async (_: unknown, say: (line: string) => Promise<void>) => {
    if (answering) await say('{"ok":true}');
  };
  await withServer(serve, async (client, server) => {
    const changes: boolean[] = [];
    client.onChange = (connected) => void changes.push(connected);
    const failing = [0, 1, 2].map(() => client.fetch(flow, { from: 0, to: 9 }, receiver()));
    const failures = failing.map((one) => assert.rejects(one, RecorderGone));
    server.drop();
    await Promise.all(failures);
    await assert.rejects(client.fetch(flow, { from: 0, to: 9 }, receiver()), RecorderGone);
    answering = true;
    await poll("another connection", () => client.connected);
    await client.fetch(flow, { from: 0, to: 9 }, receiver());
    assert.deepEqual(changes.slice(0, 2), [false, true]);
    assert.equal(client.stats.connections, 2);
    assert.equal(client.stats.disconnections, 1);
  });
});

for (
  const nonsense of [
    "no JSON",
    "7",
    '{"segment":{"seq":1,"data":"AQID"}}',
    '{"segment":{"seq":1,"length":-1}}',
    '{"segment":{"seq":1,"length":1000000}}',
    '{"segment":null}',
    "x".repeat(200_000),
  ]
) {
  Deno.test(`recorder client: an answer that cannot be ends the connection: ${nonsense.slice(0, 20)}`, async () => {
    const serve = (_: unknown, say: (line: string) => Promise<void>) => say(nonsense);
    await withServer(serve, async (client) => {
      const fetching = client.fetch(flow, { from: 0, to: 9 }, receiver());
      await assert.rejects(fetching, RecorderGone);
    });
  });
}

Deno.test("recorder client: it waits for a recorder that is not there yet", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "record.sock");
  const client = new RecorderClient(connectTo(path));
  try {
    const reasons: string[] = [];
    client.onChange = (_, why) => void reasons.push(why);
    await poll("two attempts", () => reasons.length >= 2);
    assert.match(reasons[0]!, /No such file/);
    await assert.rejects(client.flows(), RecorderGone);
    using listener = Deno.listen({ transport: "unix", path });
    await poll("the connection", () => client.connected);
    (await listener.accept()).close();
  } finally {
    await client[Symbol.asyncDispose]();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("ranges: they hold what a set of numbers holds, also across the wrap", () => {
  const step = fc.tuple(
    fc.constantFrom("add", "remove", "cut", "truncate"),
    fc.nat(60),
    fc.nat(20),
  );
  const starts = fc.oneof(fc.nat(0xffffffff), fc.constant(0xffffffff - 30));
  fc.assert(fc.property(starts, fc.array(step, { maxLength: 30 }), (start, steps) => {
    const ranges = new Ranges();
    const model = new Set<number>();
    const at = (offset: number): number => (start + offset) >>> 0;
    for (const [what, from, length] of steps) {
      if (what === "add" || what === "remove") {
        ranges[what](at(from), at(from + length));
        for (let i = from; i < from + length; i++) {
          if (what === "add") model.add(i);
          else model.delete(i);
        }
      } else {
        ranges[what](at(from));
        for (const i of [...model]) if (what === "cut" ? i < from : i >= from) model.delete(i);
      }
    }
    const held = Array.from({ length: 100 }, (_, i) => i).filter((i) => ranges.has(at(i)));
    assert.deepEqual(held, [...model].sort((a, b) => a - b));
    assert.equal(ranges.total, model.size);
    assert.equal(ranges.empty, model.size === 0);
    assert.equal(ranges.first?.from, model.size === 0 ? undefined : at(Math.min(...model)));
    // Apart from each other, and in order.
    let last: number | undefined;
    for (const { from, to } of ranges) {
      if (last !== undefined) assert.ok(((from - last) | 0) > 0);
      assert.ok(((to - from) | 0) > 0);
      last = to;
    }
  }));
});

Deno.test("answers: lines and bytes come out as they went in, whatever the chunks", async () => {
  const part = fc.oneof(
    fc.record({ line: fc.string({ unit: "grapheme", maxLength: 40 }) }),
    fc.record({ bytes: fc.uint8Array({ maxLength: 200 }) }),
  ).filter((one) => !("line" in one) || !/[\n\r]/.test(one.line));
  await fc.assert(fc.asyncProperty(
    fc.array(part, { maxLength: 30 }),
    fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 10 }),
    async (parts, sizes) => {
      const encoder = new TextEncoder();
      const input = parts.flatMap((one) =>
        "line" in one ? [...encoder.encode(`${one.line}\n`)] : [...one.bytes]
      );
      let [at, reads] = [0, 0];
      const answers = new Answers({
        read(target): Promise<number | null> {
          const chunk = input.slice(at, at + sizes[reads++ % sizes.length]!);
          target.set(chunk);
          at += chunk.length;
          return Promise.resolve(chunk.length === 0 ? null : chunk.length);
        },
      });
      for (const one of parts) {
        if ("line" in one) assert.equal(await answers.line(), one.line);
        else assert.deepEqual(await answers.bytes(one.bytes.length), one.bytes);
      }
      assert.equal(await answers.line(), undefined);
    },
  ));
});

Deno.test("answers: a line and bytes of the greatest length, again and again", async () => {
  const line = new Uint8Array(128 * 1024 + 1).fill(0x78);
  line[line.length - 1] = 10;
  let at = 0;
  const answers = new Answers({
    read(target): Promise<number | null> {
      for (let i = 0; i < target.length; i++) target[i] = line[at++ % line.length]!;
      return Promise.resolve(target.length);
    },
  });
  for (let i = 0; i < 5; i++) {
    assert.equal((await answers.line())!.length, 128 * 1024);
    assert.deepEqual(await answers.bytes(128 * 1024), line.subarray(0, -1));
    assert.equal(await answers.line(), "");
  }
});
