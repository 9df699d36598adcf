import assert from "node:assert/strict";
import { BRIDGE, hostEnd, LINKS, type Role } from "../../lib/lab/topology.ts";
import type { TrackedFlow } from "../../lib/shadow/programs.ts";
import { poll } from "../fixture/wait.ts";
import { arpRequest, Bit, ipv4, ping, tcp, udp } from "../fixture/make_frame.ts";
import { fileURLToPath } from "node:url";
import {
  assertSameBytes,
  describe,
  ECHO,
  isOfService,
  onStage,
  SERVICE_ADDRESS,
  type Stage,
  WEB,
} from "./stage.ts";

const CLIENT = "10.77.1.2";
const GATEWAY = BRIDGE.addresses[0]!.split("/")[0]!;
const link = { sourceMac: BRIDGE.mac, destinationMac: hostEnd("backup").mac };
/** From the client to the gateway, which asks for the service's MAC address and forwards. */
const uplink = { sourceMac: LINKS[0]![0].mac, destinationMac: LINKS[0]![1].mac };
const broadcast = { ...link, destinationMac: "ff:ff:ff:ff:ff:ff" };
const ip = { source: CLIENT, destination: SERVICE_ADDRESS };
const ports = { sourcePort: 55_555, destinationPort: 80 };

/** A SYN's options: MSS, SACK permitted, timestamps, window scale. */
const options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
const bytes = (count: number): number[] => Array.from({ length: count }, (_, i) => i * 37 & 255);

/** Frames to which a host with the service's address answers. */
const questions: Record<string, Uint8Array> = {
  "ARP request to all": arpRequest(broadcast, GATEWAY, SERVICE_ADDRESS),
  "ARP request to the backup": arpRequest(link, GATEWAY, SERVICE_ADDRESS),
  "ARP probe (RFC 5227)": arpRequest(broadcast, "0.0.0.0", SERVICE_ADDRESS),
  "ping": ping(link, ip),
  "SYN to the service": tcp(link, ip, { ...ports, flags: Bit.SYN, seq: 1000, options }),
  "SYN to a closed port": tcp(link, ip, { ...ports, destinationPort: 81, flags: Bit.SYN, options }),
  "ACK of no connection": tcp(link, ip, { ...ports, flags: Bit.ACK, seq: 1, ack: 1 }),
  "ACK to a closed port": tcp(link, ip, { ...ports, destinationPort: 81, flags: Bit.ACK, ack: 1 }),
  "datagram to a closed port": udp(link, ip, { source: 55_555, destination: 80 }),
  "unknown protocol": ipv4(link, ip, 253, bytes(64)),
};

/** Frames that mean nothing to anybody. */
const noise: Record<string, Uint8Array> = {
  "RST": tcp(link, ip, { ...ports, flags: Bit.RST, seq: 1 }),
  "FIN": tcp(link, ip, { ...ports, flags: Bit.FIN, seq: 1 }),
  "no flags": tcp(link, ip, { ...ports, flags: 0 }),
  "all flags": tcp(link, ip, { ...ports, flags: 63, seq: 1, ack: 1 }),
  "SYN and RST": tcp(link, ip, { ...ports, flags: Bit.SYN | Bit.RST }),
  "SYN/ACK": tcp(link, ip, { ...ports, flags: Bit.SYN | Bit.ACK, ack: 1 }),
  "SYN/ACK of the primary to a stranger": tcp(
    link,
    { source: SERVICE_ADDRESS, destination: CLIENT },
    { sourcePort: 80, destinationPort: 55_555, flags: Bit.SYN | Bit.ACK, ack: 1001, options },
  ),
  "segment of the primary": tcp(
    link,
    { source: SERVICE_ADDRESS, destination: CLIENT },
    { sourcePort: 80, destinationPort: 55_555, flags: Bit.ACK, payload: bytes(100) },
  ),
  "options cut short": tcp(link, ip, {
    ...ports,
    flags: Bit.SYN,
    options: [2, 4, 5, 0xb4, 8, 10, 0, 0],
  }),
  "option of length zero": tcp(link, ip, { ...ports, flags: Bit.SYN, options: [3, 0, 0, 0] }),
  "IP options": tcp(link, { ...ip, options: [1, 1, 1, 0] }, { ...ports, flags: Bit.SYN, options }),
  "header beyond the packet": ipv4(link, ip, 6, [
    0,
    1,
    0,
    80,
    ...Array(8).fill(0),
    0xf0,
    2,
    0,
    0,
    0,
    0,
    0,
    0,
  ]),
  "header too short": ipv4(link, ip, 6, [
    0,
    1,
    0,
    80,
    ...Array(8).fill(0),
    0x10,
    2,
    0,
    0,
    0,
    0,
    0,
    0,
  ]),
  "half a TCP header": ipv4(link, ip, 6, bytes(10)),
  "empty packet": ipv4(link, ip, 6, []),
  "first fragment": ipv4(link, { ...ip, fragment: 0x2000 }, 6, bytes(64)),
  "last fragment": ipv4(link, { ...ip, fragment: 8 }, 6, bytes(64)),
  "last hop": tcp(link, { ...ip, ttl: 1 }, { ...ports, flags: Bit.SYN }),
  "frame cut short": tcp(link, ip, { ...ports, flags: Bit.ACK, ack: 1, payload: bytes(400) })
    .subarray(0, 100),
  "IP header cut short": tcp(link, ip, { ...ports, flags: Bit.ACK }).subarray(0, 24),
};

/** Settings with which a host answers ARP for all its addresses, and asks in the name of any. */
const SPEAKING = ["net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0"];

const INJECT = fileURLToPath(new URL("../fixture/inject.ts", import.meta.url));

/** Sends frames on an interface of a host; on the gateway's port `backup` they reach the backup. */
async function inject(
  stage: Stage,
  frames: Uint8Array[],
  role: Role = "gateway",
  port = "backup",
): Promise<void> {
  const hex = frames.map((frame) =>
    Array.from(frame, (byte) => byte.toString(16).padStart(2, "0")).join("")
  );
  await stage.output(role, Deno.execPath(), "run", "-A", "--quiet", INJECT, port, ...hex);
}

onStage(
  "silent: a download, an echo and pings show nothing of the replica on the wire",
  async (stage) => {
    await stage.webServers(8 << 20);
    await stage.echoServers();
    await stage.sysctl("backup", ...SPEAKING);
    const { shadow } = await stage.protect(WEB, ECHO);
    const wire = await stage.capture("backup");
    const download = await stage.download();
    const echo = stage.connect(7);
    for (let i = 0; i < 4; i++) {
      assert.equal(await echo.echo(`message ${i}`), `message ${i}`);
      const bytes = await download.read(1 << 20);
      assertSameBytes(bytes, stage.content.subarray(i << 20, i + 1 << 20));
      await inject(stage, [ping(uplink, ip), ping(uplink, ip)], "client", "eth0");
      // One of the two has to ask for the other's MAC address anew; the backup learns the gateway's
      // from the gateway's question, so it asks only where that does not.
      const [role, name] = i % 2 === 0 ? ["gateway", "br0"] as const : ["backup", "eth0"] as const;
      await stage.output(role, "ip", "neigh", "flush", "dev", name);
    }
    assert.equal((await stage.stats()).flows, 2);
    // With the largest segments that offload makes, 4 MiB are still 64.
    await poll("32 segments of the replica", async () => {
      const { replica_segments, self_acknowledged } = await stage.stats();
      return replica_segments! >= 32 && self_acknowledged! > 10;
    });
    const left = stage.content.subarray(4 << 20);
    assertSameBytes(await download.read(left.length), left);
    for (const connection of [download, echo]) assert.equal((await connection.end()).length, 0);
    await stage.assertSilent(wire);
    assert.ok(
      wire.frames.some((frame) => frame.kind === "arp" && frame.sender === "10.77.0.12"),
      "the backup asks for MAC addresses on its own behalf",
    );
    const echoes = wire.frames.filter((frame) => frame.kind === "ipv4" && frame.protocol === 1);
    assert.deepEqual(echoes, [], "no answer to a ping");
    assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
  },
);

onStage(
  "silent: questions, forgeries and garbage get no answer, and harm no flow",
  async (stage) => {
    await stage.webServers(8 << 20);
    await stage.echoServers();
    await stage.sysctl("backup", ...SPEAKING);
    const before = await stage.capture("backup");
    // Without t2cp the backup answers, so these questions are real ones.
    for (const [name, frame] of Object.entries(questions)) {
      const seen = before.frames.length;
      await inject(stage, [frame]);
      await poll(`the answer to "${name}"`, () => before.frames.slice(seen).some(isOfService));
      await stage.caughtUp(before);
    }
    await before.stop();

    const { shadow } = await stage.protect(WEB, ECHO);
    await stage.output("gateway", "ip", "neigh", "flush", "dev", "br0");
    const wire = await stage.capture("backup");
    const download = await stage.download();
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    const first = await download.read(1 << 20);
    assertSameBytes(first, stage.content.subarray(0, first.length));

    const flow = (await stage.flows()).find(({ client }) =>
      client === `${CLIENT}:${download.port}`
    )!;
    const groups = { questions, noise, forgeries: forgeries(flow, download.port) };
    for (const [name, frames] of Object.entries(groups)) {
      const seen = wire.frames.length;
      await inject(stage, Object.values(frames).flatMap((frame) => [frame, frame]));
      await stage.caughtUp(wire);
      assert.deepEqual(wire.frames.slice(seen).filter(isOfService).map(describe), [], name);
    }
    await poll(
      "a warning of the forgeries",
      () => shadow.events.some(({ counter }) => counter === "implausible"),
    );

    assert.equal(await echo.echo("after"), "after");
    const more = await download.read(1 << 20);
    assertSameBytes(more, stage.content.subarray(1 << 20, 2 << 20));
    await stage.assertSilent(wire);
    assert.equal((await stage.failOver()).flows, 2);
    assert.equal(await echo.echo("taken over"), "taken over");
    const left = stage.content.subarray(2 << 20);
    assertSameBytes(await download.read(left.length), left);
  },
);

/** Segments of a flow's client that are not the client's, all of them outside the windows. */
function forgeries(flow: TrackedFlow, port: number): Record<string, Uint8Array> {
  const far = (number: number): number => (number + 0x40000000) >>> 0;
  const ends = { sourcePort: port, destinationPort: 80 };
  const { client_end: seq, client_ack: ack } = flow;
  return {
    "RST": tcp(link, ip, { ...ends, flags: Bit.RST, seq: far(seq) }),
    "SYN": tcp(link, ip, { ...ends, flags: Bit.SYN, seq: far(seq), options }),
    "FIN": tcp(link, ip, { ...ends, flags: Bit.FIN | Bit.ACK, seq: far(seq), ack }),
    "data": tcp(link, ip, { ...ends, flags: Bit.ACK, seq: far(seq), ack, payload: bytes(100) }),
    "ACK of what was not sent": tcp(link, ip, {
      ...ends,
      flags: Bit.ACK,
      seq: far(seq),
      ack: far(ack),
    }),
  };
}
