/**
 * The soak: short connections at a steady pace through mirror and shadow, for long, over both families and on few
 * ports, beside clients with a window of zero. When the time of TIME-WAIT has passed nothing may be left of them: no
 * entry of a map, no socket of a replica. Prints what was there meanwhile. Needs root and the lab's packages.
 *
 *     deno task bench:soak [SECONDS [RATE [TAP_LOSS_PERCENT]]]
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BpfMap } from "../../ffi/bpf_map.ts";
import { SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import { State } from "../fixture/socket.ts";
import { assertSameBytes, Stage, WEB } from "../netns/stage.ts";
import { noise, TWINS, Twins, TWINS6 } from "../netns/twins.ts";
import type { SoakCounts, SoakTask } from "./soak_client.ts";

const seconds = Number(Deno.args[0] ?? 600);
const rate = Number(Deno.args[1] ?? 1000);
const loss = Number(Deno.args[2] ?? 0);
const SIZE = 200;
/**
 * When nothing may be left: TIME-WAIT lasts 60 s on Linux; the sweeper looks every 10 s, and removes what it has seen
 * twice. Where the tap loses a close, the flow counts as half closed, and is kept for ten minutes.
 */
const DUE = (loss > 0 ? 600 : 60) + 10 + 10 + 10;
const ADDRESSES = [SERVICE_ADDRESSES[4], SERVICE_ADDRESSES[6]];
const MAPS = ["flows", "handshakes", "strangers"] as const;

interface Sample {
  flows: number;
  handshakes: number;
  strangers: number;
  sockets: number;
  timeWait: number;
  megabytes: number;
  /** Processor time in ms: of the shadow itself, and of the tools that it ran. */
  own: number;
  tools: number;
}

/** What is there at the moment. */
async function sample(stage: Stage, pid: number): Promise<Sample> {
  const entries = MAPS.map((name) => {
    using map = BpfMap.openPinned(join(stage.runDir, "bpf", "shadow", name));
    return map.entries().count;
  });
  const states = (await stage.output("backup", "ss", "-Htan")).split("\n")
    .map((line) => line.split(/\s/)[0]).filter((state) => state !== "" && state !== "LISTEN");
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  const ticks = (at: number): number => (Number(stat[at]) + Number(stat[at + 1])) * 10;
  return {
    flows: entries[0]!,
    handshakes: entries[1]!,
    strangers: entries[2]!,
    sockets: states.length,
    timeWait: states.filter((state) => state === "TIME-WAIT").length,
    megabytes: Number(/VmRSS:\s*(\d+)/.exec(status)![1]) / 1024,
    own: ticks(11),
    tools: ticks(13),
  };
}

const columns = [
  "s",
  "conn/s",
  "whole",
  "reset",
  "failed",
  "skipped",
  "flows",
  "handsh.",
  "strangers",
]
  .concat(["sockets", "TIME-WAIT", "MiB", "cpu %", "tools %", "unprot.", "load"]);

function row(cells: readonly (string | number)[]): void {
  console.log(cells.map((cell, i) => String(cell).padStart(columns[i]!.length)).join("  "));
}

/** Fills clients that do not read, so that their windows are zero. */
async function fill(twins: Twins): Promise<() => Promise<void>> {
  const all = noise(256 << 10);
  const ends: (() => Promise<void>)[] = [];
  for (const family of [4, 6] as const) {
    twins.family = family;
    const flow = await twins.open(
      `full, IPv${family}`,
      (socket) => socket.socket({ RCVBUF: 4096 }),
    );
    const sent = flow.primary.trySend(all) ?? 0;
    const held = flow.replica.trySend(all) ?? 0;
    ends.push(async () => {
      assert.equal(flow.replica.state, State.ESTABLISHED, flow.name);
      const [got] = await Promise.all([
        flow.client.receive(all.length),
        flow.primary.send(all.subarray(sent)),
        flow.replica.send(all.subarray(held)),
      ]);
      assertSameBytes(got, all, flow.name);
      for (const end of [flow.client, flow.primary, flow.replica]) end.close();
    });
  }
  return async () => {
    for (const end of ends) await end();
  };
}

/** The process of the shadow: what listens on its control socket is found by its lock. */
function shadowProcess(stage: Stage): number {
  return Number(Deno.readTextFileSync(join(stage.runDir, "shadow.lock")));
}

async function soak(stage: Stage): Promise<string[]> {
  await stage.webServers(SIZE);
  await stage.sysctl("client", "net.ipv4.tcp_tw_reuse=1");
  // Few ports, so that each 4-tuple comes again and again.
  await stage.output(
    "client",
    "sh",
    "-c",
    "echo 20000 32000 >/proc/sys/net/ipv4/ip_local_port_range",
  );
  using twins = new Twins(stage);
  const services = [WEB, `[${SERVICE_ADDRESSES[6]}]:80`, TWINS, TWINS6]
    .flatMap((service) => ["--service", service]);
  const shadow = await stage.shadow(...services);
  await stage.mirror(...services);
  const pid = shadowProcess(stage);
  const empty = await fill(twins);
  const task: SoakTask = { addresses: ADDRESSES, port: 80, rate, seconds, size: SIZE };
  const program = decodeURIComponent(new URL("soak_client.ts", import.meta.url).pathname);
  const [command, ...args] = stage.lab.inRole("client", [
    ...[Deno.execPath(), "run", "--quiet", "--no-config", "--no-lock", "--allow-net"],
    ...[program, JSON.stringify(task)],
  ]);
  if (loss > 0) {
    const rules = "table bridge soak { chain tap { type filter hook output priority 0; " +
      `oifname "backup" numgen random mod 1000 < ${Math.round(loss * 10)} drop; }; }`;
    await stage.output("gateway", "nft", rules);
  }
  const client = new Deno.Command(command!, { args, stdin: "null", stdout: "piped" }).spawn();
  let counts: SoakCounts = { begun: 0, whole: 0, reset: 0, failed: 0, skipped: 0 };
  let ended = false;
  const reading = (async () => {
    let text = "";
    for await (const chunk of client.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop()!;
      for (const line of lines) counts = JSON.parse(line);
    }
    await client.status;
    ended = true;
  })();
  row(columns);
  const start = performance.now();
  let last = await sample(stage, pid), at = start, begun = 0;
  let stats = await stage.stats();
  let left = Infinity;
  try {
    while (left > 0) {
      const next = at + (seconds < 120 ? 5000 : 15_000);
      while (performance.now() < next && (!ended || left < Infinity)) {
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      const now = performance.now(), elapsed = now - at;
      const found = await sample(stage, pid);
      stats = await stage.stats();
      const share = (a: number, b: number): string => ((b - a) / elapsed * 100).toFixed(1);
      row([
        ...[
          ((now - start) / 1000).toFixed(0),
          ((counts.begun - begun) / elapsed * 1000).toFixed(0),
        ],
        ...[counts.whole, counts.reset, counts.failed, counts.skipped],
        ...[found.flows, found.handshakes, found.strangers, found.sockets, found.timeWait],
        ...[found.megabytes.toFixed(0), share(last.own, found.own), share(last.tools, found.tools)],
        ...[stats.flows_unprotected!, Deno.loadavg()[0]!.toFixed(1)],
      ]);
      last = found, at = now, begun = counts.begun;
      if (ended && left === Infinity) {
        await empty();
        left = DUE;
      } else if (ended) left -= elapsed / 1000;
      if (ended && found.flows + found.handshakes + found.strangers + found.sockets === 0) break;
    }
  } finally {
    if (!ended) client.kill("SIGKILL");
    await reading;
  }
  const { flows, handshakes, strangers, sockets } = last;
  console.log(`counters: ${JSON.stringify(stats)}`);
  const others = shadow.events.filter(({ type }) => !["started", "stats"].includes(type));
  const kinds = Map.groupBy(others, ({ type, reason, message }) => `${type}: ${reason ?? message}`);
  for (const [kind, events] of kinds) console.log(`${events.length} x ${kind}`);
  if (counts.problem !== undefined) console.log(`first failure: ${counts.problem}`);
  return [
    ...[
      `${flows} flows`,
      `${handshakes} handshakes`,
      `${strangers} strangers`,
      `${sockets} sockets`,
    ]
      .filter((text) => !text.startsWith("0 ")).map((text) => `${text} are left`),
    ...(counts.failed > 0 ? [`${counts.failed} connections failed`] : []),
    ...(loss === 0 && stats.flows_unprotected! > 0
      ? [`${stats.flows_unprotected} flows had no replica`]
      : []),
    ...(stats.flows_opened !== stats.flows_closed! + stats.swept_flows!
      ? [`${stats.flows_opened} flows were opened, and fewer or more have gone`]
      : []),
  ];
}

let problems: string[] = ["it did not end"];
await Stage.with(async (stage) => {
  problems = await soak(stage);
});
console.log(problems.length === 0 ? "nothing is left" : problems.join("\n"));
if (problems.length > 0) Deno.exitCode = 1;
