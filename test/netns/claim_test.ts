import assert from "node:assert/strict";
import { startEchoServer } from "../../lib/lab/servers.ts";
import { hostEnd, SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import { poll } from "../fixture/wait.ts";
import type { Captured } from "./capture.ts";
import { assertRefused, ECHO, onStage, type Stage } from "./stage.ts";

const ECHO_6 = `[${SERVICE_ADDRESSES[6]}]:7`;
const { 4: address, 6: address6 } = SERVICE_ADDRESSES;
const own = hostEnd("backup").mac;
const rival = hostEnd("primary").mac;

/** The arguments of a takeover by hand. */
const now = (stage: Stage, ...flags: string[]) => [
  ...["takeover", "--now", "--run-dir", stage.runDir],
  ...flags,
];

/** Whether a frame announces the service's IPv4 address by ARP. */
const announces = (frame: Captured): boolean =>
  frame.kind === "arp" && frame.sender === address && frame.target === address;

/** The ICMPv6 message of a frame's type, if it is about the service's IPv6 address. */
function discovery(frame: Captured): number | undefined {
  if (frame.kind !== "ipv6" || frame.protocol !== 58) return undefined;
  const target = [...frame.payload.subarray(8, 24)].map((byte) => byte.toString(16)).join();
  const wanted = [0x20, 1, 0xd, 0xb8, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
  const type = frame.payload[0];
  return target === wanted.map((byte) => byte.toString(16)).join() ? type : undefined;
}

onStage(
  "claim: both addresses are announced as often as wanted, heeded, and put on the interface until they are cleared",
  async (stage) => {
    await startEchoServer(stage.lab, "backup", 6);
    // As where it was put there while the primary lived: the kernel keeps silent about it.
    await stage.sysctl("backup", "net.ipv6.conf.eth0.accept_dad=1");
    await stage.output("backup", "ip", "address", "add", `${address6}/64`, "dev", "eth0");
    await poll("the duplicate", async () => {
      const shown = await stage.output("backup", "ip", "address", "show", "dev", "eth0");
      return /dadfailed/.test(shown) || undefined;
    });
    const { shadow } = await stage.protect(ECHO, ECHO_6);
    const wire = await stage.capture("backup");
    await stage.lab.failHost();
    const flags = ["--announce", "3", "--announce-interval", "20"];
    const takeover = stage.start("backup", ...now(stage, ...flags));
    const active = await takeover.next("active");
    assert.equal((await takeover.status).code, 0);
    const told = takeover.events.filter(({ type }) => type === "claimed");
    assert.deepEqual(told.map((event) => event["address"]).toSorted(), [address6, address].sort());
    for (const event of told) {
      assert.equal(event["proof"], "echo");
      const at = Date.parse(event.time) - Date.parse(active.time);
      assert.ok(Math.abs(at) < 5000, `${at} ms from active`);
    }
    assert.deepEqual(takeover.events.filter(({ type }) => type === "rival"), []);
    await stage.caughtUp(wire);
    const forms = wire.frames.flatMap((frame) =>
      frame.kind === "arp" && announces(frame) && frame.senderMac === own ? [frame.operation] : []
    );
    assert.deepEqual(forms, Array(3).fill(["request", "reply"]).flat());
    const advertised = wire.frames.filter((frame) => discovery(frame) === 136);
    assert.equal(advertised.length, 3);
    // Duplicate address detection, which the neighbours would answer to all.
    const probes = wire.frames.filter((frame) =>
      discovery(frame) === 135 && "source" in frame && frame.source === "0:0:0:0:0:0:0:0"
    );
    assert.deepEqual(probes, []);
    for (const [to, prefix] of [[address, 32], [address6, 128]] as const) {
      const entry = await stage.output("gateway", "ip", "neighbour", "show", "to", to);
      assert.ok(entry.includes(own), entry);
      const shown = await stage.output("backup", "ip", "address", "show", "dev", "eth0", "to", to);
      assert.ok(shown.includes(`${to}/${prefix}`), shown);
      assert.doesNotMatch(shown, /tentative|dadfailed/);
    }

    await shadow.end("SIGTERM");
    const clear = () => stage.t2cp("backup", "shadow", "--clear", "--run-dir", stage.runDir);
    assert.match((await clear()).stderr, /go on, and so does its address/);
    const has = async (name: string) =>
      (await stage.output("backup", "ip", "address", "show", "dev", name)).includes(
        `${address}/32`,
      );
    assert.ok(await has("eth0"), "clients are served there");
    const servers = await stage.output("backup", "ss", "-Hltnp", "sport", "=", ":7");
    for (const [, pid] of servers.matchAll(/pid=(\d+)/g)) Deno.kill(Number(pid), "SIGTERM");
    await poll("their end", async () => {
      return await stage.output("backup", "ss", "-Hltn", "sport", "=", ":7") === "";
    });
    const cleared = await clear();
    assert.equal(
      cleared.stderr,
      `t2cp shadow: the programs are removed, and from the interface the addresses that the takeover put there: ` +
        `${address}, ${address6}\n`,
    );
    assert.deepEqual([await has("eth0"), await has("lo")], [false, true]);
  },
);

onStage(
  "claim: a rival is told, answered within bounds, and the address announced anew when it falls silent",
  async (stage) => {
    await startEchoServer(stage.lab, "backup", 6);
    await stage.protect(ECHO, ECHO_6);
    const wire = await stage.capture("backup", "in", "arp");
    const flags = ["--announce", "1", "--announce-refresh", "0.5"];
    const takeover = stage.start("backup", ...now(stage, ...flags));
    const rivals = () => takeover.events.filter(({ type }) => type === "rival");
    await poll("both rivals", () => rivals().length >= 2 || undefined);
    const seen = (talks: boolean) =>
      rivals().filter((event) => event["talks"] === talks)
        .map((event) => `${event["address"]} ${event["mac"]}`).toSorted();
    assert.deepEqual(seen(true), [`${address6} ${rival}`, `${address} ${rival}`].toSorted());
    await stage.lab.failHost();
    await poll("their silence", () => rivals().length >= 4 || undefined);
    assert.deepEqual(seen(false), seen(true));
    const before = wire.frames.filter(announces).length;
    await poll("a refresh", () => wire.frames.filter(announces).length > before || undefined);
    assert.equal((await takeover.end("SIGTERM")).code, 0);
  },
);

onStage(
  "claim: where routers answer no echo, a warning says so, and their question for the address proves it later",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const rules = "add table ip t; add chain ip t f { type filter hook input priority 0; }; " +
      "add rule ip t f icmp type echo-request drop";
    await stage.output("gateway", "nft", rules);
    await stage.lab.failHost();
    const flags = ["--announce", "1", "--announce-refresh", "60"];
    const takeover = stage.start("backup", ...now(stage, ...flags));
    assert.equal((await takeover.next("active"))["claimed"], undefined);
    const { message } = await takeover.next("warning");
    assert.match(String(message), /^Nothing shows yet that .* "10\.77\.0\.100": no router /);
    const entry = ["to", address, "lladdr", own, "dev", "br0", "nud", "probe"];
    await stage.output("gateway", "ip", "neighbour", "replace", ...entry);
    const claimed = await takeover.next("claimed");
    assert.deepEqual([claimed["address"], claimed["proof"]], [address, "neighbour"]);
    assert.equal((await takeover.end("SIGTERM")).code, 0);
  },
);

onStage(
  "claim: refused before anything happens, where the interface is down or another one has the address",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    const ip = (...args: string[]) => stage.output("backup", "ip", ...args);
    await ip("link", "add", "other0", "type", "veth", "peer", "name", "other1");
    await ip("address", "add", `${address}/32`, "dev", "other0");
    const takeover = () => stage.t2cp("backup", ...now(stage));
    assertRefused(
      await takeover(),
      69,
      /^t2cp takeover: Address "10\.77\.0\.100" is on interface "other0", and would be claimed on "eth0"; /,
    );
    await ip("link", "delete", "other0");

    // Down only since the takeover was prepared.
    const event = { v: 1, type: "drill", time: "2026-01-31T12:00:00.000000Z", by: "me", host: "h" };
    const late = await stage.shell(
      "backup",
      `cd ${stage.scratch} && mkfifo events || exit 1
      t2cp takeover --on drill --run-dir ${stage.runDir} <events >told & exec 3>events
      until grep -q '"started"' told; do sleep 0.02; done
      ip link set eth0 down
      echo '${JSON.stringify(event)}' >&3
      exec 3>&-
      wait $!`,
    );
    assert.equal(late.status, 69, late.stderr);
    assert.match(late.stderr, /^t2cp takeover: Interface "eth0" is down; ip link set eth0 up$/m);
    assertRefused(await takeover(), 69, /^t2cp takeover: Interface "eth0" is down; /);
    assert.equal((await stage.stats()).mode, "shadow");
  },
);
