import assert from "node:assert/strict";
import { until } from "../../lib/lab/system.ts";
import { t2cp } from "../cli/t2cp.ts";
import { PATIENCE } from "../fixture/wait.ts";
import { isRoot, withLab } from "./lab.ts";

const ignore = !isRoot;

Deno.test({
  name: "lab: up, exec, fail and down; nothing is left behind",
  ignore,
  fn: () =>
    withLab(async ({ flags, runDir, name, look }) => {
      const up = await t2cp("lab", "up", ...flags);
      assert.equal(up.status, 0, up.stderr);
      for (
        const text of [
          "10.77.1.2",
          "10.77.0.11",
          "10.77.0.12",
          "10.77.0.100",
          "02:77:",
          "2001:db8:77::100",
        ]
      ) {
        assert.ok(up.stdout.includes(text), text);
      }
      look();

      const again = await t2cp("lab", "up", ...flags);
      assert.equal(again.status, 75);
      assert.match(again.stderr, /exists already; .*t2cp lab down --name/);

      const list = await t2cp("lab", "list", "--run-dir", runDir);
      assert.match(list.stdout, new RegExp(`^${name} +standing `));

      const exec = (role: string, ...argv: string[]) =>
        t2cp("lab", "exec", ...flags, role, "--", ...argv);
      for (const role of ["client", "gateway", "primary", "backup"]) {
        const tentative = await exec(role, "ip", "-6", "address", "show", "tentative");
        assert.deepEqual(tentative, { status: 0, stdout: "", stderr: "" });
      }
      const route = await exec("backup", "ip", "-6", "route", "show", "default");
      assert.match(route.stdout, /via 2001:db8:77::1 .*initrwnd 10000 congctl cubic/);
      const status = await exec("client", "sh", "-c", "echo to stdout; echo to stderr >&2; exit 7");
      assert.deepEqual(status, { status: 7, stdout: "to stdout\n", stderr: "to stderr\n" });
      assert.match((await exec("backup", "t2cp", "--version")).stdout, /^[0-9]+\.[0-9]+/);

      // Long-lived processes and mounts, as a user leaves them.
      const pin = `${runDir}/lab/${name}/backup/bpf`;
      await exec("backup", "sh", "-c", `mkdir ${pin} && mount -t bpf none ${pin}`);
      const server = "socat TCP4-LISTEN:7,reuseaddr,fork PIPE </dev/null >/dev/null 2>&1 &";
      await exec("primary", "sh", "-c", server);
      const ask = () =>
        exec("client", "sh", "-c", "echo hello | socat -t2 - TCP4:10.77.0.11:7,connect-timeout=1");
      assert.ok(await until(async () => (await ask()).stdout === "hello\n", PATIENCE, 50));

      const fail = await t2cp("lab", "fail", ...flags, "host");
      assert.equal(fail.status, 0, fail.stderr);
      assert.notEqual((await ask()).status, 0, "the primary is cut off");

      const down = await t2cp("lab", "down", ...flags);
      assert.equal(down.status, 0, down.stderr);
      assert.equal((await t2cp("lab", "list", "--run-dir", runDir)).stdout, "");
    }),
});

Deno.test({
  name: "lab: a lab that does not stand, a wrong host, a wrong failure",
  ignore,
  fn: () =>
    withLab(async ({ flags }) => {
      const cases: [number, RegExp, string[]][] = [
        [69, /There is no lab/, ["down"]],
        [69, /does not stand; .*t2cp lab up/, ["exec", "client", "true"]],
        [69, /does not stand/, ["fail", "host"]],
        [64, /no host "router"; choose one of client/, ["exec", "router", "true"]],
        [64, /cannot make "disk" fail/, ["fail", "disk"]],
      ];
      for (const [status, message, [verb, ...args]] of cases) {
        const outcome = await t2cp("lab", verb!, ...flags, ...args);
        assert.equal(outcome.status, status, outcome.stderr);
        assert.match(outcome.stderr, message);
        assert.equal(outcome.stderr.trimEnd().split("\n").length, 1, "one line");
      }
    }),
});

Deno.test({
  name: "lab: two labs stand side by side",
  ignore,
  fn: () =>
    withLab((one) =>
      withLab(async (two) => {
        for (const { flags } of [one, two]) {
          assert.equal((await t2cp("lab", "up", ...flags)).status, 0);
        }
        assert.equal((await t2cp("lab", "down", ...one.flags)).status, 0);
        const alive = await t2cp("lab", "exec", ...two.flags, "client", "ip", "address");
        assert.match(alive.stdout, /10\.77\.1\.2/);
        assert.equal((await t2cp("lab", "down", ...two.flags)).status, 0);
      })
    ),
});
