import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { type ControlServer, type Handler, serveControl } from "../../lib/control.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import { PATIENCE, poll, within } from "../fixture/wait.ts";

const utf8 = new TextEncoder();

const handlers: Record<string, Handler> = {
  *stats() {
    yield { stats: { flows: 2 } };
  },
  *flows() {
    for (const client of ["a", "b", "c"]) yield { flow: client };
  },
  *echo(request) {
    yield { echo: request["word"] };
  },
  *fail() {
    yield { half: true };
    throw new Failure(ExitStatus.OS, "It is broken", { mend: "mend it" });
  },
  bug() {
    throw new TypeError("x is not a function");
  },
  *large() {
    for (let i = 0; i < 1000; i++) yield { text: "x".repeat(100_000) };
  },
};

/** Serves a socket of its own while `use` runs. */
async function serving(
  use: (path: string, server: ControlServer) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "t2cp-control-" });
  const path = join(directory, "x.sock");
  try {
    {
      await using server = await serveControl(path, handlers);
      await use(path, server);
    }
    await assert.rejects(Deno.lstat(path), Deno.errors.NotFound, "the socket's file is gone");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const connect = (path: string): Promise<Deno.UnixConn> => Deno.connect({ transport: "unix", path });

/** Reads lines up to the one that ends the answer to the last of `requests` requests. */
async function answersOf(
  client: Deno.UnixConn,
  requests: number,
): Promise<Record<string, unknown>[]> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(1 << 16);
  let text = "";
  while (true) {
    const answers = text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
    if (answers.filter((answer) => "ok" in answer).length >= requests) return answers;
    const count = await within(PATIENCE, client.read(buffer), "an answer");
    if (count === null) return answers;
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}

/** Sends `requests` requests in pieces of any size, and reads all answers. */
async function ask(
  path: string,
  requests: number,
  ...pieces: Uint8Array[]
): Promise<Record<string, unknown>[]> {
  using client = await connect(path);
  const reading = answersOf(client, requests);
  for (const piece of pieces) {
    for (let at = 0; at < piece.length;) at += await client.write(piece.subarray(at));
  }
  return await reading;
}

const request = (value: unknown): Uint8Array => utf8.encode(JSON.stringify(value) + "\n");

Deno.test("control: a request is answered by its handler, and the answer ends in ok", async () => {
  await serving(async (path, { stats }) => {
    assert.deepEqual(await ask(path, 1, request({ request: "stats" })), [
      { stats: { flows: 2 } },
      { ok: true },
    ]);
    assert.deepEqual(await ask(path, 1, request({ request: "flows" })), [
      { flow: "a" },
      { flow: "b" },
      { flow: "c" },
      { ok: true },
    ]);
    assert.deepEqual(stats, { requests: 2, refused: 0 });
  });
});

Deno.test("control: requests behind one another are answered in their order", async () => {
  await serving(async (path) => {
    const words = Array.from({ length: 200 }, (_, index) => `word ${index}`);
    const lines = words.map((word) => request({ request: "echo", word }));
    const answers = await ask(path, lines.length, ...lines);
    assert.deepEqual(
      answers,
      words.flatMap((word) => [{ echo: word }, { ok: true }]),
    );
  });
});

Deno.test("control: an answer comes while the client keeps its end open", async () => {
  await serving(async (path) => {
    using client = await connect(path);
    const bytes = new Uint8Array(1000);
    for (let i = 0; i < 3; i++) {
      await client.write(request({ request: "echo", word: i }));
      let text = "";
      while (text.split("\n").length < 3) {
        const count = await within(PATIENCE, client.read(bytes), "an answer");
        assert.ok(count !== null);
        text += new TextDecoder().decode(bytes.subarray(0, count));
      }
      assert.equal(text, `{"echo":${i}}\n{"ok":true}\n`);
    }
  });
});

Deno.test("control: what is no request gets an error that says what is wrong", async () => {
  const known = Object.keys(handlers).map((name) => `"${name}"`).join(", ");
  const unknown = `Field "request" must be one of ${known}`;
  const cases: [string, string][] = [
    [`{"request":"frobnicate"}`, unknown],
    [`{"request":7}`, unknown],
    [`{"request":"toString"}`, unknown],
    [`{"request":"__proto__"}`, unknown],
    [`{}`, unknown],
    [`[]`, unknown],
    [`null`, unknown],
    [`"stats"`, unknown],
    [`stats`, "Line is not JSON"],
    [`{"request":"stats"`, "Line is not JSON"],
    [``, "Line is not JSON"],
  ];
  await serving(async (path) => {
    for (const [line, error] of cases) {
      assert.deepEqual(await ask(path, 1, utf8.encode(line + "\n")), [{ ok: false, error }], line);
    }
    const [answer] = await ask(path, 1, Uint8Array.of(0xff, 0xfe, 0x0a));
    assert.equal(answer!["ok"], false);
    assert.match(String(answer!["error"]), /UTF-8/);
    // And all on one connection, which goes on after each.
    const lines = cases.map(([line]) => utf8.encode(line + "\n"));
    const answers = await ask(path, lines.length + 1, ...lines, request({ request: "stats" }));
    assert.equal(answers.length, cases.length + 2);
    assert.deepEqual(answers.at(-1), { ok: true });
  });
});

Deno.test("control: a handler's failure follows what it had answered already", async () => {
  await serving(async (path) => {
    assert.deepEqual(await ask(path, 1, request({ request: "fail" })), [
      { half: true },
      { ok: false, error: "It is broken; mend it" },
    ]);
    assert.deepEqual(await ask(path, 1, request({ request: "bug" })), [
      { ok: false, error: "TypeError: x is not a function" },
    ]);
    assert.deepEqual((await ask(path, 1, request({ request: "stats" }))).at(-1), { ok: true });
  });
});

Deno.test("control: a request in any pieces is the same request", async () => {
  await serving(async (path) => {
    const line = request({ request: "echo", word: "höhe \u{1f600}" });
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: line.length - 1 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(cuts, async (cuts) => {
        const edges = [0, ...cuts.toSorted((a, b) => a - b), line.length];
        const pieces = edges.slice(1).map((end, index) => line.subarray(edges[index], end));
        assert.deepEqual(await ask(path, 1, ...pieces), [{ echo: "höhe \u{1f600}" }, { ok: true }]);
      }),
      { numRuns: 30 },
    );
  });
});

Deno.test("control: a client that goes away in the middle harms nobody", async () => {
  await serving(async (path) => {
    for (let i = 0; i < 20; i++) {
      const client = await connect(path);
      await client.write(utf8.encode(i % 2 === 0 ? `{"request":"sta` : `{"request":"large"}\n`));
      client.close();
    }
    assert.deepEqual((await ask(path, 1, request({ request: "stats" }))).at(-1), { ok: true });
  });
});

Deno.test("control: a line of 10 MB is refused without being kept, and the next is answered", async () => {
  await serving(async (path) => {
    const block = utf8.encode("x".repeat(1 << 20));
    const end = utf8.encode("\n");
    const pieces = [...Array<Uint8Array>(10).fill(block), end, request({ request: "stats" })];
    const answers = await ask(path, 2, ...pieces);
    assert.equal(answers.length, 3);
    assert.equal(answers[0]!["ok"], false);
    assert.match(String(answers[0]!["error"]), /longer than 262144 bytes/);
    assert.deepEqual(answers.slice(1), [{ stats: { flows: 2 } }, { ok: true }]);
  });
});

Deno.test("control: of 100 clients at once some are turned away, and all others are answered", async () => {
  await serving(async (path, { stats }) => {
    const clients = await Promise.all(Array.from({ length: 100 }, () => connect(path)));
    const outcomes = await within(
      PATIENCE,
      Promise.all(clients.map(async (client) => {
        try {
          // A request that crosses the closing comes back as a broken pipe.
          await client.write(request({ request: "stats" })).catch(() => {});
          const [first, last] = await answersOf(client, 1);
          if (first?.["ok"] === false && /clients are connected/.test(String(first["error"]))) {
            return "turned away";
          }
          return `${JSON.stringify(first)} ${last?.["ok"]}`;
        } finally {
          client.close();
        }
      })),
      "all answers",
    );
    const answered = outcomes.filter((text) => text === `{"stats":{"flows":2}} true`).length;
    const refused = outcomes.filter((text) => text === "turned away").length;
    assert.equal(answered + refused, 100);
    assert.ok(answered >= 64, `${answered} were answered`);
    assert.equal(stats.refused, refused);
    assert.equal(stats.requests, answered);
    // There is room again once the server has seen them go.
    await poll("room for another client", async () => {
      const answers = await ask(path, 1, request({ request: "stats" })).catch(() => []);
      return answers.length === 2;
    });
  });
});

Deno.test("control: the socket is its owner's alone", async () => {
  const before = Deno.umask();
  await serving(async (path) => {
    const { mode, isSocket } = await Deno.lstat(path);
    assert.equal(isSocket, true);
    assert.equal((mode ?? 0) & 0o777, 0o600);
  });
  assert.equal(Deno.umask(), before, "the mask of the process stays as it was");
});

/** Makes a server at `path` and kills it. */
async function killedServer(path: string): Promise<void> {
  const script = `Deno.listen({ transport: "unix", path: ${JSON.stringify(path)} });
    console.log("serving");
    setInterval(() => {}, 1000);`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  try {
    await within(PATIENCE, reader.read(), "the server");
  } finally {
    child.kill("SIGKILL");
    await reader.cancel();
    await child.status;
  }
}

Deno.test("control: the file that a killed server left is replaced", async () => {
  const directory = await Deno.makeTempDir({ prefix: "t2cp-control-" });
  try {
    const path = join(directory, "x.sock");
    await killedServer(path);
    assert.equal((await Deno.lstat(path)).isSocket, true);
    await using _server = await serveControl(path, handlers);
    assert.deepEqual((await ask(path, 1, request({ request: "stats" }))).at(-1), { ok: true });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("control: a second server is refused, and the first goes on", async () => {
  await serving(async (path) => {
    await assert.rejects(serveControl(path, handlers), (error) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.status, ExitStatus.TEMPORARY);
      assert.equal(
        error.line,
        `Another process serves the control socket "${path}"; ` +
          `stop it first, or name another directory with --run-dir`,
      );
      return true;
    });
    assert.deepEqual((await ask(path, 1, request({ request: "stats" }))).at(-1), { ok: true });
  });
});

Deno.test("control: the server's end does not wait for clients that neither ask nor read", async () => {
  const clients: Deno.UnixConn[] = [];
  try {
    await within(
      PATIENCE,
      serving(async (path) => {
        const idle = await connect(path);
        const half = await connect(path);
        await half.write(utf8.encode(`{"request":`));
        const stalled = await connect(path);
        clients.push(idle, half, stalled);
        await stalled.write(request({ request: "large" }));
        // Its answer is on the way, and more than the socket holds.
        await stalled.read(new Uint8Array(10));
      }),
      "the server's end",
    );
  } finally {
    for (const client of clients) client.close();
  }
});
