/**
 * The lab's own programs against servers that do right or wrong, on the loopback interface.
 */
import assert from "node:assert/strict";
import { programLine, type ProgramName } from "../../lib/lab/flow_client.ts";
import { Flows } from "../../lib/lab/flows.ts";
import { FLOW_MESSAGES, MESSAGE_SIZE, messages } from "../../lib/lab/program/message.ts";
import { run } from "../cli/t2cp.ts";

const address = "127.0.0.1";

/** Runs a client program against `serve`, which gets each connection and its number. */
async function against(
  serve: (conn: Deno.TcpConn, number: number) => Promise<void>,
  program: ProgramName,
  task: object,
): Promise<Flows> {
  const listener = Deno.listen({ hostname: address, port: 0 });
  const served: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const conn of listener) {
      served.push(
        serve(conn, served.length).catch(() => {}).finally(() => {
          try {
            conn.close();
          } catch {
            // It is closed already.
          }
        }),
      );
    }
  })();
  try {
    const [deno, ...args] = programLine(program, { address, port: listener.addr.port, ...task });
    const { status, stdout, stderr } = await run(deno!, args);
    assert.equal(status, 0, stderr);
    const flows = new Flows();
    for (const line of stdout.trimEnd().split("\n")) flows.take(JSON.parse(line));
    return flows;
  } finally {
    listener.close();
    await accepting;
    await Promise.all(served);
  }
}

/** Sends back what comes, changed by `change`. */
function echo(change: (bytes: Uint8Array, from: number) => Uint8Array | null) {
  return async (conn: Deno.TcpConn): Promise<void> => {
    const buffer = new Uint8Array(4096);
    let from = 0;
    for (let got = await conn.read(buffer); got !== null; got = await conn.read(buffer)) {
      const reply = change(buffer.slice(0, got), from);
      if (reply === null) return;
      await conn.write(reply);
      from += got;
    }
  };
}

const conversation = { flows: 3, messages: 4, rate: 200 };

Deno.test("lab programs: echo of several flows", async () => {
  const flows = await against(echo((bytes) => bytes), "echo_client", conversation);
  assert.deepEqual([flows.ended, flows.problem()], [3, undefined]);
  assert.equal(flows.progress.bytes, 3 * 4 * MESSAGE_SIZE);
  assert.ok(flows.latencies().every((latency) => latency >= 0 && latency < 5e6));
});

Deno.test("lab programs: an echo that differs, that ends early, and one that nobody serves", async () => {
  const flip = (bytes: Uint8Array, from: number) => {
    const at = 2 * MESSAGE_SIZE - from;
    if (at >= 0 && at < bytes.length) bytes[at]! ^= 1;
    return bytes;
  };
  const differs = await against(echo(flip), "echo_client", conversation);
  assert.equal(differs.failures, 3);
  assert.match(differs.problem()!, /the content differs/);

  const short = (bytes: Uint8Array, from: number) =>
    from === 0 ? bytes.subarray(0, MESSAGE_SIZE) : null;
  const early = await against(echo(short), "echo_client", conversation);
  assert.equal(early.failures, 3);

  const task = { ...conversation, port: freePort() };
  const nobody = await against(() => Promise.resolve(), "echo_client", task);
  assert.deepEqual([nobody.ended, nobody.failures], [3, 3]);
});

/** A port that was free a moment ago. */
function freePort(): number {
  const listener = Deno.listen({ hostname: address, port: 0 });
  listener.close();
  return listener.addr.port;
}

Deno.test("lab programs: chat between its client and its server", async () => {
  const port = freePort();
  const task = { address, port, ...conversation };
  const [deno, ...args] = programLine("chat_server", task);
  const server = new Deno.Command(deno!, { args, stdin: "null", stderr: "null" }).spawn();
  try {
    for (let tries = 0;; tries++) {
      try {
        (await Deno.connect({ hostname: address, port })).close();
        break;
      } catch (error) {
        assert.ok(tries < 200, String(error));
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    const [client, ...options] = programLine("chat_client", task);
    const { stdout } = await run(client!, options);
    const flows = new Flows();
    for (const line of stdout.trimEnd().split("\n")) flows.take(JSON.parse(line));
    assert.deepEqual([flows.ended, flows.problem()], [3, undefined]);
    assert.equal(flows.progress.bytes, 3 * 4 * MESSAGE_SIZE);
  } finally {
    server.kill("SIGTERM");
    await server.status;
  }
});

Deno.test("lab programs: a chat server that got or sent something else", async () => {
  const answer =
    (content: (port: number) => Uint8Array, receipt: string) =>
    async (conn: Deno.TcpConn): Promise<void> => {
      await conn.write(content(conn.remoteAddr.port));
      const buffer = new Uint8Array(4096);
      while (await conn.read(buffer) !== null) {
        // What the client sends is of no interest to this server.
      }
      await conn.write(new TextEncoder().encode(receipt));
    };
  const right = (port: number) => messages(port * FLOW_MESSAGES, 4 * MESSAGE_SIZE);
  const cases: [RegExp, Parameters<typeof answer>][] = [
    [/content at the server differs/, [right, `${"0".repeat(64)}\n`]],
    [/content at the server differs/, [right, ""]],
    [/content from the server differs/, [() => right(1), `${"0".repeat(64)}\n`]],
    [/64 bytes from the server are missing/, [
      (port) => right(port).subarray(0, 3 * MESSAGE_SIZE),
      "",
    ]],
  ];
  for (const [problem, parts] of cases) {
    const flows = await against(answer(...parts), "chat_client", conversation);
    assert.equal(flows.failures, 3);
    assert.match(flows.problem()!, problem);
  }
});

Deno.test("lab programs: connections whose documents are right, wrong, short, refused, cut", async () => {
  const size = 150;
  const web = async (conn: Deno.TcpConn): Promise<void> => {
    const buffer = new Uint8Array(4096);
    const got = await conn.read(buffer);
    const request = new TextDecoder().decode(buffer.subarray(0, got ?? 0));
    const flow = Number(/^GET \/([0-9]+) HTTP\/1\.1\r\n/.exec(request)![1]);
    const text = new TextEncoder();
    const head = text.encode("HTTP/1.1 200 OK\r\nServer: test\r\n\r\n");
    const body = messages(flow * FLOW_MESSAGES, size);
    switch (flow) {
      case 0:
        // Byte by byte, also within the head's end.
        for (const byte of [...head, ...body]) await conn.write(Uint8Array.of(byte));
        break;
      case 1:
        await conn.write(Uint8Array.from([...head, ...messages(7, size)]));
        break;
      case 2:
        await conn.write(Uint8Array.from([...head, ...body.subarray(1)]));
        break;
      case 3:
        await conn.write(text.encode("HTTP/1.1 404 Not Found\r\n\r\n"));
        break;
      case 4:
        await conn.write(head.subarray(0, 9));
        break;
      default:
        await conn.write(Uint8Array.from([...head, ...body]));
    }
  };
  const flows = await against(web, "web_client", { connections: 7, documents: 6, rate: 200, size });
  assert.deepEqual([flows.ended, flows.failures], [7, 4]);
  assert.match(flows.problem()!, /^4 of 7 flows failed, flow [1-4]: /);
});
