import assert from "node:assert/strict";
import { join } from "node:path";
import { poll } from "../fixture/wait.ts";
import { assertSameBytes, ECHO, onStage, type Stage, WEB } from "./stage.ts";
import type { Connection } from "./connection.ts";

/** Reads the next `count` bytes of a download, of which `at` are read already, and checks them. */
async function readOn(
  stage: Stage,
  connection: Connection,
  at: number,
  count: number = stage.content.length - at,
): Promise<number> {
  const bytes = await connection.read(count);
  assertSameBytes(bytes, stage.content.subarray(at, at + count));
  return at + count;
}

const MIB = 1 << 20;

for (const signal of ["SIGTERM", "SIGKILL"] as const) {
  onStage(
    `life: after ${signal} of shadow the backup stays silent, and the next start adopts every flow`,
    async (stage) => {
      await stage.webServers(24 * MIB);
      const { shadow } = await stage.protect(WEB);
      const wire = await stage.capture("backup");
      const old = await stage.download();
      let oldAt = await readOn(stage, old, 0, 2 * MIB);

      const status = await shadow.end(signal);
      assert.equal(status.signal, signal === "SIGKILL" ? signal : null);
      if (signal === "SIGTERM") {
        assert.equal(status.code, 0);
        assert.equal(shadow.events.at(-1)?.type, "stats");
        assert.equal(shadow.stderr, "");
      }
      assert.match(await stage.filters("backup", "eth0"), /shadow_ingress[^]*shadow_egress/);

      // The flow goes on, and a new one gets its replica, while no process looks after them.
      oldAt = await readOn(stage, old, oldAt, 4 * MIB);
      const fresh = await stage.download();
      let freshAt = await readOn(stage, fresh, 0, 2 * MIB);
      await stage.assertSilent(wire);

      const again = await stage.shadow("--flows");
      const [started] = again.events;
      assert.equal(started?.adopted, true);
      assert.equal(started?.mode, "shadow");
      const clients = (await stage.flows()).map((flow) => flow.client).toSorted();
      assert.deepEqual(clients, [old, fresh].map(({ port }) => `10.77.1.2:${port}`).toSorted());

      oldAt = await readOn(stage, old, oldAt, 2 * MIB);
      freshAt = await readOn(stage, fresh, freshAt, 2 * MIB);
      await stage.assertSilent(wire);
      const active = await stage.failOver();
      assert.equal(active.flows, 2);
      assert.equal(active.flows_lost, 0);
      await readOn(stage, old, oldAt);
      await readOn(stage, fresh, freshAt);
      for (const connection of [old, fresh]) assert.equal((await connection.end()).length, 0);
    },
  );
}

onStage(
  "life: a takeover works while no shadow runs, and a later start finds the host active",
  async (stage) => {
    await stage.webServers(8 * MIB);
    await stage.echoServers();
    const { shadow } = await stage.protect(WEB, ECHO);
    const download = await stage.download();
    const at = await readOn(stage, download, 0, MIB);
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    await shadow.end("SIGKILL");
    assert.equal((await stage.failOver()).flows, 2);
    assert.equal(await echo.echo("after"), "after");

    const again = await stage.shadow("--service", WEB, "--service", ECHO);
    const [started] = again.events;
    assert.equal(started?.adopted, true);
    assert.match(String(started?.mode), /^(settling|active)$/);
    await poll(
      "a warning",
      () =>
        again.events.some(({ type, message }) =>
          type === "warning" && /has taken over/.test(String(message))
        ),
    );
    assert.equal(await echo.echo("and after"), "and after");
    await readOn(stage, download, at);
    await again.end("SIGTERM");
    assert.equal(await echo.echo("still there"), "still there");
    // New clients are served as by any server.
    const fresh = await stage.download();
    await readOn(stage, fresh, 0);
  },
);

onStage("life: shadow and mirror end in order at SIGINT", async (stage) => {
  await stage.webServers(0);
  const { shadow, mirror } = await stage.protect(WEB);
  for (const process of [shadow, mirror]) {
    assert.equal((await process.end("SIGINT")).code, 0);
    assert.deepEqual([process.events.at(-1)?.type, process.stderr], ["stats", ""]);
  }
});

onStage(
  "life: mirror detaches everything at SIGTERM, and is adopted after SIGKILL",
  async (stage) => {
    await stage.webServers(24 * MIB);
    const { mirror } = await stage.protect(WEB);
    assert.equal(mirror.events[0]?.adopted, false);
    const download = await stage.download();
    let at = await readOn(stage, download, 0, 2 * MIB);

    await mirror.end("SIGKILL");
    const copied = async (): Promise<number> => (await stage.stats()).primary_segments!;
    const before = await copied();
    at = await readOn(stage, download, at, 8 * MIB);
    assert.ok(await copied() > before, "the killed mirror goes on copying");

    const again = await stage.mirror("--flows", "--stats", "0.1");
    assert.equal(again.events[0]?.adopted, true);
    const stats = await again.next("stats");
    assert.ok(Number(stats.from_primary) > 0, "with its counters");
    at = await readOn(stage, download, at, 2 * MIB);

    assert.equal((await again.end("SIGTERM")).code, 0);
    assert.equal(again.stderr, "");
    const directory = stage.lab.roleDirectory("gateway");
    await stage.assertNothingAttached("gateway");
    const left = [...Deno.readDirSync(directory)].map((entry) => entry.name);
    assert.deepEqual(left.filter((name) => name !== "mirror.lock"), []);
    const after = await copied();
    await readOn(stage, download, at);
    assert.equal(await copied(), after, "nothing is copied any more");

    const last = await stage.mirror();
    assert.equal(last.events[0]?.adopted, false);
  },
);

onStage(
  "life: a real shadow's control socket tells its flows and counters, and activates",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const path = join(stage.runDir, "shadow.sock");
    assert.equal((await Deno.lstat(path)).mode! & 0o777, 0o600);
    assert.deepEqual(await stage.flows(), []);
    const echoes = [stage.connect(7), stage.connect(7)];
    for (const echo of echoes) assert.equal(await echo.echo("hello"), "hello");

    const flows = await stage.flows();
    const clients = echoes.map(({ port }) => `10.77.1.2:${port}`).toSorted();
    assert.deepEqual(flows.map(({ client }) => client).toSorted(), clients);
    for (const flow of flows) {
      assert.equal(flow.server, ECHO);
      assert.equal((flow.client_end - flow.irs) >>> 0, 1 + "hello\n".length);
      assert.equal((flow.primary_end - flow.iss) >>> 0, 1 + "hello\n".length);
    }
    const stats = await stage.stats();
    assert.equal(stats.mode, "shadow");
    assert.deepEqual([stats.flows, stats.flows_opened, stats.flows_closed], [2, 2, 0]);

    await stage.lab.failHost();
    const [answer] = await stage.ask("activate");
    const active = answer!.active as Record<string, unknown>;
    assert.equal(active.flows, 2);
    for (const echo of echoes) assert.equal(await echo.echo("again"), "again");
    assert.notEqual((await stage.stats()).mode, "shadow");
  },
);

onStage(
  "life: programs that somebody detaches are attached again, and a warning says so",
  async (stage) => {
    await stage.echoServers();
    const { shadow } = await stage.protect(ECHO);
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    const before = await stage.filters("backup", "eth0");
    await stage.output("backup", "tc", "qdisc", "delete", "dev", "eth0", "clsact");
    await poll("the programs", async () => await stage.filters("backup", "eth0") === before);
    await poll(
      "a warning",
      () =>
        shadow.events.some(({ type, message }) =>
          type === "warning" && /attached again/.test(String(message))
        ),
    );
    const fresh = stage.connect(7);
    assert.equal(await fresh.echo("fresh"), "fresh");
    assert.ok((await stage.flows()).some(({ client }) => client === `10.77.1.2:${fresh.port}`));
  },
);

onStage("life: a start with other services adopts the flows of those that stay", async (stage) => {
  await stage.webServers(4 * MIB);
  await stage.echoServers();
  const shadow = await stage.shadow("--service", WEB);
  const mirror = await stage.mirror("--service", WEB, "--service", ECHO);
  assert.deepEqual(mirror.events[0]?.services, [WEB, ECHO]);
  const download = await stage.download();
  const at = await readOn(stage, download, 0, MIB);
  await shadow.end("SIGTERM");
  const both = await stage.shadow("--service", WEB, "--service", ECHO);
  assert.deepEqual([both.events[0]?.adopted, both.events[0]?.services], [true, [WEB, ECHO]]);
  const echo = stage.connect(7);
  assert.equal(await echo.echo("before"), "before");
  assert.equal((await stage.flows()).length, 2);
  assert.equal((await stage.failOver()).flows, 2);
  assert.equal(await echo.echo("after"), "after");
  await readOn(stage, download, at);
});
