/**
 * The recorder in the lab, where things are unusual: little memory, absurd clients, tags and extension headers, the
 * mirror's copies, an interface that goes.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import { Ether, ipPacket, Next, type Tcp, tcpSegment } from "../fixture/segment.ts";
import { ethernet } from "../fixture/segment.ts";
import { unique } from "../fixture/unique.ts";
import { poll } from "../fixture/wait.ts";
import { asNobody } from "./nobody.ts";
import { askRecorder, fetchRange } from "./record_socket.ts";
import { assertRefused, assertSameBytes, ECHO, onStage, type Stage } from "./stage.ts";
import type { Process } from "./two_hosts.ts";

interface Flow {
  client: string;
  server: string;
  end: number;
  seen: number;
  acknowledged: number;
}

/** A service that takes everything and says nothing. */
const SINK = `${SERVICE_ADDRESSES[4]}:9`;

type Stats = Record<string, number>;

async function start(stage: Stage, runDir: string, ...args: string[]): Promise<Process> {
  const service = args.includes("--service") ? [] : ["--service", ECHO];
  const recorder = stage.start("gateway", "record", ...service, "--run-dir", runDir, ...args);
  await recorder.next("started");
  return recorder;
}

async function flowsOf(runDir: string): Promise<Flow[]> {
  const answers = await askRecorder(runDir, { request: "flows" });
  return answers.slice(0, -1).map((answer) => answer["flow"] as Flow);
}

/** The first flow, once the primary has acknowledged so many bytes of it. */
function acknowledged(runDir: string, bytes: number): Promise<Flow> {
  return poll("the whole of it", async () => {
    const [flow] = await flowsOf(runDir);
    return flow?.acknowledged === bytes ? flow : undefined;
  });
}

async function statsOf(runDir: string): Promise<Stats> {
  return (await askRecorder(runDir, { request: "stats" }))[0]!["stats"] as Stats;
}

onStage("record: what does not fit into memory is reported, the rest is right", async (stage) => {
  // Never more than --window on its way: what is further ahead of the primary is not kept.
  await stage.socat("primary", 9, "-u", "TCP4-LISTEN:9,fork,rcvbuf=65536", "OPEN:/dev/null");
  const runDir = stage.lab.roleDirectory("gateway");
  const memory = ["--budget", "64M", "--window", "256K", "--service", SINK];
  const recorder = await start(stage, runDir, "--interface", "br0", ...memory);
  const sent = randomFillSync(new Uint8Array(2_000_000));
  await stage.connect(9).write(sent);
  const flow = await acknowledged(runDir, sent.length);
  const event = await recorder.next("flow.unprotected");
  assert.match(String(event["reason"]), /had to drop \d+ bytes/);

  const from = flow.end - sent.length >>> 0;
  const { bytes, missing } = await fetchRange(runDir, flow, from, flow.end);
  assert.equal(missing.length, 1, JSON.stringify([missing, flow, await statsOf(runDir)]));
  assert.equal(missing[0]!.reason, "dropped for the budget");
  assert.equal(missing[0]!.from, from);
  const lost = missing[0]!.to - from >>> 0;
  assert.ok(sent.length - lost <= 300_000 && sent.length - lost >= 200_000, `${lost} are lost`);
  assertSameBytes(bytes.subarray(lost), sent.subarray(lost));

  assert.equal((await recorder.end("SIGTERM")).code, 0);
  const last = recorder.events.at(-1) as unknown as Stats;
  assert.equal(last["type"], "stats");
  assert.equal(last["dropped_window"], lost);
  assert.equal(last["held"], sent.length - lost);
  assert.equal(last["seen"], sent.length);
});

onStage(
  "record: absurd clients of the socket get an error each, and disturb nothing",
  async (stage) => {
    await stage.echoServers();
    const runDir = stage.lab.roleDirectory("gateway");
    const recorder = await start(stage, runDir, "--interface", "br0", "--budget", "64M");
    const connection = stage.connect(7);
    await connection.echo("before");
    const connect = () => Deno.connect({ transport: "unix", path: join(runDir, "record.sock") });

    const flow = await poll("the flow", async () => (await flowsOf(runDir))[0]);
    const range = { request: "fetch", client: flow.client, server: flow.server, from: 0, to: 1 };
    const answers = await askRecorder(
      runDir,
      "x".repeat(10_000_000),
      "[1, 2",
      "null",
      { request: "no such" },
      { ...range, to: 5 << 20 },
      { ...range, client: "10.9.9.9:9" },
      { ...range, from: flow.end - 7 >>> 0, to: flow.end },
    );
    assert.deepEqual(answers.map(({ ok }) => ok), [...Array(6).fill(false), undefined, true]);
    const { segment } = answers.at(-2) as { segment: { data: string } };
    assert.equal(atob(segment.data), "before\n");

    const half = await connect();
    await half.write(new TextEncoder().encode('{"request":"fl'));
    const clients = await Promise.all(Array.from({ length: 1000 }, async () => {
      try {
        return await connect();
      } catch {
        // The queue of the socket is full: the kernel's own refusal.
        return undefined;
      }
    }));
    const outcomes = await Promise.all(clients.map(async (client) => {
      if (client === undefined) return "refused";
      using _client = client;
      await client.write(new TextEncoder().encode('{"request":"stats"}\n')).catch(() => {});
      const bytes = new Uint8Array(8192);
      const length = await client.read(bytes);
      const line = JSON.parse(new TextDecoder().decode(bytes.subarray(0, length!)).split("\n")[0]!);
      return line.ok === false ? "refused" : line.stats === undefined ? "?" : "served";
    }));
    const count = (what: string): number => outcomes.filter((outcome) => outcome === what).length;
    assert.equal(count("served") + count("refused"), 1000);
    assert.ok(count("served") >= 50, `${count("served")} were served`);
    half.close();

    await connection.echo("behind");
    await poll("the last bytes", async () => (await flowsOf(runDir))[0]!.seen === 14);
    assert.equal((await recorder.end("SIGTERM")).code, 0);
  },
);

onStage("record: tagged segments, options and extension headers are captured", async (stage) => {
  const runDir = stage.lab.roleDirectory("gateway");
  const services = ["--service", `${SERVICE_ADDRESSES[4]}:80`];
  services.push("--service", `[${SERVICE_ADDRESSES[6]}]:80`);
  const recorder = await start(
    stage,
    runDir,
    "--interface",
    "eth0",
    "--budget",
    "16M",
    ...services,
  );
  const v4 = { source: "10.77.1.2", destination: SERVICE_ADDRESSES[4] };
  const v6 = { source: "2001:db8:77:1::2", destination: SERVICE_ADDRESSES[6] };
  const payload = [...new TextEncoder().encode("payload")];
  const segment = ({ source, destination }: typeof v4, port: number): number[] => {
    const tcp: Tcp = { sourcePort: port, destinationPort: 80, seq: 5, payload };
    return tcpSegment(source, destination, tcp);
  };
  const packet4 = (port: number, options: number[] = []): number[] =>
    ipPacket({ ...v4, protocol: Next.TCP, options }, segment(v4, port));
  const hop = [Next.TCP, 0, 1, 4, 0, 0, 0, 0];
  const frames = [
    ethernet(Ether.IPV4, packet4(1001)),
    ethernet(Ether.IPV4, packet4(1002, [1, 1, 1, 1])),
    ethernet(Ether.IPV4, packet4(1003), { tags: [Ether.VLAN] }),
    ethernet(Ether.IPV4, packet4(1004), { tags: [Ether.SERVICE_VLAN, Ether.VLAN] }),
    ethernet(Ether.IPV6, ipPacket({ ...v6, protocol: Next.TCP }, segment(v6, 1005))),
    ethernet(
      Ether.IPV6,
      ipPacket({ ...v6, protocol: Next.HOP_BY_HOP }, [...hop, ...segment(v6, 1006)]),
      { tags: [Ether.VLAN] },
    ),
    // A fragment, and another port: neither is taken.
    ethernet(
      Ether.IPV4,
      ipPacket({ ...v4, protocol: Next.TCP, fragment: 0x2000 }, segment(v4, 1007)),
    ),
    ethernet(Ether.IPV4, ipPacket({ ...v4, protocol: Next.UDP }, segment(v4, 1008))),
  ];
  const hex = frames.map((frame) => frame.toHex());
  const inject = fileURLToPath(new URL("../fixture/inject.ts", import.meta.url));
  await stage.output("client", Deno.execPath(), "run", "-A", inject, "eth0", ...hex);
  const flows = await poll("six flows", async () => {
    const flows = await flowsOf(runDir);
    return flows.length >= 6 ? flows : undefined;
  });
  const ports = flows.map(({ client }) => Number(/\d+$/.exec(client)![0])).toSorted();
  assert.deepEqual(ports, [1001, 1002, 1003, 1004, 1005, 1006]);
  for (const flow of flows) {
    const { bytes } = await fetchRange(runDir, flow, 5, 12);
    assert.deepEqual([...bytes], payload, flow.client);
  }
  assert.equal((await statsOf(runDir))["fragments"], 1);
  assert.equal((await recorder.end("SIGTERM")).code, 0);
});

onStage("record: the mirror's copies are left out, or do no harm", async (stage) => {
  await stage.echoServers();
  const runDir = stage.lab.roleDirectory("gateway");
  const other = join(runDir, "other");
  await stage.protect(ECHO);
  const memory = ["--interface", "br0", "--budget", "16M"];
  await start(stage, runDir, ...memory, "--backup", "10.77.0.12");
  await start(stage, other, ...memory);
  const connection = stage.connect(7);
  for (let i = 0; i < 20; i++) await connection.echo(`line ${i}`);
  const sent = 10 * "line 0\n".length + 10 * "line 10\n".length;
  const all = (directory: string) =>
    poll("all bytes", async () => {
      const stats = await statsOf(directory);
      return stats["acknowledged"] === sent ? stats : undefined;
    });
  const [without, with_] = [await all(runDir), await all(other)];
  assert.deepEqual([without["seen"], with_["seen"]], [sent, sent]);
  // What a kernel sends again on a busy machine is seen twice, too.
  assert.ok(without["repeated"]! < sent);
  assert.equal(with_["repeated"], sent + 2 * without["repeated"]!);
  assert.deepEqual([without["diverged"], with_["diverged"]], [0, 0]);
});

onStage(
  "record: frames that the kernel had to drop are reported, with their number",
  async (stage) => {
    await stage.socat("primary", 9, "-u", "TCP4-LISTEN:9,fork", "OPEN:/dev/null");
    const runDir = stage.lab.roleDirectory("gateway");
    const memory = ["--budget", "16M", "--buffer", "4M", "--service", SINK];
    const recorder = await start(stage, runDir, "--interface", "br0", ...memory);
    const pid = Deno.readTextFileSync(join(runDir, "record.lock")).trim();
    const sent = randomFillSync(new Uint8Array(8 << 20));
    await stage.output("gateway", "kill", "-STOP", pid);
    try {
      await stage.connect(9).write(sent);
    } finally {
      await stage.output("gateway", "kill", "-CONT", pid);
    }
    const warning = await recorder.next("warning");
    assert.equal(warning["counter"], "kernel_dropped");
    const count = Number(warning["count"]);
    assert.ok(count > 0 && String(warning["message"]).includes(` ${count} frames`));
    const stats = await statsOf(runDir);
    assert.ok(stats["kernel_dropped"]! >= count);
    assert.ok(stats["seen"]! < sent.length);
  },
);

onStage(
  "record: an interface that goes down is reported, one that is gone ends it",
  async (stage) => {
    const runDir = stage.lab.roleDirectory("gateway");
    const ip = (...args: string[]) => stage.output("gateway", "ip", "link", ...args);
    await ip("add", "here0", "type", "veth", "peer", "name", "there0");
    for (const name of ["here0", "there0"]) await ip("set", name, "up");
    const recorder = await start(stage, runDir, "--interface", "here0", "--budget", "16M");
    await ip("set", "here0", "down");
    const warning = await recorder.next("warning");
    assert.match(String(warning["message"]), /^Interface "here0" went down/);
    await ip("set", "here0", "up");
    await ip("del", "here0");
    assert.equal((await recorder.status).code, 69);
    await poll("the reason", () => recorder.stderr !== "");
    assert.match(recorder.stderr, /^t2cp record: Interface "here0" has gone; start/);
  },
);

onStage("record: what cannot be is refused in one line", async (stage) => {
  const runDir = stage.lab.roleDirectory("gateway");
  const record = (...args: string[]) =>
    stage.t2cp("gateway", "record", "--run-dir", runDir, "--budget", "16M", ...args);
  const service = ["--service", ECHO];
  const br0 = ["--interface", "br0"];
  assertRefused(await record(...service, "--interface", "none0"), 66, /"none0"/);
  assertRefused(await record("--service", `udp:${ECHO}`, ...br0), 64, /UDP/);
  assertRefused(await record(...service, ...br0, "--filter", "no filter"), 64, /"\(?no filter/);
  assertRefused(await record(...service, ...br0, "--buffer", "12M"), 64, /half of the budget/);
  assertRefused(await record(...service, ...br0, "--window", "100M"), 64, /--window|window/);
  const theirs = `/tmp/${unique("nobodys-run-dir-")}`;
  const nobody = ["record", ...service, ...br0, "--run-dir", theirs];
  const outcome = await asNobody(stage, "gateway", nobody);
  await Deno.remove(theirs, { recursive: true }).catch(() => {});
  assertRefused(outcome, 77, /^t2cp record: .*run as root/);

  const first = await start(stage, runDir, ...br0, "--budget", "16M");
  assertRefused(await record(...service, ...br0), 75, /Another "t2cp record"/);
  assert.equal((await first.end("SIGINT")).code, 0);
});
