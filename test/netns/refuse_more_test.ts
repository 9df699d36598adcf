/**
 * What shadow and mirror refuse, beyond refuse_test.ts: hosts that are odd rather than wrong.
 */
import assert from "node:assert/strict";
import { asNobody } from "./nobody.ts";
import { assertRefused, ECHO, onStage, T2CP } from "./stage.ts";

onStage(
  "refuse: a shadow with another run directory on the same interface is refused",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const other = `${stage.lab.directory}/other`;
    assertRefused(
      await stage.t2cp("backup", ...stage.shadowArgs("--service", ECHO, "--run-dir", other)),
      69,
      /^t2cp shadow: Interface "eth0" carries the t2cp programs of another run directory or command; /,
    );
    stage.assertNothingPinned(other);
  },
);

onStage(
  "refuse: a mirror with another run directory on the same interface is refused",
  async (stage) => {
    await stage.mirror();
    const other = `${stage.lab.directory}/other`;
    assertRefused(
      await stage.t2cp("gateway", ...stage.mirrorArgs("--run-dir", other)),
      69,
      /^t2cp mirror: Interface "br0" carries the t2cp programs of another run directory or command; /,
    );
    stage.assertNothingPinned(other);
  },
);

onStage("refuse: without root no directory of pins is left", async (stage) => {
  await stage.webServers(0, ["backup"]);
  const mine = `${stage.scratch}/mine`;
  await Deno.mkdir(mine);
  await Deno.chown(mine, 65534, 65534);
  const outcome = await asNobody(stage, "backup", stage.shadowArgs("--run-dir", mine));
  assertRefused(outcome, 77, /run as root/);
  stage.assertNothingPinned(mine);
});

onStage(
  "refuse: an interface with an ingress qdisc in the place of clsact is refused",
  async (stage) => {
    await stage.webServers(0, ["backup"]);
    await stage.output("backup", "tc", "qdisc", "add", "dev", "eth0", "ingress");
    const outcome = await stage.run("backup", [...T2CP, ...stage.shadowArgs()]);
    assertRefused(outcome, outcome.status, /^t2cp shadow: /);
    assert.ok([69, 71].includes(outcome.status));
  },
);

onStage("refuse: an interface whose first filter is another's", async (stage) => {
  await stage.webServers(0, ["backup"]);
  const tc = (...args: string[]) => stage.output("backup", "tc", ...args);
  await tc("qdisc", "add", "dev", "eth0", "clsact");
  const filter = ["dev", "eth0", "egress", "pref", "1"];
  await tc("filter", "add", ...filter, "protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 0");
  const before = await stage.filters("backup", "eth0");
  assertRefused(
    await stage.run("backup", [...T2CP, ...stage.shadowArgs()]),
    69,
    /^t2cp shadow: Another filter .* egress of interface "eth0".*tc filter del dev eth0 egress pref 1$/m,
  );
  assert.equal(await stage.filters("backup", "eth0"), before);
  stage.assertNothingPinned(stage.runDir);
});

onStage("refuse: a listener for IPv6 alone does not listen on an IPv4 service", async (stage) => {
  await stage.socat("backup", 80, "TCP6-LISTEN:80,ipv6only=1,fork", "PIPE");
  const outcome = await stage.run("backup", [...T2CP, ...stage.shadowArgs()]);
  assertRefused(outcome, 69, /^t2cp shadow: Nobody listens on service/);
});

onStage(
  "refuse: a run directory too long for a control socket, before anything is attached",
  async (stage) => {
    await stage.echoServers();
    const long = `${stage.lab.directory}/${"x".repeat(100)}`;
    const args = stage.shadowArgs("--service", ECHO, "--run-dir", long);
    assertRefused(
      await stage.t2cp("backup", ...args),
      64,
      /too long for a Unix socket; .*--run-dir/,
    );
    await stage.assertNothingAttached("backup");
  },
);
