import assert from "node:assert/strict";
import type { Family } from "../../lib/address.ts";
import { TcpSocket } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import { onStage, type Stage } from "./stage.ts";
import { type Flow, noise, type Prepare, TWINS, Twins, TWINS6 } from "./twins.ts";

const SIZE = 300_000;

/** What a client agrees to, by its kernel's settings or its socket's options. */
const variants: Record<string, { family?: Family; settings?: string[]; prepare?: Prepare }> = {
  "without timestamps": { settings: ["net.ipv4.tcp_timestamps=0"] },
  "without SACK": { settings: ["net.ipv4.tcp_sack=0"] },
  "without window scaling": { settings: ["net.ipv4.tcp_window_scaling=0"] },
  "without any option": {
    settings: ["timestamps", "sack", "window_scaling"].map((name) => `net.ipv4.tcp_${name}=0`),
  },
  "an MSS of 536": { prepare: (socket) => socket.tcp({ MAXSEG: 536 }) },
  "a tiny window": { prepare: (socket) => socket.socket({ RCVBUF: 2048 }) },
  "IPv6": { family: 6 },
  "IPv6 without any option": {
    family: 6,
    settings: ["timestamps", "sack", "window_scaling"].map((name) => `net.ipv4.tcp_${name}=0`),
  },
  "IPv6 with an MSS of 1000": { family: 6, prepare: (socket) => socket.tcp({ MAXSEG: 1000 }) },
  "IPv6 with ECN": { family: 6, settings: ["net.ipv4.tcp_ecn=1"] },
  "ECN": { settings: ["net.ipv4.tcp_ecn=1"] },
};

/** Moves data both ways; the client and both servers agree on it. */
async function exchange(flow: Flow): Promise<void> {
  await flow.up(noise(SIZE));
  await flow.down(noise(SIZE));
}

onStage(
  "shape: without an option, with small segments, with ECN, behind NAT",
  async (stage) => {
    for (const role of ["primary", "backup"] as const) {
      await stage.sysctl(role, "net.ipv4.tcp_ecn=1");
    }
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS, TWINS6);
    const names = Object.values(variants).flatMap(({ settings = [] }) => settings)
      .map((setting) => setting.split("=")[0]!);
    const usual = (await stage.output("client", "sysctl", ...names)).trim().split("\n")
      .map((line) => line.replace(" = ", "="));
    const flows: Flow[] = [];
    for (const [name, { family = 4, settings = [], prepare }] of Object.entries(variants)) {
      await stage.sysctl("client", ...usual, ...settings);
      twins.family = family;
      flows.push(await twins.open(name, prepare));
    }
    await stage.sysctl("client", ...usual);
    twins.family = 4;
    flows.push(await behindNat(stage, twins));
    for (const flow of flows) await exchange(flow);
    assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
    assert.equal((await stage.failOver()).flows, flows.length);
    await Promise.all(flows.map((flow) => flow.goesOn(SIZE)));
    await Promise.all(flows.map((flow) => flow.ends()));
  },
);

/** A flow whose client has another address and port on the servers' side of the gateway. */
async function behindNat(stage: Stage, twins: Twins): Promise<Flow> {
  const [port, outside] = [twins.freshPort(), 33_000];
  const gateway = "10.77.0.1";
  // Where the kernel translates bridged frames too (br_netfilter), the copy would have it undone.
  const setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
  await stage.shell("gateway", `[ ! -e ${setting} ] || echo 0 >${setting}`);
  await stage.output(
    "gateway",
    "nft",
    [
      "add table ip nat",
      "add chain ip nat c { type nat hook postrouting priority srcnat; }",
      `add rule ip nat c tcp sport ${port} snat to ${gateway}:${outside}`,
    ].join("\n"),
  );
  const client = twins.begin(undefined, port);
  await client.socket.connected();
  const flow = await twins.flow("NAT", { ...client, port: outside });
  assert.notEqual(await flow.tracked(gateway), undefined, "the backup sees the gateway's address");
  return flow;
}

/** A server's initial sequence numbers advance by one in 64 ns: secure_tcp_seq(). */
const NUMBERS_PER_MILLISECOND = 1e6 / 64;

/** The server's first numbers for many of the client's ports, each of which has its own offset. */
async function firstNumbers(twins: Twins): Promise<Map<number, (time: number) => number>> {
  const numbers = new Map<number, (time: number) => number>();
  for (let i = 0; i < 400; i++) {
    const { socket, port } = twins.begin();
    await socket.connected();
    const [now, number] = [performance.now(), socket.receiveNext];
    // A reset leaves no TIME-WAIT, which would choose the next number.
    socket.reset();
    (await twins.accept("primary", port)).close();
    numbers.set(port, (time) => number + (time - now) * NUMBERS_PER_MILLISECOND);
  }
  return numbers;
}

/** Waits for the moment when the server begins at `wanted` for one of the ports, and takes that. */
async function portAt(
  numbers: Map<number, (time: number) => number>,
  wanted: number,
): Promise<number> {
  const start = performance.now() + 20;
  const moments = [...numbers].map(([port, number]): [number, number] => {
    const distance = ((wanted - number(start)) % 2 ** 32 + 2 ** 32) % 2 ** 32;
    return [start + distance / NUMBERS_PER_MILLISECOND, port];
  });
  const [moment, port] = moments.sort(([a], [b]) => a - b)[0]!;
  numbers.delete(port);
  return await poll("the moment", () => performance.now() >= moment && port, 60_000, 1);
}

/** How far a server's first number may be from the wanted one. */
const MARGIN = SIZE / 2;

const wrapAfter = (bytes: number) => (2 ** 32 - bytes) >>> 0;

/** A flow in which the numbers of both ends wrap after about `distance` bytes. */
async function openAt(
  twins: Twins,
  numbers: Map<number, (time: number) => number>,
  name: string,
  distance: number,
): Promise<Flow> {
  const wanted = wrapAfter(distance);
  const prepare = (socket: TcpSocket) => socket.startAt(wanted);
  // A machine that is busy misses the moment.
  for (let attempt = 0; attempt < 40; attempt++) {
    const flow = await twins.open(name, prepare, await portAt(numbers, wanted));
    const off = ((await flow.tracked())!.iss - wanted) | 0;
    if (Math.abs(off) < MARGIN) return flow;
    flow.client.reset();
    await poll("the end of a flow", async () => await flow.tracked() === undefined);
  }
  assert.fail(`No flow begins at ${wanted}`);
}

onStage(
  "shape: sequence numbers that wrap, in either direction, before and after the takeover",
  async (stage) => {
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS);
    const startAt = (bytes: number) => (socket: TcpSocket) => socket.startAt(wrapAfter(bytes));
    // The client's number wraps with its SYN, in shadow mode, and after the takeover.
    const flows = [
      await twins.open("SYN", startAt(1)),
      await twins.open("SYN and a byte", startAt(2)),
      await twins.open("upload", startAt(SIZE / 2)),
      await twins.open("upload after the takeover", startAt(SIZE + SIZE / 2)),
    ];
    // Both ends' numbers wrap in the first download, and in the one after the takeover.
    const numbers = await firstNumbers(twins);
    flows.push(await openAt(twins, numbers, "download after the takeover", SIZE + MARGIN));
    flows.push(await openAt(twins, numbers, "download", MARGIN));
    for (const flow of flows) await exchange(flow);
    assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
    assert.equal((await stage.failOver()).flows, flows.length);
    await Promise.all(flows.map((flow) => flow.goesOn(SIZE)));
    for (const flow of flows) await flow.ends();
  },
);
