/**
 * The primary's resets at the gateway: held back while there is time for a takeover, and passed on where none comes. And
 * what makes the gateway suspect the primary.
 */
import assert from "node:assert/strict";
import { constants } from "node:os";
import { formatEndpoint } from "../../lib/address.ts";
import { t2cp } from "../cli/t2cp.ts";
import { State, type TcpSocket } from "../fixture/socket.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";
import { onStage, SERVICE_ADDRESS, type Stage } from "./stage.ts";
import { noise, PORT, TWINS, Twins, TWINS6 } from "./twins.ts";
import type { Process } from "./two_hosts.ts";

const SERVICES = ["--service", TWINS, "--service", TWINS6];
/** A service without a server. */
const NOBODY = formatEndpoint(SERVICE_ADDRESS, PORT + 1);

async function protect(stage: Stage, ...flags: string[]): Promise<Process> {
  await stage.shadow(...SERVICES);
  return await stage.mirror(...SERVICES, ...flags);
}

/** What the mirror has counted of resets at its end; nothing is left out but zeros. */
async function counted(mirror: Process): Promise<Record<string, number>> {
  await mirror.end("SIGTERM");
  const stats = Object.entries(mirror.events.findLast(({ type }) => type === "stats")!);
  return Object.fromEntries(
    stats.filter(([name, value]) => name.startsWith("resets_") && value !== 0),
  ) as Record<string, number>;
}

/** Waits until the socket was reset. */
function wasReset(socket: TcpSocket): Promise<unknown> {
  return poll("a reset", () => socket.state === State.CLOSE);
}

onStage("resets: what a dying server resets, its client never hears of", async (stage) => {
  using twins = new Twins(stage);
  const mirror = await protect(stage, "--hold-resets", "30000");
  const wire = await stage.capture("eth0", "out", `tcp src port ${PORT}`);
  const tap = await stage.capture("backup", "out", `tcp src port ${PORT}`);
  const flows = [];
  for (twins.family of [4, 6] as const) {
    const flow = await twins.open(`IPv${twins.family}`);
    await flow.up(noise(10_000));
    await flow.down(noise(10_000));
    flow.primary.reset();
    // It goes on talking to a host that has forgotten it, which resets it once more.
    await flow.client.send("are you there?");
    flows.push(flow);
  }
  const takeover = stage.start("backup", "takeover", "--now", "--run-dir", stage.runDir);
  const active = await takeover.next("active");
  assert.deepEqual([active.flows, active.flows_lost], [flows.length, 0]);
  for (const flow of flows) {
    assert.equal(await flow.replica.receiveText(14), "are you there?");
    await flow.goesOn();
  }
  const { resets_dropped, resets_held, ...others } = await counted(mirror);
  assert.ok(resets_held! >= 2 * flows.length, `${resets_held} were held back`);
  assert.ok(resets_dropped! >= flows.length, `${resets_dropped} were dropped`);
  assert.deepEqual(others, {});
  for (const flow of flows) {
    await flow.goesOn();
    assert.equal(flow.client.error, 0);
  }
  const isReset = (frame: { kind: string; flags?: string }) => frame.flags?.includes("R") ?? false;
  assert.deepEqual((await wire.stop()).filter(isReset), [], "resets for the client");
  assert.deepEqual((await tap.stop()).filter(isReset), [], "resets for the replica");
});

onStage("resets: a living server's reset reaches client and replica later", async (stage) => {
  using twins = new Twins(stage);
  // With output commit, which has its own mind about the primary's segments.
  await stage.shadow(...SERVICES, "--commit");
  const flags = ["--commit", "--flows", "--hold-resets", "400"];
  const mirror = await stage.mirror(...SERVICES, ...flags);
  for (twins.family of [4, 6] as const) {
    const flow = await twins.open(`IPv${twins.family}`);
    await flow.up(noise(1000));
    const start = performance.now();
    const seen = mirror.events.length;
    flow.primary.reset();
    await wasReset(flow.client);
    const took = performance.now() - start;
    assert.ok(took >= 400, `it came after ${took} ms`);
    assert.equal(flow.client.error, constants.errno.ECONNRESET);
    await wasReset(flow.replica);
    assert.equal((await mirror.next("flow.close", seen)).reason, "reset by the primary");
  }
  assert.deepEqual(await counted(mirror), { resets_held: 2, resets_passed: 2 });
});

onStage("resets: a connection is refused at once, and opened anew after a reset", async (stage) => {
  using twins = new Twins(stage);
  const mirror = await protect(stage, "--hold-resets", "60000", "--service", NOBODY);
  const refused = twins.begin(undefined, undefined, PORT + 1).socket;
  await wasReset(refused);
  assert.equal(refused.error, constants.errno.ECONNREFUSED);

  const first = await twins.open("first");
  first.primary.reset();
  first.client.reset();
  const second = await twins.open("second", undefined, first.port);
  await second.up(noise(1000));
  await second.down(noise(1000));
  // Nor does the end of the mirror, which passes on what it holds back, bring up the old one.
  assert.deepEqual(await counted(mirror), { resets_held: 1 });
  await second.client.send("still there");
  assert.equal(await second.primary.receiveText(11), "still there");
});

onStage("resets: without its process the mirror lets the next one pass", async (stage) => {
  using twins = new Twins(stage);
  const mirror = await protect(stage, "--hold-resets", "500");
  const flow = await twins.open("orphan");
  await mirror.end("SIGKILL");
  const start = performance.now();
  flow.primary.reset();
  await poll(
    "a reset",
    () => {
      if (flow.client.state === State.ESTABLISHED) flow.client.trySend("?");
      return flow.client.state === State.CLOSE;
    },
    PATIENCE,
    50,
  );
  const took = performance.now() - start;
  assert.ok(took >= 500, `it came after ${took} ms`);

  // The next start finds what is held back, and passes it on; from then on all pass at once.
  const other = await twins.open("other"), last = await twins.open("last");
  other.primary.reset();
  const again = await stage.mirror(...SERVICES, "--hold-resets", "0");
  await wasReset(other.client);
  await wasReset(other.replica);
  last.primary.reset();
  await wasReset(last.client);
  assert.equal((await counted(again)).resets_passed, 2);
});

onStage("suspect: a burst of resets, and clients that nobody answers", async (stage) => {
  using twins = new Twins(stage);
  const limits = ["--unanswered", "400", "--resets", "8", "--target", "the primary"];
  const mirror = await protect(stage, "--service", NOBODY, ...limits);
  const of = (reason: string) =>
    mirror.events.filter((event) => event.type === "suspect" && event.reason === reason);

  for (let i = 0; i < 7; i++) await wasReset(twins.begin(undefined, undefined, PORT + 1).socket);
  const flows = [];
  for (twins.family of [6, 4] as const) {
    const flow = await twins.open(`IPv${twins.family}`);
    await flow.up(noise(10_000));
    await flow.down(noise(10_000));
    flows.push(flow);
  }
  const burst = await poll("a burst", () => {
    twins.begin(undefined, undefined, PORT + 1);
    return of("resets")[0];
  });
  assert.deepEqual([burst.target, burst.server], ["the primary", NOBODY]);
  assert.ok(Number(burst.count) >= 8, `${burst.count} resets`);

  for (const [index, flow] of flows.entries()) {
    // One flow of several is cut off; the others are answered.
    const mend = await twins.rule("primary", "netdev ingress eth0", `tcp sport ${flow.port} drop`);
    const start = Date.now();
    await flow.client.send("hello?");
    for (const other of flows) if (other !== flow) await other.up("fine");
    const suspect = await poll(
      "a suspicion",
      () =>
        of("unanswered").find(({ server, since }) =>
          server === (index === 0 ? TWINS6 : TWINS) && Date.parse(String(since)) >= start - 100
        ),
    );
    assert.equal(suspect.target, "the primary");
    assert.ok(Number(suspect.count) >= 1, `${suspect.count} wait`);
    await mend();
    assert.equal(await flow.primary.receiveText(6), "hello?");
    assert.equal(await flow.replica.receiveText(6), "hello?");
  }
  await mirror.end("SIGTERM");
  const stats = mirror.events.findLast(({ type }) => type === "stats")!;
  assert.ok(Number(stats.suspected_unanswered) >= 2);
  assert.ok(Number(stats.suspected_resets) >= 1);
});

Deno.test("suspect: a name for what is never said is refused", async () => {
  const hosts = ["--primary", "02:77:00:00:00:11", "--backup", "02:77:00:00:00:12"];
  const flags = ["--interface", "lo", ...hosts, "--service", TWINS, "--target", "primary"];
  const { status, stderr } = await t2cp("mirror", ...flags);
  assert.equal(status, 64);
  assert.match(stderr, /^t2cp mirror: Flag "--target" is of no use without "--unanswered" or/);
});
