/**
 * What many BFD sessions in one process cost: the share of one processor, and how many of them stayed up. The watcher
 * has one processor, the responder another one. Then the same while strangers flood the watcher. Needs root.
 *
 *     deno task bench:bfd [SESSIONS [SECONDS]]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { UdpSocket } from "../../ffi/udp.ts";
import type { Event } from "../../lib/event.ts";
import { emptyPacket, encode, State } from "../../lib/bfd/packet.ts";
import { addressBytes } from "../../lib/detect/network.ts";
import { type Process, TwoHosts } from "../netns/two_hosts.ts";

/** Packets a second of the flood. */
const FLOOD = 20_000;

if (Deno.args[0] === "flood") await flood();

const sessions = Number(Deno.args[0] ?? 1000);
const seconds = Number(Deno.args[1] ?? 20);
const INTERVAL = ["--interval", "300", "--multiplier", "3"];
const TICKS_PER_SECOND = 100;

/** Sends packets that ask for a session to 10.99.0.1 until it is killed. */
async function flood(): Promise<never> {
  const socket = UdpSocket.open({ family: 4, address: addressBytes("10.99.0.2"), ttl: 255 });
  const to = { address: addressBytes("10.99.0.1"), port: 3784, scopeId: 0 };
  const bytes = new Uint8Array(24);
  encode({ ...emptyPacket(), state: State.Down, detectMult: 3, myDiscriminator: 1 }, bytes);
  const start = performance.now();
  for (let sent = 0;;) {
    for (const due = (performance.now() - start) / 1000 * FLOOD; sent < due; sent++) {
      socket.send(bytes, to);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Seconds of processor time that a process has used. */
function used({ pid }: Process): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function count({ events }: Process, type: string, from = 0): number {
  return events.slice(from).filter((event) => event.type === type).length;
}

function up(stats: Event): number {
  return (stats.sessions as { state: string }[]).filter(({ state }) => state === "Up").length;
}

/** Lets time pass and prints what it cost. */
async function measure(name: string, watcher: Process, responder: Process): Promise<void> {
  const seen = watcher.events.length;
  const before = [used(watcher), used(responder)];
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const elapsed = (performance.now() - start) / 1000;
  const share = [watcher, responder].map((process, i) =>
    `${((used(process) - before[i]!) / elapsed * 100).toFixed(1)} %`
  );
  const stats = await watcher.next("stats", watcher.events.length);
  const bad = ["suspect", "failed"].map((type) => `${type} ${count(watcher, type, seen)}`);
  console.log(
    `${name}: watcher ${share[0]} of a processor, responder ${share[1]}; ` +
      `up ${up(stats)} of ${sessions}, ${bad.join(", ")}`,
  );
  const discarded = (await responder.next("stats", responder.events.length)).discarded;
  console.log(`  discarded: ${JSON.stringify(stats.discarded)} ${JSON.stringify(discarded)}`);
}

await TwoHosts.with(async (hosts) => {
  const addresses = Array.from({ length: sessions }, (_, i) => `10.98.${i >> 8}.${i & 255}`);
  const batch = await Deno.makeTempFile();
  const lines = addresses.map((address) => `address add ${address}/32 dev lo`);
  await Deno.writeTextFile(batch, lines.join("\n"));
  await hosts.output("b", "ip", "-batch", batch);
  await Deno.remove(batch);
  await hosts.output("a", "ip", "route", "add", "10.98.0.0/16", "via", "10.99.0.2");
  const stats = ["--stats", "1"];
  const bound = ["--max-sessions", String(sessions)];
  const responder = hosts.start("b", "detect", "--respond", ...bound, ...stats);
  await responder.next("started");
  const peers = addresses.flatMap((address) => ["--peer", address]);
  const start = performance.now();
  const watcher = hosts.start("a", "detect", ...INTERVAL, ...stats, ...peers);
  await watcher.next("started");
  await hosts.output("a", "taskset", "-a", "-p", "-c", "0", String(watcher.pid));
  await hosts.output("b", "taskset", "-a", "-p", "-c", "1", String(responder.pid));
  while (count(watcher, "up") < sessions) {
    if (performance.now() - start > 30_000) throw new Error(`Up: ${count(watcher, "up")}`);
    await watcher.next("stats", watcher.events.length);
  }
  console.log(`${sessions} sessions up after ${Math.round(performance.now() - start)} ms`);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  console.log(`load ${Deno.loadavg().map((load) => load.toFixed(1)).join(" ")}`);
  await measure("300 ms x 3", watcher, responder);
  const argv = [Deno.execPath(), "run", "-A", fileURLToPath(import.meta.url), "flood"];
  const strangers = hosts.command("b", argv).spawn();
  try {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    await measure(`${FLOOD} strange packets a second`, watcher, responder);
  } finally {
    strangers.kill("SIGKILL");
    await strangers.status;
  }
});
