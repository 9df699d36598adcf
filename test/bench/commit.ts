/**
 * What output commit costs: round trips of small messages with and without it, in turn, in two labs that stand side by
 * side; and uploads at full speed, each in a lab of its own. Needs root and the lab's packages.
 *
 * The servers' programs are this process: it answers on both hosts as soon as a message is there, so that what is
 * measured is the way of the segments.
 *
 *     deno task bench:commit [ROUNDS]
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { spread } from "../../lib/lab/flows.ts";
import { median } from "../../lib/lab/measure.ts";
import { ROUTES } from "../../lib/lab/topology.ts";
import type { TcpSocket } from "../fixture/socket.ts";
import { Stage } from "../netns/stage.ts";
import { type Flow, noise, TWINS, Twins } from "../netns/twins.ts";

const MESSAGE = 64;
const MESSAGES_PER_ROUND = 200;
const UPLOAD = "200M";
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));

/** Takes one message; spins, since a wait would take longer than what is measured. */
function take(...sockets: TcpSocket[]): void {
  const waiting = new Map(sockets.map((socket) => [socket, MESSAGE]));
  const end = performance.now() + 10_000;
  while (waiting.size > 0) {
    for (const [socket, left] of waiting) {
      const got = socket.tryReceive(left)?.length;
      if (got === left) waiting.delete(socket);
      else if (got !== undefined) waiting.set(socket, left - got);
    }
    if (performance.now() > end) throw new Error("A message got lost");
  }
}

/** What a flow's messages took, in microseconds: until the answer, and until the client's bytes were acknowledged. */
interface Times {
  answered: number[];
  acknowledged: number[];
}

function converse({ client, primary, replica }: Flow, times: Times): void {
  const message = noise(MESSAGE);
  for (let i = 0; i < MESSAGES_PER_ROUND; i++) {
    const start = performance.now();
    client.trySend(message);
    take(primary);
    primary.trySend(message);
    take(client);
    times.answered.push((performance.now() - start) * 1000);
    while (client.unacknowledged > 0);
    times.acknowledged.push((performance.now() - start) * 1000);
    take(replica);
    replica.trySend(message);
  }
}

/** Protects the service of a stage, and opens a flow. */
async function protect(stage: Stage, twins: Twins, ...flags: string[]): Promise<Flow> {
  const { via, metrics } = ROUTES.find(({ role }) => role === "backup")!;
  const route = ["default", "via", via[4], ...metrics.split(" "), "quickack", "1"];
  await stage.output("backup", "ip", "route", "replace", ...route);
  await stage.shadow("--service", TWINS, ...flags);
  await stage.mirror("--service", TWINS, ...flags);
  return await twins.open("bench");
}

async function upload(...args: string[]): Promise<number> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", main, "lab", "run", "--json", "--workload", "upload"],
      ...["--size", UPLOAD, "--rate", "0", "--failure", "none", ...args],
    ],
    stderr: "inherit",
  }).output();
  const last = new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1) ?? "";
  const result = JSON.parse(last);
  if (!result.ok) throw new Error(`The upload failed: ${last}`);
  return result.throughput;
}

const rounds = Number(Deno.args[0] ?? 10);
const without: Times = { answered: [], acknowledged: [] };
const committed: Times = { answered: [], acknowledged: [] };
await Stage.with(async (one) => {
  await Stage.with(async (other) => {
    using twinsOne = new Twins(one);
    using twinsOther = new Twins(other);
    const pairs = [
      [await protect(one, twinsOne), without],
      [await protect(other, twinsOther, "--commit"), committed],
    ] as const;
    // What is not compiled yet is not to be measured.
    for (const [flow] of pairs) converse(flow, { answered: [], acknowledged: [] });
    for (let round = 0; round < rounds; round++) {
      for (const [flow, times] of round % 2 === 0 ? pairs : pairs.toReversed()) {
        converse(flow, times);
      }
    }
  });
});
const speed = { without: [] as number[], committed: [] as number[] };
for (let round = 1; round <= rounds; round++) {
  console.error(`upload ${round} of ${rounds}`);
  const tasks = [
    async () => speed.without.push(await upload()),
    async () => speed.committed.push(await upload("--commit")),
  ];
  // Every other round the other way round, so that no figure profits from its place.
  for (const task of round % 2 === 0 ? tasks.toReversed() : tasks) await task();
}

const micros = (durations: readonly number[]): string => {
  const { p50, p99 } = spread(durations);
  return [p50, p99].map((value) => String(Math.round(value! * 1000)).padStart(8)).join("");
};
const megabytes = (values: readonly number[]): string =>
  (median(values)! / 1e6).toFixed(1).padStart(8);
const ratio = median(speed.committed.map((value, i) => value / speed.without[i]!))!;
console.log(`${rounds * MESSAGES_PER_ROUND} messages of ${MESSAGE} bytes, us     p50     p99
answered, without           ${micros(without.answered)}
answered, with --commit     ${micros(committed.answered)}
acknowledged, without       ${micros(without.acknowledged)}
acknowledged, with --commit ${micros(committed.acknowledged)}
upload of ${UPLOAD} at full speed, MB/s, medians of ${rounds}
without                     ${megabytes(speed.without)}
with --commit               ${megabytes(speed.committed)}    ratio ${ratio.toFixed(3)}`);
