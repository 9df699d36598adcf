/**
 * What shadow and mirror refuse, beyond refuse_test.ts: hosts that are odd rather than wrong.
 */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { checkout } from "../cli/t2cp.ts";
import { assertRefused, ECHO, onStage, type Stage, T2CP } from "./stage.ts";

function prepared(prepare: string, run: string): string {
  return `exec unshare --mount bash -ec '${prepare}\n${run}'`;
}

async function asNobody(stage: Stage, role: "backup" | "gateway", args: string[]) {
  const view = `${stage.scratch}/view`;
  const info = new Deno.Command(Deno.execPath(), { args: ["info", "--json"] });
  const { denoDir } = JSON.parse(new TextDecoder().decode((await info.output()).stdout));
  const bin = dirname(await Deno.realPath(Deno.execPath()));
  const prepare = `
    chmod 755 ${stage.scratch}
    mkdir -p ${view}/cache ${view}/bin ${view}/checkout
    mount --bind ${denoDir} ${view}/cache
    mount --bind ${bin} ${view}/bin
    mount --bind ${checkout} ${view}/checkout
    cd /`;
  const run = `exec env DENO_DIR=${view}/cache HOME=/nonexistent PATH=$PATH ` +
    `setpriv --reuid=65534 --regid=65534 --clear-groups ` +
    `${view}/bin/deno run -A --quiet ${view}/checkout/cli/main.ts ${args.join(" ")}`;
  return await stage.shell(role, prepared(prepare, run));
}

// A second run directory on one interface adopts the first one's programs since openLost() ("adopted":true) instead of
// the refusal; two processes then drain one ring buffer, and --clear of either takes down both.
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

// makePinDir() makes RUN_DIR/bpf and mounts it outside of Instance.open's clean-up: where mount(2) is refused, or where
// findParts() throws (libbpf missing), directory and mount stay. After a fix, test/netns/refuse_test.ts "a missing library"
// should have `await stage.assertNothingAttached(role)` in its loop, and "without root" `stage.assertNothingPinned(mine)`.
onStage("refuse: without root no directory of pins is left", async (stage) => {
  await stage.webServers(0, ["backup"]);
  const mine = `${stage.scratch}/mine`;
  await Deno.mkdir(mine);
  await Deno.chown(mine, 65534, 65534);
  const outcome = await asNobody(stage, "backup", stage.shadowArgs("--run-dir", mine));
  assertRefused(outcome, 77, /run as root/);
  stage.assertNothingPinned(mine);
});

// libbpf attaches to the one block of an "ingress" qdisc for both directions: shadow says "started", but shadow_egress
// hangs at ingress, shadow_ingress nowhere, and nothing keeps the replica silent.
onStage(
  "refuse: an interface with an ingress qdisc in the place of clsact is refused",
  async (stage) => {
    await stage.webServers(0, ["backup"]);
    await stage.output("backup", "tc", "qdisc", "add", "dev", "eth0", "ingress");
    const outcome = await stage.run("backup", [...T2CP, ...stage.shadowArgs()], 5);
    assertRefused(outcome, outcome.status, /^t2cp shadow: /);
    assert.ok([69, 71].includes(outcome.status));
  },
);

// `ss` shows an IPv6-only listener as [::] and a dual-stack one as *; checkListener() takes both for IPv4. nginx's
// "listen [::]:80" is such a listener. Every flow is then reported as unprotected, "nobody listens on the backup".
onStage("refuse: a listener for IPv6 alone does not listen on an IPv4 service", async (stage) => {
  await stage.socat("backup", 80, "TCP6-LISTEN:80,ipv6only=1,fork", "PIPE");
  const outcome = await stage.run("backup", [...T2CP, ...stage.shadowArgs()], 5);
  assertRefused(outcome, 69, /^t2cp shadow: Nobody listens on service/);
});

// A path of more than 107 bytes is none for a Unix socket; that shows after everything is attached and pinned.
