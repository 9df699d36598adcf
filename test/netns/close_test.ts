import assert from "node:assert/strict";
import { poll } from "../fixture/wait.ts";
import type { Connection } from "./connection.ts";
import { assertSameBytes, ECHO, onStage, SERVICE_ADDRESS, type Stage, WEB } from "./stage.ts";
import type { Process } from "./two_hosts.ts";

/** The port of a server that resets the connection when it has read a request. */
const RESETTER = 9;
/** The port of a server that answers one line, closes, and resets the connection half a second later. */
const ABORTER = 10;
/** The port of a server that answers at length, once the client has ended its sending. */
const PATIENT = 11;
const ANSWER = Array.from({ length: 40_000 }, (_, index) => `${index + 1}\n`).join("");

async function servers(stage: Stage): Promise<void> {
  await stage.webServers(2 << 20);
  await stage.echoServers();
  const listen = (port: number, options: string) =>
    `TCP4-LISTEN:${port},bind=${SERVICE_ADDRESS},reuseaddr,fork${options}`;
  for (const role of ["primary", "backup"] as const) {
    await resetter(stage, role);
    const answer = "SYSTEM:read line; echo $line";
    await stage.socat(role, ABORTER, listen(ABORTER, ",linger=0"), answer);
    await stage.socat(role, PATIENT, listen(PATIENT, ""), "SYSTEM:cat >/dev/null; seq 1 40000");
  }
}

const services = [
  WEB,
  ECHO,
  ...[RESETTER, ABORTER, PATIENT].map((port) => `${SERVICE_ADDRESS}:${port}`),
];

/** Starts an nginx that answers each request with a reset. */
async function resetter(stage: Stage, role: "primary" | "backup"): Promise<void> {
  const directory = `${stage.scratch}/resetter-${role}`;
  await Deno.mkdir(directory);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory}/${name};`);
  await Deno.writeTextFile(
    `${directory}/nginx.conf`,
    `daemon off; pid ${directory}/pid; error_log stderr; events {}
    http {
      access_log off; ${temporary.join(" ")} reset_timedout_connection on;
      server { listen ${SERVICE_ADDRESS}:${RESETTER}; return 444; }
    }`,
  );
  const argv = ["nginx", "-p", directory, "-c", `${directory}/nginx.conf`, "-e", "stderr"];
  await stage.server(role, RESETTER, argv);
}

/** Nothing of the flow is left on the backup, and its end was reported for that reason. */
async function assertGone(
  stage: Stage,
  shadow: Process,
  connection: Connection,
  what: string,
  reason: RegExp,
): Promise<void> {
  const client = `10.77.1.2:${connection.port}`;
  const sockets = () => stage.output("backup", "ss", "-Htan", "dst", client);
  await poll(`the end of the replica's socket: ${what}`, async () => await sockets() === "")
    .catch(async (error) => assert.fail(`${error.message}: ${await sockets()}`));
  await poll(
    `the end of the flow: ${what}`,
    async () => (await stage.flows()).every((flow) => flow.client !== client),
  );
  const close = await poll(
    `an event of its end: ${what}`,
    () => shadow.events.findLast((event) => event.type === "flow.close" && event.client === client),
  );
  assert.match(String(close.reason), reason, what);
}

/** The client has been reset: of a connection that ended otherwise its kernel keeps the socket. */
async function assertReset(stage: Stage, { port }: Connection): Promise<void> {
  const sockets = () => stage.output("client", "ss", "-Htan", "sport", "=", `:${port}`);
  await poll("a reset", async () => await sockets() === "");
}

/** Ways to open and end a connection, and the reason that the backup shall give. */
const endings: [what: string, reason: RegExp, run: (stage: Stage) => Promise<Connection>][] = [
  ["the client closes", /both sides closed/, async (stage) => {
    const connection = stage.connect(7);
    assert.equal(await connection.echo("hello"), "hello");
    await connection.end();
    return connection;
  }],
  ["the client closes without a word", /both sides closed/, async (stage) => {
    const connection = stage.connect(7);
    await connection.end();
    return connection;
  }],
  ["the server closes after a download", /both sides closed/, async (stage) => {
    const connection = await stage.download();
    assertSameBytes(await connection.read(stage.content.length), stage.content);
    await poll("the server's FIN", async () => {
      const states = await stage.sockets("primary", 80);
      return states.some((line) => /^FIN-WAIT-2/.test(line));
    });
    await connection.end();
    return connection;
  }],
  ["the client goes away from an idle connection", /both sides closed/, async (stage) => {
    const connection = stage.connect(80);
    await connection.write("HEAD /content HTTP/1.1\r\nHost: x\r\n\r\n");
    await connection.readTo("\r\n\r\n");
    await connection.kill();
    return connection;
  }],
  ["the client ends its sending before the server begins", /both sides closed/, async (stage) => {
    const connection = stage.connect(PATIENT);
    await connection.write("x".repeat(100_000));
    const answer = new TextDecoder().decode(await connection.end());
    assert.ok(answer === ANSWER, "the whole answer");
    return connection;
  }],
  ["the client resets", /reset by the client/, async (stage) => {
    const connection = stage.connect(7, "nodelay,linger=0");
    assert.equal(await connection.echo("hello"), "hello");
    await connection.kill();
    return connection;
  }],
  ["the client resets in the middle of a download", /reset by the client/, async (stage) => {
    const connection = stage.connect(80, "nodelay,linger=0");
    await connection.write("GET /content HTTP/1.1\r\nHost: x\r\n\r\n");
    await connection.read(500_000);
    await connection.kill();
    return connection;
  }],
  ["the server resets", /reset by the primary/, async (stage) => {
    const connection = stage.connect(RESETTER);
    await connection.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await assertReset(stage, connection);
    return connection;
  }],
  // The replica's server does the same, and may be the first.
  [
    "the server closes, and then resets",
    /reset by the primary|both sides closed/,
    async (stage) => {
      const connection = stage.connect(ABORTER);
      assert.equal(await connection.echo("hello"), "hello");
      return connection;
    },
  ],
];

onStage(
  "close: however a connection ends, no socket and no entry of it is left on the backup",
  async (stage) => {
    await servers(stage);
    const { shadow } = await stage.protect(...services);
    const wire = await stage.capture("backup");
    for (const [what, reason, run] of endings) {
      const connection = await run(stage);
      await assertGone(stage, shadow, connection, what, reason);
    }
    const stats = await stage.stats();
    assert.equal(stats.flows_opened, endings.length);
    assert.equal(stats.flows_closed, endings.length);
    assert.equal(stats.flows, 0);
    await stage.assertSilent(wire);
  },
);

onStage(
  "close: the same port of the client can be used again at once, and is replicated again",
  async (stage) => {
    await servers(stage);
    const { shadow } = await stage.protect(...services);
    const port = 41_000;
    for (let round = 0; round < 3; round++) {
      const connection = stage.connect(RESETTER, "reuseaddr", port);
      await connection.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      await assertReset(stage, connection);
      await assertGone(stage, shadow, connection, `round ${round}`, /reset by the primary/);
    }
    // The server closes first: its TIME-WAIT is on the primary, and none on the backup.
    for (let round = 0; round < 2; round++) {
      const connection = stage.connect(80, "reuseaddr", port);
      await connection.write("GET /content HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      await connection.readTo("\r\n\r\n");
      assertSameBytes(await connection.read(stage.content.length), stage.content);
      await poll("the server's FIN", async () => {
        const states = await stage.sockets("primary", 80);
        return states.some((line) => /^FIN-WAIT-2/.test(line));
      });
      await connection.end();
      await assertGone(stage, shadow, connection, `download ${round}`, /both sides closed/);
    }
    const survivor = stage.connect(7, "reuseaddr,nodelay", port);
    assert.equal(await survivor.echo("before"), "before");
    await stage.failOver();
    assert.equal(await survivor.echo("after"), "after");
  },
);

onStage(
  "close: a client that went away unheard and comes back on its old port is replicated anew",
  async (stage) => {
    await stage.echoServers();
    const { shadow } = await stage.protect(ECHO);
    const port = 41_000;
    const old = stage.connect(7, "nodelay,linger=0", port);
    assert.equal(await old.echo("old"), "old");
    // Its end is lost: as when the client's host loses power.
    const drop = `tcp sport ${port} drop`;
    await stage.output(
      "client",
      ...[
        "nft",
        `add table ip t; add chain ip t o { type filter hook output priority 0; }; ` +
        `add rule ip t o ${drop}`,
      ],
    );
    await old.kill();
    await stage.output("client", "nft", "delete table ip t");
    const again = stage.connect(7, "nodelay,reuseaddr", port);
    assert.equal(await again.echo("new"), "new");
    await poll(
      "the end of the old flow",
      () => shadow.events.some(({ type }) => type === "flow.close"),
    );
    await poll("one flow", async () => (await stage.flows()).length === 1);
    await poll("one socket", async () => (await stage.sockets("backup", 7)).length === 1);
    await stage.failOver();
    assert.equal(await again.echo("taken over"), "taken over");
  },
);

onStage(
  "close: a connection that the primary refuses leaves nothing on the backup",
  async (stage) => {
    await stage.socat("backup", 7, `TCP4-LISTEN:7,bind=${SERVICE_ADDRESS},fork`, "PIPE");
    await stage.protect(ECHO);
    const wire = await stage.capture("backup");
    const connection = stage.connect(7);
    assert.notEqual(await connection.over(), 0, "it is refused");
    await stage.assertSilent(wire);
    assert.deepEqual(await stage.flows(), []);
    assert.deepEqual(await stage.sockets("backup", 7), []);
  },
);

onStage("close: a replica that resets as the primary does is not reported", async (stage) => {
  await servers(stage);
  const { shadow } = await stage.protect(...services);
  for (let round = 0; round < 12; round++) {
    const connection = stage.connect(RESETTER);
    await connection.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await assertReset(stage, connection);
    await assertGone(stage, shadow, connection, `round ${round}`, /reset by the primary/);
  }
  // What waits is judged at the end.
  await shadow.end("SIGTERM");
  assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
});
