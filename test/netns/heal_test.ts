/**
 * Healing in the lab: what the tap loses, the replica gets from the recorder.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { poll } from "../fixture/wait.ts";
import { hostAddress } from "../../lib/lab/topology.ts";
import { isRoot, labEvents, withLab } from "./lab.ts";
import { assertSameBytes, ECHO, onStage, type Stage } from "./stage.ts";
import { noise, PORT, TWINS, Twins, TWINS6 } from "./twins.ts";
import type { Process } from "./two_hosts.ts";

const AT_TAP = "bridge output";
/** The copies of what a client's port sends. */
const copies = (port: number) => `oifname "backup" tcp dport ${PORT} tcp sport ${port}`;
/** And of what it is sent. */
const answers = (port: number) => `oifname "backup" tcp sport ${PORT} tcp dport ${port}`;

const SERVICES = ["--service", TWINS, "--service", TWINS6];

/** Starts the recorder on the gateway. */
async function startRecorder(stage: Stage, services = SERVICES): Promise<Process> {
  const recorder = stage.start(
    ...["gateway", "record", "--interface", "br0", ...services] as const,
    ...["--backup", hostAddress("backup", 4), "--budget", "32M", "--window", "16M"],
    ...["--run-dir", stage.lab.roleDirectory("gateway")],
  );
  await recorder.next("started");
  return recorder;
}

/** Starts shadow and healer in a pipe, and the mirror. */
async function startHealing(stage: Stage): Promise<Process> {
  const recorder = join(stage.lab.roleDirectory("gateway"), "record.sock");
  const pipe = stage.startPipe(
    "backup",
    stage.shadowArgs(...SERVICES),
    ["replay", "--heal", "--recorder", recorder, "--run-dir", stage.runDir],
  );
  await poll(
    "both to start",
    () => pipe.events.filter(({ type }) => type === "started").length === 2,
  );
  await stage.mirror(...SERVICES);
  return pipe;
}

/** Ends the shadow, whose pipe then ends, and returns the healer's status and last counters. */
async function endOf(stage: Stage, pipe: Process) {
  const pid = Number(await Deno.readTextFile(join(stage.runDir, "shadow.lock")));
  Deno.kill(pid, "SIGTERM");
  const { code } = await pipe.status;
  const last = await poll(
    "the last counters",
    () => pipe.events.findLast(({ type, by }) => type === "stats" && by === "replay"),
  );
  return { code, last };
}

onStage(
  "heal: bytes and FINs that the tap loses reach the replica, in both families",
  async (stage) => {
    using twins = new Twins(stage);
    await startRecorder(stage);
    const pipe = await startHealing(stage);
    for (const family of [4, 6] as const) {
      twins.family = family;
      const flow = await twins.open(`IPv${family}`);
      await flow.up("before");
      for (const size of [1, 4000, 200_000]) {
        const mend = await twins.rule(
          "gateway",
          AT_TAP,
          `${copies(flow.port)} tcp flags & (syn|fin) == 0 numgen random mod 2 == 0 drop`,
        );
        // At least one is lost: the client's bare acknowledgements are copies, too.
        await Promise.all([flow.up(noise(size)), flow.down(noise(5000))]);
        await flow.up(noise(size));
        await mend().catch(() => {});
      }
      await flow.up(noise(100_000));
      const mend = await twins.rule(
        "gateway",
        AT_TAP,
        `${copies(flow.port)} tcp flags & fin == fin drop`,
      );
      flow.client.finish();
      assert.equal((await flow.primary.receive(1)).length, 0);
      assert.equal((await flow.replica.receive(1)).length, 0, "the replica's end of the upload");
      await mend();
    }
    const { code, last } = await endOf(stage, pipe);
    assert.equal(code, 0, pipe.stderr);
    assert.deepEqual([last.lost_bytes, last.healing], [0, 0]);
    const healed = pipe.events.filter(({ type }) => type === "healed");
    assert.equal(last.healed, healed.length);
    assert.ok(healed.length >= 2, "the FINs at least");
    assert.ok(pipe.events.some(({ type }) => type === "gap"), "the shadow's events pass through");
    assert.ok(Number(last.kernel_gaps) >= 2, "and the kernel told of the gaps, too");
  },
);

onStage("heal: a replica that had no room for what its client sent is caught up", async (stage) => {
  await stage.sysctl("backup", "net.ipv4.tcp_rmem=4096 32768 65536");
  using twins = new Twins(stage);
  await startRecorder(stage);
  const pipe = await startHealing(stage);
  const flow = await twins.open("slow replica");
  const sent = noise(3_000_000);
  await Promise.all([flow.client.send(sent), flow.primary.receive(sent.length)]);
  // The replica's server has read nothing so far.
  assertSameBytes(await flow.replica.receive(sent.length), sent);
  assert.deepEqual(pipe.events.filter(({ type }) => type === "flow.unprotected"), []);
});

onStage(
  "heal: the primary fails while replicas lack what it has acknowledged, and the healer is at rest",
  async (stage) => {
    using twins = new Twins(stage);
    await startRecorder(stage);
    const pipe = await startHealing(stage);
    const flows = [await twins.open("first"), await twins.open("second")];
    for (const flow of flows) await flow.up(noise(50_000));
    const healer = Number(await Deno.readTextFile(join(stage.runDir, "replay.lock")));
    Deno.kill(healer, "SIGSTOP");
    const tails = flows.map(() => noise(30_000));
    try {
      for (const [i, flow] of flows.entries()) {
        // Of the second one, the primary's acknowledgements are lost on the tap, too.
        const lost = [copies(flow.port), ...(i === 1 ? [answers(flow.port)] : [])];
        for (const which of lost) await twins.rule("gateway", AT_TAP, `${which} drop`);
        await Promise.all([flow.client.send(tails[i]!), flow.primary.receive(tails[i]!.length)]);
        await poll("the client to know", () => flow.client.unacknowledged === 0);
      }
      await stage.lab.failHost();
      await twins.mend();
      const takeover = stage.start("backup", "takeover", "--now", "--run-dir", stage.runDir);
      const active = await takeover.next("active");
      assert.deepEqual([active.flows, active.flows_lost], [2, 0]);
      // Nobody but the recorder knows of the second one's bytes: it is kept until the healer has asked.
      await delay(1000);
      assert.equal((await stage.flows()).length, 2);
    } finally {
      Deno.kill(healer, "SIGCONT");
    }
    for (const [i, flow] of flows.entries()) {
      assertSameBytes(await flow.replica.receive(tails[i]!.length), tails[i]!, flow.name);
      await flow.goesOn();
      await flow.ends();
    }
    const { code, last } = await endOf(stage, pipe);
    assert.equal(code, 0, pipe.stderr);
    assert.equal(last.lost_bytes, 0);
  },
);

onStage("heal: bytes that the recorder does not have are lost, and said so", async (stage) => {
  using twins = new Twins(stage);
  // It records another service only.
  await startRecorder(stage, ["--service", ECHO]);
  const pipe = await startHealing(stage);
  const flow = await twins.open("unrecorded");
  await flow.up("before");
  await twins.rule("gateway", AT_TAP, `${copies(flow.port)} drop`);
  await Promise.all([flow.client.send(noise(1000)), flow.primary.receive(1000)]);
  await pipe.next("gap");
  const { client, reason, by } = await pipe.next("flow.unprotected");
  assert.deepEqual([client, by], [`10.77.1.2:${flow.port}`, "replay"]);
  assert.match(String(reason), /^the recorder lacks 1000 bytes of the client: .* is not known/);
  const { code, last } = await endOf(stage, pipe);
  assert.equal(code, 69);
  assert.equal(last.lost_bytes, 1000);
  assert.match(pipe.stderr, /t2cp replay: 1000 bytes of the clients are lost for the replicas;/);
  const reports = pipe.events.filter(({ type }) => type === "flow.unprotected");
  assert.equal(reports.length, 1);
  await twins.mend();
});

Deno.test({
  name: "heal: an upload whose copies get lost, and all of them just before the cut, survives it",
  ignore: !isRoot,
  fn: () =>
    withLab(async (lab) => {
      const events = await labEvents(
        ...["lab", "run", "--json", ...lab.flags, "--workload", "upload", "--size", "20M"],
        ...["--rate", "40", "--tap-loss", "3%", "--tap-blackout", "20"],
      );
      const result = events.at(-1)!;
      assert.deepEqual([result.ok, result.sha256_equal], [true, true]);
      const { dropped, healed, healed_bytes, lost_bytes } = result.healing as Record<
        string,
        number
      >;
      assert.ok(dropped! > 0 && healed! > 0 && healed_bytes! > 0, JSON.stringify(result.healing));
      assert.equal(lost_bytes, 0);
    }),
});
