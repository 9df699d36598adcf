import assert from "node:assert/strict";
import { hostEnd } from "../../lib/lab/topology.ts";
import { assertRefused, ECHO, onStage, type Stage, WEB } from "./stage.ts";

type Case = [what: string, args: string[], status: number, line: RegExp];

/** Runs each case, which must be refused and leave nothing behind. */
async function refuse(
  stage: Stage,
  role: "backup" | "gateway",
  argsOf: (...args: string[]) => string[],
  cases: Case[],
): Promise<void> {
  for (const [what, args, status, line] of cases) {
    const outcome = await stage.t2cp(role, ...argsOf(...args));
    assert.equal(outcome.status, status, `${what}: ${outcome.stdout}${outcome.stderr}`);
    assertRefused(outcome, status, line);
    await stage.assertNothingAttached(role);
  }
}

const IP = "10.77.0.100";

onStage(
  "refuse: shadow names wrong interfaces, services and flags, and attaches nothing",
  async (stage) => {
    await stage.webServers(0, ["backup"]);
    const service = (text: string): string[] => ["--service", text];
    await refuse(stage, "backup", (...args) => stage.shadowArgs(...args), [
      [
        "no such interface",
        ["--interface", "eth9"],
        66,
        /^t2cp shadow: There is no interface "eth9"/,
      ],
      ["no interface", ["--interface", "eth/0"], 64, /^t2cp shadow: --interface: "eth\/0" is not/],
      ["empty interface", ["--interface", ""], 64, /^t2cp shadow: --interface: "" is not/],
      [
        "nobody listens",
        service(`${IP}:81`),
        69,
        /^t2cp shadow: Nobody listens on service "10\.77\.0\.100:81"/,
      ],
      [
        "one of two",
        [...service(WEB), ...service(`${IP}:81`)],
        69,
        /^t2cp shadow: Nobody listens .*:81"/,
      ],
      [
        "not here",
        service("10.77.0.99:80"),
        69,
        /^t2cp shadow: Address "10\.77\.0\.99" .*; ip address add/,
      ],
      [
        "UDP",
        service(`udp:${IP}:80`),
        64,
        /^t2cp shadow: Service "udp:.*" is UDP.*; write "10\.77\.0\.100:80"/,
      ],
      [
        "no port",
        service(IP),
        64,
        /^t2cp shadow: --service: Service "10\.77\.0\.100" lacks a port; write/,
      ],
      ["port 0", service(`${IP}:0`), 64, /^t2cp shadow: --service: "0" is not a port; write/],
      [
        "a large port",
        service(`${IP}:65536`),
        64,
        /^t2cp shadow: --service: "65536" is not a port/,
      ],
      [
        "a name",
        service("example.com:80"),
        64,
        /^t2cp shadow: --service: Service "example\.com:80" has no IP/,
      ],
      [
        "half an address",
        service("10.77.0:80"),
        64,
        /^t2cp shadow: --service: Service "10\.77\.0:80"/,
      ],
      ["an open bracket", service("[::1:80"), 64, /^t2cp shadow: --service: Service "\[::1:80"/],
      ["an empty service", service(""), 64, /^t2cp shadow: --service: Service ""/],
      [
        "an empty run directory",
        ["--run-dir", ""],
        64,
        /^t2cp shadow: --run-dir: "" is not a path/,
      ],
      [
        "stats never",
        ["--stats", "0"],
        64,
        /^t2cp shadow: --stats: "0" is not a number greater than 0/,
      ],
    ]);
    assertRefused(
      await stage.t2cp("backup", "shadow", "--run-dir", stage.runDir),
      64,
      /^t2cp shadow: Flags "--interface" and "--service" are needed; t2cp shadow --interface/,
    );
    const file = `${stage.scratch}/file`;
    await Deno.writeTextFile(file, "");
    for (const runDir of [file, `${file}/below`]) {
      assertRefused(
        await stage.t2cp("backup", ...stage.shadowArgs("--run-dir", runDir)),
        71,
        /^t2cp shadow: Run directory ".*file.*" cannot be made; /,
      );
    }
    await stage.assertNothingAttached("backup");
  },
);

onStage("refuse: shadow names what the host lacks, and how to mend it", async (stage) => {
  await stage.webServers(0, ["backup"]);
  for (const name of ["tcp_syncookies", "tcp_timestamps", "tcp_sack", "tcp_window_scaling"]) {
    await stage.sysctl("backup", `net.ipv4.${name}=0`);
    const mend = `sysctl -w net.ipv4.${name}=1`;
    await refuse(stage, "backup", (...args) => stage.shadowArgs(...args), [
      [
        name,
        [],
        69,
        new RegExp(`^t2cp shadow: Setting "net\\.ipv4\\.${name}" is 0: .*; ${mend}\n$`),
      ],
    ]);
    await stage.sysctl("backup", `net.ipv4.${name}=1`);
  }
  await stage.sysctl("backup", "net.mptcp.enabled=1");
  // An IPv4 stream socket of protocol 262, which is MPTCP, bound to port 82.
  const address = [10, 77, 0, 100].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await stage.socat("backup", 82, `SOCKET-LISTEN:2:262:x0052x${address}x0000000000000000`, "PIPE");
  await refuse(stage, "backup", (...args) => stage.shadowArgs(...args), [
    [
      "MPTCP",
      ["--service", `${IP}:82`],
      69,
      /^t2cp shadow: The listener of service "10\.77\.0\.100:82" is an MPTCP socket.*; sysctl -w net\.mptcp\.enabled=0/,
    ],
  ]);
  await stage.shadow();
});

onStage("refuse: one shadow has its run directory for itself", async (stage) => {
  await stage.echoServers();
  await stage.protect(ECHO);
  const echo = stage.connect(7);
  assert.equal(await echo.echo("before"), "before");
  const filters = await stage.filters("backup", "eth0");
  const args = (...more: string[]) => stage.shadowArgs("--service", ECHO, ...more);

  assertRefused(
    await stage.t2cp("backup", ...args()),
    75,
    /^t2cp shadow: Another "t2cp shadow" \(process \d+\) uses run directory ".*"; stop it first/,
  );
  assert.equal(await stage.filters("backup", "eth0"), filters, "the first one's programs stay");
  assert.equal((await stage.flows()).length, 1);
  assert.equal(await echo.echo("after"), "after");
});

onStage(
  "refuse: mirror names wrong interfaces, hosts and services, and attaches nothing",
  async (stage) => {
    await stage.echoServers();
    await refuse(stage, "gateway", (...args) => stage.mirrorArgs(...args), [
      [
        "no such interface",
        ["--interface", "br9"],
        66,
        /^t2cp mirror: There is no interface "br9"/,
      ],
      ["UDP", ["--service", `udp:${IP}:80`], 64, /^t2cp mirror: Service "udp:.*" is UDP/],
      [
        "no port",
        ["--service", IP],
        64,
        /^t2cp mirror: --service: Service "10\.77\.0\.100" lacks a port/,
      ],
      [
        "half a MAC address",
        ["--primary", "02:77:00:00:00"],
        64,
        /^t2cp mirror: --primary: "02:77/,
      ],
      ["a name", ["--backup", "backup.example"], 64, /^t2cp mirror: --backup: "backup\.example"/],
      [
        "one host as both",
        ["--backup", hostEnd("primary").mac],
        64,
        /^t2cp mirror: Primary and backup have the same MAC address; /,
      ],
      [
        "one host as both, by its address",
        ["--backup", "10.77.0.11"],
        64,
        /^t2cp mirror: Primary and backup have the same MAC address; /,
      ],
      [
        "a host that does not answer",
        ["--backup", "10.77.0.99"],
        69,
        /^t2cp mirror: Host "10\.77\.0\.99" does not answer on interface "br0"; /,
      ],
    ]);
    assertRefused(
      await stage.t2cp("gateway", "mirror", "--interface", "br0"),
      64,
      /^t2cp mirror: .*see t2cp mirror --help\n$/,
    );
  },
);

onStage("refuse: one mirror has its run directory for itself", async (stage) => {
  await stage.echoServers();
  const mirror = await stage.mirror("--primary", "10.77.0.11", "--backup", "10.77.0.12");
  assert.equal(mirror.events[0]?.primary, hostEnd("primary").mac);
  assert.equal(mirror.events[0]?.backup, hostEnd("backup").mac);
  const filters = await stage.filters("gateway", "br0");
  assertRefused(
    await stage.t2cp("gateway", ...stage.mirrorArgs()),
    75,
    /^t2cp mirror: Another "t2cp mirror" \(process \d+\) uses run directory "/,
  );
  assert.equal(await stage.filters("gateway", "br0"), filters);
});
