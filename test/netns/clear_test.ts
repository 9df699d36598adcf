import assert from "node:assert/strict";
import type { Outcome } from "../cli/t2cp.ts";
import { PATIENCE } from "../fixture/wait.ts";
import { assertRefused, assertSameBytes, ECHO, onStage, type Stage, WEB } from "./stage.ts";

const clear = (stage: Stage, ...more: string[]) =>
  stage.t2cp("backup", "shadow", "--clear", "--run-dir", stage.runDir, ...more);

/** Clears, or is refused for another reason, once what was under way has arrived. */
async function clearWhenQuiet(stage: Stage, ...more: string[]): Promise<Outcome> {
  const end = performance.now() + PATIENCE;
  while (true) {
    const outcome = await clear(stage, ...more);
    if (outcome.status !== 75 || performance.now() > end) return outcome;
  }
}

onStage(
  "clear: the replica's sockets go without a packet on the wire, then programs, pins and mount",
  async (stage) => {
    await stage.webServers(16 << 20);
    await stage.echoServers();
    const { shadow, mirror } = await stage.protect(WEB, ECHO);
    const wire = await stage.capture("backup");
    const download = await stage.download();
    const first = await download.read(2 << 20);
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    assert.equal((await stage.sockets("backup", 80)).length, 1);
    assert.equal((await stage.sockets("backup", 7)).length, 1);

    // As an admin does it: first nothing more is copied, then the replica goes.
    await mirror.end("SIGTERM");
    await shadow.end("SIGTERM");
    const outcome = await clearWhenQuiet(stage, "--force");
    assert.deepEqual([outcome.status, outcome.stdout], [0, ""]);
    assert.equal(
      outcome.stderr,
      "t2cp shadow: the replica's connections and the programs are removed\n",
    );
    for (const port of [80, 7]) assert.deepEqual(await stage.sockets("backup", port), []);
    await stage.assertNothingAttached("backup");
    const left = [...Deno.readDirSync(stage.runDir)].map((entry) => entry.name);
    assert.deepEqual(left.filter((name) => name !== "shadow.lock"), []);

    // The clients and the primary have noticed nothing.
    assert.equal(await echo.echo("after"), "after");
    const rest = stage.content.subarray(first.length);
    assertSameBytes(await download.read(rest.length), rest);
    await stage.assertSilent(wire);

    const again = await clear(stage);
    assert.deepEqual(again, {
      status: 0,
      stdout: "",
      stderr: `t2cp shadow: nothing to clear in run directory "${stage.runDir}"\n`,
    });
    // And the way back to shadow mode is open.
    const next = await stage.shadow("--service", WEB, "--service", ECHO);
    assert.equal(next.events[0]?.adopted, false);
  },
);

onStage(
  "clear: refused while the host would answer ARP for the service's address",
  async (stage) => {
    await stage.webServers(0);
    const { shadow } = await stage.protect(WEB);
    await shadow.end("SIGTERM");
    await stage.sysctl(
      "backup",
      "net.ipv4.conf.all.arp_ignore=0",
      "net.ipv4.conf.all.arp_announce=0",
    );
    const filters = await stage.filters("backup", "eth0");
    assertRefused(
      await clear(stage),
      69,
      /^t2cp shadow: Without t2cp's programs this host would answer ARP for "10\.77\.0\.100"; .*arp_ignore=1/,
    );
    assert.equal(await stage.filters("backup", "eth0"), filters, "the programs stay");
    const adopted = await stage.shadow();
    assert.equal(adopted.events[0]?.adopted, true);
    await adopted.end("SIGTERM");
    await stage.output("backup", "ip", "address", "delete", "10.77.0.100/32", "dev", "lo");
    assert.equal(
      (await clear(stage)).status,
      0,
      "without the address there is nothing to answer for",
    );
    await stage.assertNothingAttached("backup");
  },
);

onStage("clear: refused while a shadow runs, which goes on", async (stage) => {
  await stage.echoServers();
  await stage.protect(ECHO);
  const echo = stage.connect(7);
  assert.equal(await echo.echo("before"), "before");
  assertRefused(
    await clear(stage),
    75,
    /^t2cp shadow: Another "t2cp shadow" \(process \d+\) uses /,
  );
  assert.equal((await stage.flows()).length, 1);
  await stage.failOver();
  assert.equal(await echo.echo("after"), "after");
});

onStage(
  "clear: refused while copied traffic still arrives, and nobody hears of it",
  async (stage) => {
    await stage.echoServers();
    const { shadow, mirror } = await stage.protect(ECHO);
    const wire = await stage.capture("backup");
    const echo = stage.connect(7);
    await shadow.end("SIGTERM");
    let outcome: Outcome | undefined;
    const clearing = clear(stage).then((result) => outcome = result);
    for (let i = 0; outcome === undefined; i++) assert.equal(await echo.echo(`${i}`), `${i}`);
    await clearing;
    assertRefused(outcome, 75, /^t2cp shadow: Copied traffic still arrives .*; stop t2cp mirror/);
    assert.match(await stage.filters("backup", "eth0"), /shadow_ingress[^]*shadow_egress/);
    assert.equal(await echo.echo("after"), "after");
    await stage.assertSilent(wire);
    await mirror.end("SIGTERM");
    assert.equal((await clearWhenQuiet(stage, "--force")).status, 0);
    assert.equal(await echo.echo("cleared"), "cleared");
    await stage.assertSilent(wire);
  },
);

onStage(
  "clear: while connections are open, the admin must say that the mirror has stopped",
  async (stage) => {
    await stage.echoServers();
    const { shadow, mirror } = await stage.protect(ECHO);
    const wire = await stage.capture("backup");
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    await shadow.end("SIGTERM");
    assertRefused(
      await clearWhenQuiet(stage),
      69,
      /^t2cp shadow: A connection is open .* is open; stop t2cp mirror .* --clear --force$/m,
    );
    assert.equal(await echo.echo("after"), "after");
    await stage.assertSilent(wire);
    assertRefused(await stage.t2cp("backup", "shadow", "--force"), 64, /"--force" needs "--clear"/);
    // Without the address nothing can answer, whatever the mirror copies.
    await stage.output("backup", "ip", "address", "delete", "10.77.0.100/32", "dev", "lo");
    assert.equal((await clearWhenQuiet(stage)).status, 0);
    assert.equal(await echo.echo("at last"), "at last");
    await stage.assertSilent(wire);
    await mirror.end("SIGTERM");
  },
);

onStage("clear: a host that has taken over keeps its connections", async (stage) => {
  await stage.echoServers();
  const { shadow } = await stage.protect(ECHO);
  const echo = stage.connect(7);
  assert.equal(await echo.echo("before"), "before");
  await stage.failOver();
  assert.equal(await echo.echo("taken over"), "taken over");
  await shadow.end("SIGTERM");
  const outcome = await clear(stage);
  assert.deepEqual([outcome.status, outcome.stdout], [0, ""]);
  assert.match(
    outcome.stderr,
    /^t2cp shadow: programs removed; the service's connections go on.*\n$/,
  );
  await stage.assertNothingAttached("backup");
  assert.equal(await echo.echo("cleared"), "cleared");
});

onStage("clear: where nothing is there it says so, also without a run directory", async (stage) => {
  for (const runDir of [stage.runDir, `${stage.runDir}/none`]) {
    const outcome = await stage.t2cp("backup", "shadow", "--clear", "--run-dir", runDir);
    assert.deepEqual(outcome, {
      status: 0,
      stdout: "",
      stderr: `t2cp shadow: nothing to clear in run directory "${runDir}"\n`,
    });
  }
});

onStage("clear: an interface that is gone leaves pins, which are removed", async (stage) => {
  await stage.webServers(0, ["backup"]);
  await stage.output("backup", "ip", "link", "add", "spare0", "type", "veth");
  const shadow = await stage.shadow("--interface", "spare0");
  await shadow.end("SIGTERM");
  await stage.output("backup", "ip", "link", "delete", "spare0");
  const outcome = await clearWhenQuiet(stage, "--force");
  assert.equal(outcome.status, 0, outcome.stderr);
  stage.assertNothingPinned(stage.runDir);
});
