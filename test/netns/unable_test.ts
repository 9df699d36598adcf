import assert from "node:assert/strict";
import { asNobody } from "./nobody.ts";
import { hostEnd } from "../../lib/lab/topology.ts";
import { assertRefused, onStage, T2CP, WEB } from "./stage.ts";

onStage("unable: a missing library is named with its package", async (stage) => {
  await stage.webServers(0, ["backup"]);
  // An empty file goes before the library; only iproute2, which needs it too, is spared.
  const bin = `${stage.scratch}/bin`;
  await Deno.mkdir(bin);
  for (const tool of ["ip", "tc", "ss"]) {
    const path = (await stage.output("backup", "sh", "-c", `command -v ${tool}`)).trim();
    const script = `#!/bin/sh\nunset LD_LIBRARY_PATH\nexec ${path} "$@"\n`;
    await Deno.writeTextFile(`${bin}/${tool}`, script, { mode: 0o755 });
  }
  const without = async (library: string, role: "backup" | "gateway", args: string[]) => {
    const directory = `${stage.scratch}/${library}`;
    await Deno.mkdir(directory, { recursive: true });
    await Deno.writeTextFile(`${directory}/${library}`, "");
    const run = [...T2CP, ...args].join(" ");
    return await stage.shell(role, `LD_LIBRARY_PATH=${directory} PATH=${bin}:$PATH exec ${run}`);
  };
  for (
    const [role, args] of [["backup", stage.shadowArgs()], ["gateway", stage.mirrorArgs()]] as const
  ) {
    assertRefused(await without("libbpf.so.1", role, args), 69, /libbpf\.so\.1.*libbpf1/);
  }
  await stage.shadow();
  const takeover = ["takeover", "--now", "--run-dir", stage.runDir];
  assertRefused(await without("libpcap.so.0.8", "backup", takeover), 69, /libpcap.*libpcap0\.8/);
  assert.equal((await stage.stats()).mode, "shadow", "it has not taken over");
});

/** The arguments of a fence against the primary. */
function fenceArgs(runDir: string): string[] {
  const flags = ["--interface", "br0", "--primary", hostEnd("primary").mac, "--service", WEB];
  return ["fence", ...flags, "--run-dir", runDir];
}

onStage("unable: without root nothing starts, and the line says what to do", async (stage) => {
  await stage.webServers(0, ["backup"]);
  const mine = `${stage.scratch}/mine`;
  await Deno.mkdir(mine);
  await Deno.chown(mine, 65534, 65534);
  for (
    const [role, args] of [
      ["backup", stage.shadowArgs("--run-dir", mine)],
      ["gateway", stage.mirrorArgs("--run-dir", mine)],
      ["gateway", fenceArgs(mine)],
      ["backup", stage.shadowArgs("--run-dir", "/proc/t2cp")],
      ["backup", stage.shadowArgs("--run-dir", `${stage.runDir}/none`)],
    ] as const
  ) {
    const outcome = await asNobody(stage, role, args);
    assertRefused(outcome, outcome.status, /^t2cp (shadow|mirror|fence): .*run as root/);
    assert.ok([71, 77].includes(outcome.status), `${outcome.status}`);
    await stage.assertNothingAttached(role);
  }
  // What root has made, nobody may use; the directory above lets nobody pass.
  const roots = `${stage.scratch}/roots`;
  await Deno.mkdir(roots, { mode: 0o700 });
  for (
    const args of [
      stage.shadowArgs("--run-dir", roots),
      ["shadow", "--clear", "--run-dir", roots],
      ["takeover", "--now", "--run-dir", roots],
      ["freeze", "--now", "--run-dir", roots],
    ]
  ) {
    assertRefused(
      await asNobody(stage, "backup", args),
      77,
      /^t2cp (shadow|takeover|freeze): .*run as root/,
    );
  }
  // Root of a container: it owns all files and has no capabilities.
  for (
    const [role, args] of [["backup", stage.shadowArgs()], ["gateway", stage.mirrorArgs()]] as const
  ) {
    const powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    const outcome = await stage.run(role, [...powerless, ...T2CP, ...args]);
    assertRefused(outcome, 77, /^t2cp (shadow|mirror): Cannot .*: EPERM; run as root\n$/);
    assert.equal(await stage.filters(role, role === "backup" ? "eth0" : "br0"), "");
  }
  await stage.shadow();
  for (
    const [role, args] of [
      ["gateway", fenceArgs(stage.lab.roleDirectory("gateway"))],
      ["backup", ["takeover", "--now", "--run-dir", stage.runDir]],
      ["backup", ["freeze", "--now", "--run-dir", stage.runDir]],
    ] as const
  ) {
    const powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    const outcome = await stage.run(role, [...powerless, ...T2CP, ...args]);
    assertRefused(
      outcome,
      77,
      /^t2cp (fence|takeover|freeze): .*(EPERM|not permitted); run as root\n$/,
    );
  }
  assert.equal((await stage.stats()).mode, "shadow", "it has not taken over");
});

/** How somebody else's filter can be in the way, in the words of tc(8). */
const obstacles: [what: string, hook: string, filter: string][] = [
  ["a filter in its place at ingress", "ingress", "protocol all handle HANDLE"],
  ["a filter in its place at egress", "egress", "protocol all handle HANDLE"],
  // One priority cannot serve two protocols. By then the programs are pinned, and the first attached.
  ["its priority taken at ingress", "ingress", "protocol ip handle 1"],
  ["its priority taken at egress", "egress", "protocol ip handle 1"],
];

for (const role of ["backup", "gateway"] as const) {
  const name = role === "backup" ? "shadow" : "mirror";
  onStage(
    `unable: a ${name} that fails in the middle of its start leaves nothing behind`,
    async (stage) => {
      await stage.webServers(0, ["backup"]);
      const device = role === "backup" ? "eth0" : "br0";
      const args = role === "backup" ? stage.shadowArgs() : stage.mirrorArgs();
      const start = () => role === "backup" ? stage.shadow() : stage.mirror();
      // Where its own place is, a first start shows.
      const first = await start();
      const shown = await stage.filters(role, device);
      const [, priority, handle] = /pref (\d+) bpf .* handle (0x[0-9a-f]+)/.exec(shown)!;
      await first.end("SIGTERM");
      if (role === "backup") {
        await stage.output(role, ...T2CP, "shadow", "--clear", "--run-dir", stage.runDir);
      }

      await stage.output(role, "ip", "link", "add", "spare0", "type", "veth");
      await stage.shell(role, `tc qdisc add dev ${device} clsact 2>/dev/null`);
      const state = async () =>
        await stage.filters(role, device) + await stage.filters(role, "spare0") +
        await stage.output(role, "tc", "qdisc", "show");
      for (const [what, hook, filter] of obstacles) {
        const place = ["dev", device, hook, "prio", priority!];
        const form = [...filter.replace("HANDLE", handle!).split(" "), "bpf", "bytecode"];
        await stage.output(role, "tc", "filter", "add", ...place, ...form, "1,6 0 0 0,");
        const before = await state();
        const outcome = await stage.t2cp(role, ...args);
        assert.ok([69, 71].includes(outcome.status), `${what}: ${outcome.status}`);
        assertRefused(
          outcome,
          outcome.status,
          new RegExp(`^t2cp ${name}: (Cannot attach|Interface|Another filter .* interface) "`),
        );
        assert.equal(await state(), before, what);
        stage.assertNothingPinned(stage.lab.roleDirectory(role));
        await stage.output(role, "tc", "filter", "delete", ...place);
      }
      assert.equal((await start()).events[0]?.adopted, false, "with its place free, all is well");
    },
  );
}
