import assert from "node:assert/strict";
import { join } from "node:path";
import { nowMicros } from "../../lib/clock.ts";
import { readPidFile } from "../../lib/guard/processes.ts";
import { State } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import {
  assertOpen,
  ended,
  type GuardStage,
  guardTest,
  kill,
  SCHED_RR,
  service,
  threadPolicies,
} from "./guard_stage.ts";

/** Flags for several services. */
function services(...ports: number[]): string[] {
  return ports.flatMap((port) =>
    [4, 6].flatMap((family) => [
      "--service",
      service(port, family as 4 | 6),
    ])
  );
}

guardTest(
  "guard: clients of a killed server hear nothing, whatever the server was doing",
  async (stage) => {
    const server = await stage.serve(8001);
    const older = await stage.client(8001, "hold", "held");
    const guard = await stage.guard(...services(8001), "--release", "60");
    const idle = await stage.client(8001, "hold", "held");
    const idle6 = await stage.client(8001, "hold", "held", 6);
    const unread = await stage.client(8001, "hold", "held");
    await unread.send("nobody reads this");
    const bulk = await stage.client(8001, "bulk");
    // Nor do we read: the queue is full, and the FIN stands behind it.
    await bulk.receive(100_000);
    const half = await stage.client(8001, "shut bye", "bye");
    await half.enters(State.CLOSE_WAIT);

    const before = nowMicros();
    kill(server.main);
    const failed = await guard.next("failed");
    const [evidence] = failed.evidence as Record<string, unknown>[];
    assert.deepEqual(
      [failed.target, failed.level, failed.cause, evidence?.pid, evidence?.ended],
      ["primary", "application", "unplanned", server.main, "signal 9"],
    );
    assert.ok(Date.parse(failed.last_seen as string) * 1000 >= before - 1000, "when it died");
    if ((await guard.next("started")).realtime) {
      const own = new Set(threadPolicies(guard.pid));
      assert.deepEqual(own, new Set([SCHED_RR]), "whoever waits or writes runs first, too");
    }
    const exit = await guard.next("process.exit");
    assert.deepEqual([exit.pid, exit.name, exit.main, exit.crashed], [
      server.main,
      "python3",
      false,
      true,
    ]);

    // What the clients send before their sockets are closed is unread data, which the kernel answers with no FIN.
    await stage.counts("held", 6);
    // What they send now has no socket there: each would get a reset.
    const clients = { older, idle, idle6, unread, half };
    for (const client of Object.values(clients)) await client.send("are you there?");
    await stage.counts("hidden_rst", Object.keys(clients).length);
    await stage.counts("hidden_fin", 1, () => {
      while (bulk.tryReceive(1 << 20) !== undefined);
    });
    for (const [name, client] of Object.entries({ ...clients, bulk })) {
      if (client !== half) assertOpen(client, name);
    }
    assert.deepEqual([half.state, half.error], [State.CLOSE_WAIT, 0]);
    const stats = await stage.stats();
    assert.equal(stats["held"], 6);
    assert.equal(stats["guarded_older"], 2, "a connection and the listener");
    assert.equal(stats["older_refused"], 0);

    // No listener is left, which a client that comes now must not hear either.
    const late = stage.connecting(8001);
    await stage.counts("hidden_unknown", 1);
    assert.deepEqual([late.state, late.error], [State.SYN_SENT, 0]);
    const flows = (await stage.ask("flows")).map(({ flow }) => flow as Record<string, unknown>);
    assert.equal(flows.length, 6);
    assert.ok(flows.every(({ pid }) => pid === server.main));
  },
);

guardTest("guard: connections that nobody has accepted are hidden, too", async (stage) => {
  const server = await stage.serve(8002, ["--no-accept"]);
  const guard = await stage.guard(...services(8002), "--release", "60");
  const clients = [4, 6, 4, 4, 4].map((family) => stage.connecting(8002, family as 4 | 6));
  await clients[0]!.connected();
  await clients[1]!.connected();
  await clients[0]!.send("waiting");
  kill(server.main);
  await guard.next("failed");
  await clients[0]!.send("still waiting");
  await stage.counts("hidden_rst", 2);
  assertOpen(clients[0]!, "with data");
  assertOpen(clients[1]!, "without");
  for (const client of clients) assert.equal(client.error, 0);
});

guardTest("guard: what a server closes by its own will passes", async (stage) => {
  const server = await stage.serve(8003);
  const stopped = await stage.serve(8004);
  const bad = await stage.serve(8005);
  const guard = await stage.guard(
    ...[...services(8003, 8004, 8005), "--pid", `${server.main}`, "--pid", `${stopped.main}`],
    ...["--release", "60"],
  );
  const said = await stage.client(8003, "say goodbye", "goodbye");
  await ended(said);
  const open = await stage.client(8003, "hold", "held");
  const order = await stage.client(8003, "exit 0");
  await Promise.all([ended(open), ended(order)]);
  const first = await guard.next("process.exit");
  assert.deepEqual([first.pid, first.ended, first.main, first.crashed], [
    ...[server.main, "status 0", true, false],
  ]);

  const waiting = await stage.client(8004, "hold", "held");
  Deno.kill(stopped.main, "SIGTERM");
  await ended(waiting);
  const { orderly, held } = await stage.stats();
  assert.deepEqual([orderly, held], [3, 0]);
  assert.ok(!guard.events.some(({ type }) => type === "failed"));

  const client = await stage.client(8005, "hold", "held");
  await stage.client(8005, "exit 3");
  const failed = await guard.next("failed");
  assert.equal((failed.evidence as Record<string, unknown>[])[0]?.ended, "status 3");
  await client.send("are you there?");
  await stage.counts("hidden_rst", 1);
  assertOpen(client, "of a server that ended with status 3");
  assert.ok(bad.pids.length > 0);
});

guardTest("guard: flows are reset where no takeover follows", async (stage) => {
  const server = await stage.serve(8006);
  const guard = await stage.guard(...services(8006), "--release", "0.6");
  const idle = await stage.client(8006, "hold", "held");
  const idle6 = await stage.client(8006, "hold", "held", 6);
  const before = performance.now();
  kill(server.main);
  assert.equal(await idle.fails(), "ECONNRESET");
  assert.equal(await idle6.fails(), "ECONNRESET");
  assert.ok(performance.now() - before > 500, "not before the bound");
  await stage.counts("reset", 2);
  // The answer to its first SYN may be hidden still.
  await assert.rejects(stage.connecting(8006).connected(), /ECONNREFUSED/);
  assert.ok(!guard.events.some(({ type }) => type === "recovered"), "nobody listens");
  const again = await stage.serve(8006);
  await guard.next("recovered");
  assert.equal((await guard.end("SIGTERM")).code, 0);

  const patient = await stage.guard(...services(8006), "--release", "60");
  const last = await stage.client(8006, "hold", "held");
  kill(again.main);
  await patient.next("failed");
  // A guard that is to end lets go first.
  assert.equal((await patient.end("SIGTERM")).code, 0);
  assert.equal(await last.fails(), "ECONNRESET");
  assert.ok(patient.events.some(({ type, counter }) => type === "warning" && counter === "held"));
});

/** Answers ARP probes for 10.99.0.1, as a backup does that has taken over. */
const CLAIMANT = `
import os, socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x806))
s.bind(("link0", 0x806))
own = s.getsockname()[4]
address = socket.inet_aton("10.99.0.1")
os.write(1, b"ready")
while True:
    f = s.recv(2048)
    if f[20:22] == b"\\0\\1" and f[28:32] == bytes(4) and f[38:42] == address:
        s.send(f[6:12] + own + f[12:20] + b"\\0\\2" + own + address + f[22:28] + f[28:32])
`;

guardTest("guard: flows stay hidden once another host has the address", async (stage) => {
  const server = await stage.serve(8007);
  const guard = await stage.guard("--service", service(8007), "--release", "3");
  const client = await stage.client(8007, "hold", "held");
  const quiet = await stage.client(8007, "hold", "held");
  const claimant = stage.spawn(["python3", "-c", CLAIMANT], "b").stdout.getReader();
  await claimant.read();
  await claimant.cancel();
  kill(server.main);
  const age = async (): Promise<number> => {
    const [line] = await stage.ask("flows");
    return (line?.flow as Record<string, number> | undefined)?.["held_ms"] ?? 0;
  };
  await poll("a flow that is held beyond the bound", async () => await age() > 4000)
    .catch(async ({ message }) =>
      assert.fail(`${message}: ${JSON.stringify(await stage.stats())}`)
    );
  await client.send("are you there?");
  await stage.counts("hidden_rst", 1);
  assertOpen(client, "of the other host");
  const { reset, expired, claims } = await stage.stats();
  assert.deepEqual([reset, expired], [0, 0]);
  assert.ok(claims! >= 1);

  // Nothing hides what a socket would send after the end: none is left.
  const sockets = (): Promise<string> =>
    stage.hosts.output("a", "ss", "-Htan", "sport", "=", ":8007");
  assert.match(await sockets(), /^FIN-WAIT-1/);
  assert.equal((await guard.end("SIGTERM")).code, 0);
  assert.equal(await sockets(), "");
  assertOpen(quiet, "after the guard's end");
});

guardTest("guard: a worker's connections are let go, a whole server's are not", async (stage) => {
  const server = await stage.serve(8008, ["--workers", "2"]);
  const guard = await stage.guard(
    ...services(8008),
    ...["--pid", `${server.main}`, "--on-worker", "release", "--release", "60"],
  );
  const clients = new Map<number, Awaited<ReturnType<GuardStage["client"]>>>();
  await poll("connections to both workers", async () => {
    const client = await stage.client(8008, "pid");
    clients.set(
      Number(new TextDecoder().decode(await client.receive(String(server.pids[0]).length))),
      client,
    );
    return clients.size === 2;
  });
  const [victim, other] = server.pids as [number, number];
  kill(victim);
  assert.equal(await clients.get(victim)!.fails(), "ECONNRESET");
  const exit = await guard.next("process.exit");
  assert.deepEqual([exit.pid, exit.main, exit.crashed], [victim, false, true]);
  assertOpen(clients.get(other)!, "of the other worker");
  assert.ok(!guard.events.some(({ type }) => type === "failed"));

  kill(other);
  kill(server.main);
  await guard.next("failed");
  const survivor = clients.get(other)!;
  await survivor.send("are you there?");
  await stage.counts("hidden_rst", 1);
  assertOpen(survivor, "of a server that is dead as a whole");
});

guardTest("guard: what a killed guard leaves lets go by itself, and is adopted", async (stage) => {
  const server = await stage.serve(8009);
  const flags = ["--service", service(8009), "--release", "0.5"];
  const first = await stage.guard(...flags);
  const client = await stage.client(8009, "hold", "held");
  await first.end("SIGKILL");
  const before = performance.now();
  kill(server.main);
  await ended(client);
  assert.ok(performance.now() - before > 900, "hidden at first");

  const second = await stage.guard(...flags);
  assert.equal((await second.next("started")).adopted, true);
  assert.match(await stage.filters(), /guard_egress/);
  assert.equal((await stage.stats())["held"], 1);
  const { code } = await second.end("SIGTERM");
  assert.equal(code, 0);
  assert.equal(await stage.filters(), "");
  const left = [...Deno.readDirSync(stage.directory)].map(({ name }) => name);
  assert.deepEqual(left, ["guard.lock"]);
});

guardTest("guard: a control group bounds whose connections are guarded", async (stage) => {
  const mount = join(stage.directory, "groups");
  await Deno.mkdir(mount);
  const root = async (...argv: string[]): Promise<void> => {
    const { success } = await new Deno.Command(argv[0]!, { args: argv.slice(1) }).output();
    assert.ok(success, argv.join(" "));
  };
  await root("mount", "-t", "cgroup2", "cgroup2", mount);
  const group = join(mount, `t2cp-test-${Deno.pid}`);
  try {
    await Deno.mkdir(group);
    const inside = await stage.serve(8010, [], group);
    const outside = await stage.serve(8011);
    const guard = await stage.guard(...services(8010, 8011), "--cgroup", group);
    const lost = await stage.client(8011, "hold", "held");
    const kept = await stage.client(8010, "hold", "held");
    kill(outside.main);
    await ended(lost);
    kill(inside.main);
    await guard.next("failed");
    await kept.send("are you there?");
    await stage.counts("hidden_rst", 1);
    assertOpen(kept, "in the group");
    await guard.end("SIGKILL");
    await inside.status;
  } finally {
    await Deno.remove(group).catch(() => {});
    await root("umount", mount);
  }
});

guardTest("guard: refuses processes and control groups that are not there", async (stage) => {
  const flags = ["--service", service(8012)];
  const cases: [args: string[], message: RegExp][] = [
    [["--pid", "4194304"], /There is no process 4194304; start the service first/],
    [["--pidfile", join(stage.directory, "none.pid")], /holds no process number/],
    [["--cgroup", stage.directory], /is no control group of version 2/],
  ];
  for (const [args, message] of cases) {
    const process = stage.start(...flags, ...args);
    assert.equal((await process.status).code, 66);
    await process.end("SIGTERM");
    assert.match(process.stderr, message);
    assert.equal(await stage.filters(), "");
  }
});

const NGINX = "/usr/sbin/nginx";

/** Starts nginx with two workers on the stage's server host, and returns its master's number. */
async function startNginx(
  stage: GuardStage,
  port: number,
): Promise<{ main: number; pidFile: string }> {
  const at = (name: string): string => join(stage.directory, name);
  const pidFile = at("nginx.pid");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${at(name)};`);
  await Deno.writeTextFile(
    at("nginx.conf"),
    `daemon off; user root; worker_processes 2; pid ${pidFile}; error_log ${at("error.log")};
    events {} http { access_log off; sendfile on; ${temporary.join(" ")}
    server { listen ${service(port)}; root ${stage.directory}; } }`,
  );
  await Deno.writeTextFile(at("small"), "small");
  await Deno.writeTextFile(at("large"), "");
  await Deno.truncate(at("large"), 1 << 28);
  const child = stage.spawn([NGINX, "-c", at("nginx.conf"), "-e", at("error.log")]);
  await child.stdout.cancel();
  const { pid } = child;
  await poll(
    "nginx",
    async () => (await stage.hosts.output("a", "ss", "-Hltn")).includes(`:${port}`),
  );
  await poll("its pid file", () => readPidFile(pidFile) === pid);
  return { main: pid, pidFile };
}

const request = (path: string): string => `GET /${path} HTTP/1.1\r\nHost: x\r\n\r`;

guardTest("guard: nginx killed as a whole, and stopped in order", async (stage) => {
  const { main, pidFile } = await startNginx(stage, 8013);
  const guard = await stage.guard("--service", service(8013), "--pidfile", pidFile);
  const large = await stage.client(8013, request("large"));
  await large.receive(1 << 20);
  const idle = await stage.client(8013, request("small"));
  // A request that nobody has read would end in a reset, and no FIN.
  await idle.receive(100);
  const workers = (await Deno.readTextFile(`/proc/${main}/task/${main}/children`)).trim();
  for (const pid of [main, ...workers.split(" ").map(Number)]) kill(pid);
  const failed = await guard.next("failed");
  assert.equal((failed.evidence as Record<string, unknown>[])[0]?.name, "nginx");
  // The workers may outlive the main process by a moment.
  await stage.counts("held", 2);
  await idle.send("\n");
  await stage.counts("hidden_rst", 1);
  // The rest of what was on its way, as long as it comes; then nothing.
  await stage.counts("hidden_fin", 1, () => {
    while (large.tryReceive(1 << 20) !== undefined);
  });
  assertOpen(large, "a download");
  assertOpen(idle, "kept alive");
  await guard.end("SIGKILL");

  for (const [port, signal] of [[8014, "SIGTERM"], [8015, "SIGQUIT"]] as const) {
    await Deno.remove(pidFile).catch(() => {});
    const again = await startNginx(stage, port);
    const flags = ["--service", service(port), "--pidfile", pidFile, "--release", "0.1"];
    const second = await stage.guard(...flags);
    const kept = await stage.client(port, request("small"));
    // A request that nobody has read would be answered by a reset.
    await kept.receive(100);
    Deno.kill(again.main, signal);
    await ended(kept);
    // It tells, too, what the guard that was killed before it has not told yet.
    const exit = await poll(
      "its exit",
      () => second.events.find(({ type, pid }) => type === "process.exit" && pid === again.main),
    );
    assert.deepEqual([exit.main, exit.crashed], [true, false]);
    await second.end("SIGTERM");
    assert.ok(!second.events.some(({ type }) => type === "failed"), signal);
  }
});
