import assert from "node:assert/strict";
import { join } from "node:path";
import { guardTest, kill, policies, SCHED_OTHER, service } from "./guard_stage.ts";

const PORT = 8016;

guardTest("guard: the main process of a unit, and the one that takes its place", async (stage) => {
  const at = (name: string): string => join(stage.directory, name);
  // Stands in for systemd's, which prints 0 for a unit that has none or does not exist.
  const systemctl = `#!/bin/sh
cat /proc/$$/stat >>${at("asked")}
[ "$*" = "show --property=MainPID --value -- web.service" ] || exit 1
cat ${at("main")}
`;
  await Deno.mkdir(at("bin"));
  await Deno.writeTextFile(at("bin/systemctl"), systemctl, { mode: 0o755 });
  stage.hosts.env = { PATH: `${at("bin")}:${Deno.env.get("PATH")}` };
  const flags = ["--service", service(PORT), "--unit", "web.service", "--release", "0.2"];

  await Deno.writeTextFile(at("main"), "0\n");
  const early = stage.start(...flags);
  assert.equal((await early.status).code, 66);
  assert.match(early.stderr, /Unit "web.service" has no main process; start the service first/);

  const first = await stage.serve(PORT);
  await Deno.writeTextFile(at("main"), `${first.main}\n`);
  const guard = await stage.guard(...flags);
  const { pids } = await guard.next("started");
  assert.deepEqual(pids, [first.main]);
  const client = await stage.client(PORT, "hold", "held");
  await Deno.writeTextFile(at("main"), "0\n");
  kill(first.main);
  const exit = await guard.next("process.exit");
  assert.deepEqual([exit.pid, exit.main, exit.crashed], [first.main, true, true]);
  assert.ok(guard.events.some(({ type }) => type === "failed"));
  assert.equal(await client.fails(), "ECONNRESET");

  const second = await stage.serve(PORT);
  assert.ok(!guard.events.some(({ type }) => type === "recovered"), "the unit has no process");
  await Deno.writeTextFile(at("main"), `${second.main}\n`);
  const seen = guard.events.indexOf(await guard.next("recovered"));
  kill(second.main);
  const failed = await guard.next("failed", seen);
  assert.equal((failed.evidence as { pid: number }[])[0]?.pid, second.main);

  const asked = policies(await Deno.readTextFile(at("asked")));
  assert.deepEqual(new Set(asked), new Set([SCHED_OTHER]), "what it starts has no priority");
});
