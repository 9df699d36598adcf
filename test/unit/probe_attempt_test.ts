import assert from "node:assert/strict";
import type { ProbeCounters } from "../../lib/probe/attempt.ts";
import { makeAttempt } from "../../lib/probe/make.ts";
import { parseProbe } from "../../lib/probe/spec.ts";

/** Runs one attempt of a probe, with its timeout. */
async function ask(
  text: string,
  timeout = 20_000,
): Promise<{ reason: string | undefined; millis: number } & ProbeCounters> {
  const counters = { sent: 0, ok: 0, failed: 0, timeouts: 0, killed: 0, discarded_bytes: 0 };
  const controller = new AbortController();
  const timer = setTimeout(() => {
    counters.timeouts++;
    controller.abort();
  }, timeout);
  const begin = performance.now();
  const reason = await makeAttempt(parseProbe(text))(controller.signal, counters);
  clearTimeout(timer);
  return { ...counters, reason, millis: performance.now() - begin };
}

/** Gives each connection to `serve`, and closes all of them at the end. */
async function withServer(
  serve: (connection: Deno.TcpConn) => Promise<unknown>,
  use: (endpoint: string) => Promise<void>,
  hostname = "127.0.0.1",
): Promise<void> {
  const listener = Deno.listen({ hostname, port: 0 });
  const { port } = listener.addr;
  const connections: Deno.TcpConn[] = [];
  const tasks: Promise<unknown>[] = [];
  const accepting = (async () => {
    for await (const connection of listener) {
      connections.push(connection);
      tasks.push(serve(connection).catch(() => {}));
    }
  })();
  try {
    await use(hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`);
  } finally {
    listener.close();
    for (const connection of connections) {
      try {
        connection.close();
      } catch {
        // The server has closed it.
      }
    }
    await accepting;
    await Promise.all(tasks);
  }
}

/** A server that reads the request, answers with `reply`, and closes where `close`. */
function answering(reply: string | Uint8Array, close = true) {
  return async (connection: Deno.TcpConn): Promise<void> => {
    await connection.read(new Uint8Array(4096));
    const bytes = typeof reply === "string" ? new TextEncoder().encode(reply) : reply;
    for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
    if (close) connection.close();
  };
}

const idle = async (connection: Deno.TcpConn): Promise<void> => {
  while (await connection.read(new Uint8Array(4096)) !== null);
};

for (const hostname of ["127.0.0.1", "::1"]) {
  Deno.test(`probe tcp on ${hostname}: a port that listens, and one that does not`, async () => {
    let endpoint = "";
    await withServer(idle, async (open) => {
      endpoint = open;
      assert.equal((await ask(`tcp://${open}`)).reason, undefined);
    }, hostname);
    assert.equal((await ask(`tcp://${endpoint}`)).reason, "Connection refused");
  });
}

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** What a server says, the options of the probe, and why the probe fails. */
const replies: [name: string, reply: string, options: string, reason?: RegExp][] = [
  ["a good answer", OK, ""],
  ["a body that matches", OK, ",match=ok"],
  ["a body that does not", OK, ",match=fine", /^Status 200, but the body lacks "fine"$/],
  ["a match with commas", OK.replace("ok", "a,b").replace(": 2", ": 3"), ",match=a,b,fall=1"],
  [
    "chunks",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
    ",match=ok",
  ],
  ["a body until the end", "HTTP/1.0 200 OK\n\nall is ok", ",match=all is ok"],
  ["an interim answer first", `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${OK}`, ",match=ok"],
  [
    "a redirect, not followed",
    "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "",
  ],
  [
    "a redirect where 200 is wanted",
    "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    ",status=200",
    /^Status 302$/,
  ],
  ["an error", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "", /^Status 503$/],
  ["no content", "HTTP/1.1 204 No Content\r\n\r\n", ""],
  ["another protocol", "SSH-2.0-OpenSSH_9.2\r\n", "", /^It is no HTTP$/],
  [
    "an end too early",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    "",
    /ended before the reply did/,
  ],
  ["nothing", "", "", /ended before the reply did/],
  [
    "chunks that are none",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "",
    /no HTTP/,
  ],
  ["a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "", /no number/],
  ["a head without end", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(70_000)}`, "", /head is longer/],
  ["a body without end", `HTTP/1.1 200 OK\r\n\r\nok${"x".repeat(1_000_000)}`, ",match=ok"],
];

for (const [name, reply, options, reason] of replies) {
  Deno.test(`probe http: ${name}`, async () => {
    await withServer(answering(reply), async (endpoint) => {
      const said = (await ask(`http://${endpoint}/health${options}`)).reason;
      if (reason === undefined) assert.equal(said, undefined);
      else assert.match(said!, reason);
    });
  });
}

Deno.test("probe http: an answer is complete by its length, though the connection stays", async () => {
  await withServer(answering(OK, false), async (endpoint) => {
    assert.equal((await ask(`http://${endpoint}`)).reason, undefined);
  });
});

Deno.test("probe http: a server that hangs, and one that trickles, end with the time", async () => {
  const trickle = async (connection: Deno.TcpConn): Promise<void> => {
    for (const byte of new TextEncoder().encode(OK.repeat(9))) {
      await connection.write(Uint8Array.of(byte));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  for (const serve of [idle, trickle]) {
    await withServer(serve, async (endpoint) => {
      const { reason, timeouts, millis } = await ask(`http://${endpoint}/`, 100);
      assert.notEqual(reason, undefined);
      assert.equal(timeouts, 1);
      assert.ok(millis < 5000, `${millis} ms`);
    });
  }
});

/** Whether a process exists and is no zombie. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

async function gone(pid: number): Promise<boolean> {
  for (let i = 0; i < 3000 && lives(pid); i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return !lives(pid);
}

Deno.test("probe exec: the exit status decides, and the reason shows what was said", async () => {
  assert.equal((await ask("exec:echo fine")).reason, undefined);
  assert.equal((await ask("exec:exit 3")).reason, "Exit status 3");
  assert.equal((await ask("exec:echo 'not, well' >&2; exit 4")).reason, "Exit status 4: not, well");
  assert.equal((await ask("exec:kill -SEGV $$")).reason, "Ended by SIGSEGV");
  assert.match((await ask("exec:/nowhere/at/all")).reason!, /^Exit status 127: .*not found/);
});

Deno.test("probe exec: a command that hangs is killed with all that it started", async () => {
  const file = await Deno.makeTempFile({ prefix: "t2cp-test-" });
  try {
    // A child in the background, and a shell that hears nothing but SIGKILL.
    const command = `trap '' TERM INT HUP; sleep 1000 & echo $! $$ >${file}; wait; wait`;
    const controller = new AbortController();
    const counters = { sent: 0, ok: 0, failed: 0, timeouts: 0, killed: 0, discarded_bytes: 0 };
    const attempt = makeAttempt(parseProbe(`exec:${command}`))(controller.signal, counters);
    let pids: number[] = [];
    while (pids.length < 2) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      pids = (Deno.readTextFileSync(file).match(/[0-9]+(?=\s)/g) ?? []).map(Number);
    }
    controller.abort();
    assert.match((await attempt)!, /Ended by SIGKILL/);
    assert.equal(counters.killed, 1);
    for (const pid of pids) assert.ok(await gone(pid), `${pid} is gone`);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("probe exec: what a command leaves behind is killed, and does not keep the probe", async () => {
  const file = await Deno.makeTempFile({ prefix: "t2cp-test-" });
  try {
    const { reason, killed } = await ask(`exec:sleep 1000 & echo $! >${file}`);
    assert.equal(reason, undefined);
    assert.equal(killed, 1);
    assert.ok(await gone(Number(await Deno.readTextFile(file))));
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("probe exec: 100 MB of output are read and dropped", async () => {
  const { reason, discarded_bytes } = await ask("exec:head -c 100000000 /dev/zero");
  assert.equal(reason, undefined);
  assert.ok(discarded_bytes > 99_000_000 && discarded_bytes < 100_000_000);
});
