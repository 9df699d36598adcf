/**
 * Output commit from end to end: what is on the client's wire, and what is left when copies, the backup or the primary
 * are lost.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BpfMap } from "../../ffi/bpf_map.ts";
import { ETHERTYPE_COMMIT } from "../../lib/flow/layout.ts";
import { COMMIT } from "../../lib/mirror/layout.ts";
import { after } from "../../lib/flow/sequence.ts";
import { t2cp } from "../cli/t2cp.ts";
import { flowKey } from "../fixture/bpf.ts";
import { parseFrame, type TcpFrame } from "../fixture/frame.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";
import type { Captured } from "./capture.ts";
import { assertSameBytes, onStage, SERVICE_ADDRESS, type Stage } from "./stage.ts";
import { type Flow, noise, PORT, TWINS, Twins } from "./twins.ts";
import type { Process } from "./two_hosts.ts";

/** Starts `shadow` and `mirror` with output commit. */
async function protect(
  stage: Stage,
  ...flags: string[]
): Promise<{ shadow: Process; mirror: Process }> {
  const service = ["--service", TWINS, "--commit"];
  const shadow = await stage.shadow(...service);
  return { shadow, mirror: await stage.mirror(...service, ...flags) };
}

const typesOf = (process: Process): string[] => process.events.map(({ type }) => type);

/** Every twentieth copy of the clients' segments is lost. */
const LOSS = `oifname "backup" tcp dport ${PORT} numgen inc mod 20 == 7 drop`;

/** The client uploads, and both servers read it all. */
async function upload(flow: Flow, size: number): Promise<void> {
  const data = noise(size);
  const [, primary, replica] = await Promise.all([
    flow.client.send(data),
    flow.primary.receive(size),
    flow.replica.receive(size),
  ]);
  assertSameBytes(primary, data, "upload at the primary");
  assertSameBytes(replica, data, "upload at the replica");
}

/** What the commit frames of a capture say, as if they were of IPv4. */
function acknowledgements(frames: readonly Captured[]): { time: number; ack: number }[] {
  return frames.flatMap((frame) => {
    if (frame.kind !== "other" || frame.etherType !== ETHERTYPE_COMMIT) return [];
    const bytes = frame.bytes.slice();
    bytes.set([8, 0], 12);
    const segment = parseFrame(bytes);
    assert.ok(segment.kind === "tcp", "a commit frame holds the headers of a segment");
    return [{ time: frame.time, ack: segment.ack }];
  });
}

onStage(
  "commit: on the client's wire no acknowledgement is ahead of the replica's, whatever is lost",
  async (stage) => {
    using twins = new Twins(stage);
    const { mirror } = await protect(stage);
    const told = await stage.capture("backup", "in", `ether proto ${ETHERTYPE_COMMIT}`);
    const wire = await stage.capture("eth0", "out", `tcp src port ${PORT}`);
    const flow = await twins.open("lossy");
    await twins.rule("gateway", "bridge output", LOSS);
    await upload(flow, 12 << 20);
    await twins.mend();
    await flow.down(noise(1 << 20));
    flow.replica.close();
    flow.primary.close();
    assert.equal((await flow.client.receive(1)).length, 0);
    flow.client.close();
    // The cause is captured from before its effect to after it.
    const segments = await wire.stop();
    const last = segments.findLast((frame) => frame.kind === "tcp")!;
    await poll(
      "all that the replica told before",
      () => acknowledgements(told.frames).some(({ ack }) => !after((last as TcpFrame).ack, ack)),
    );
    const replica = acknowledgements(await told.stop());
    assert.ok(replica.length > 20, `${replica.length} commit frames`);
    let highest = 0, next = 0, seen = 0;
    for (const frame of segments) {
      assert.ok(frame.kind === "tcp");
      if (frame.flags.includes("S")) {
        highest = frame.ack;
        continue;
      }
      for (; next < replica.length && replica[next]!.time <= frame.time; next++) {
        if (after(replica[next]!.ack, highest)) highest = replica[next]!.ack;
      }
      seen += 1;
      assert.ok(!after(frame.ack, highest), `${frame.ack} before the replica's ${highest}`);
    }
    assert.ok(seen > 20, `${seen} segments`);
    assert.ok(!typesOf(mirror).includes("flow.unprotected"));
  },
);

onStage(
  "commit: an upload survives the primary though copies are lost and nobody heals",
  async (stage) => {
    using twins = new Twins(stage);
    const { mirror } = await protect(stage);
    await twins.rule("gateway", "bridge output", LOSS);
    const flow = await twins.open("survivor");
    const data = noise(24 << 20);
    const sending = flow.client.send(data);
    const received = flow.replica.receive(data.length);
    await flow.primary.receive(8 << 20);
    const active = await stage.failOver();
    await sending;
    assertSameBytes(await received, data, "upload at the replica");
    assert.deepEqual([active.flows, active.flows_lost], [1, 0]);
    assert.ok(!typesOf(mirror).includes("flow.unprotected"));
    await flow.goesOn();
  },
);

onStage("commit: a replica that reads slowly slows the client down", async (stage) => {
  using twins = new Twins(stage, [PORT], (socket, role) => {
    if (role === "backup") socket.socket({ RCVBUF: 65_536 });
  });
  const { mirror, shadow } = await protect(stage);
  const flow = await twins.open("slow");
  const data = noise(3 << 20);
  const sending = flow.client.send(data);
  const read = { primary: [] as Uint8Array[], replica: [] as Uint8Array[] };
  const count = { primary: 0, replica: 0 };
  let ahead = 0;
  const take = (role: "primary" | "replica", size: number) => {
    const bytes = flow[role].tryReceive(size);
    if (bytes === undefined) return;
    read[role].push(bytes);
    count[role] += bytes.length;
  };
  await poll(
    "the end of the upload",
    () => {
      take("primary", 1 << 20);
      take("replica", 32_768);
      ahead = Math.max(ahead, count.primary - count.replica);
      return count.primary === data.length && count.replica === data.length;
    },
    PATIENCE,
    5,
  );
  await sending;
  for (const role of ["primary", "replica"] as const) {
    assertSameBytes(new Uint8Array(await new Blob(read[role] as BlobPart[]).arrayBuffer()), data);
  }
  // What the replica's buffers hold, twice, and not the upload.
  assert.ok(ahead < 512 << 10, `the primary was ${ahead} bytes ahead`);
  assert.ok(!typesOf(mirror).includes("flow.unprotected"));
  assert.ok(!typesOf(shadow).includes("gap"));
});

/** What the gateway knows of a flow: whether its client hears the primary alone, and who has acknowledged how much. */
function committed(stage: Stage, flow: { port: number; address: string }) {
  const path = join(stage.lab.roleDirectory("gateway"), "bpf", "mirror", "commits");
  using map = BpfMap.openPinned(path);
  const value = new Uint8Array(COMMIT.size);
  const ends = { client: flow.address, clientPort: flow.port };
  const key = flowKey({ ...ends, server: SERVICE_ADDRESS, serverPort: PORT });
  if (!map.lookup(key, value)) return undefined;
  const view = new DataView(value.buffer);
  return {
    lifted: view.getUint32(COMMIT.lifted, true) !== 0,
    behind: view.getUint32(COMMIT.primary_ack, true) - view.getUint32(COMMIT.replica_ack, true),
  };
}

/** The client uploads, and the primary reads it, without a word of the replica's. */
async function alone(flow: Flow | Pick<Flow, "client" | "primary">, size: number): Promise<void> {
  const data = noise(size);
  const [, heard] = await Promise.all([flow.client.send(data), flow.primary.receive(size)]);
  assertSameBytes(heard, data, "upload at the primary");
}

onStage("commit: a backup that falls silent does not stop the service", async (stage) => {
  using twins = new Twins(stage);
  const { mirror } = await protect(stage, "--commit-timeout", "1000");
  const link = (state: string) => stage.output("gateway", "ip", "link", "set", "backup", state);
  const flow = await twins.open("first");
  await flow.up(noise(10_000));
  assert.equal(committed(stage, flow)?.lifted, false);

  await link("down");
  await alone(flow, 4 << 20);
  const { client, reason } = await mirror.next("flow.unprotected");
  assert.deepEqual([client, reason], [`${flow.address}:${flow.port}`, "the backup is silent"]);
  assert.match(String((await mirror.next("warning")).message), /^Nothing is heard from the backup/);
  // The next one that has to wait does so shortly; who only asks and gets answers does not wait at all.
  const fresh = twins.begin();
  await fresh.socket.connected();
  const primary = await twins.accept("primary", fresh.port);
  await alone({ client: fresh.socket, primary }, 1 << 20);
  await alone(flow, 1 << 20);

  await link("up");
  const again = await twins.open("again");
  await again.up(noise(10_000));
  assert.deepEqual(
    await poll("a flow that is committed again", () => {
      const state = committed(stage, again);
      return state?.behind === 0 && state;
    }),
    { lifted: false, behind: 0 },
  );
  assert.equal(typesOf(mirror).filter((type) => type === "warning").length, 1);

  // Without its process, too.
  await mirror.end("SIGKILL");
  await link("down");
  await alone(again, 4 << 20);
  assert.equal(committed(stage, again)?.lifted, true);
});

onStage("commit: a client that only waits is told in time, too", async (stage) => {
  using twins = new Twins(stage);
  const { mirror } = await protect(stage, "--commit-timeout", "1000");
  const flow = await twins.open("idle");
  await flow.up("all are there");
  await stage.output("gateway", "ip", "link", "set", "backup", "down");
  const wire = await stage.capture("eth0", "out", `tcp src port ${PORT}`);
  await flow.client.send("one more");
  assert.equal(await flow.primary.receiveText(8), "one more");
  const end = flow.primary.receiveNext;
  // What the client sends again must not be what the primary answers.
  await twins.rule("gateway", "netdev ingress eth0", `tcp sport ${flow.port} drop`);
  await wire.find("the acknowledgement", (frame) => frame.kind === "tcp" && frame.ack === end);
  assert.equal((await mirror.next("flow.unprotected")).reason, "the backup is silent");
});

onStage("commit: a primary that has failed too does not have the last word", async (stage) => {
  using twins = new Twins(stage);
  const { mirror } = await protect(stage, "--commit-timeout", "3000");
  const flow = await twins.open("both");
  await flow.up("all are there");
  const wire = await stage.capture("br0", "out", `tcp dst port ${PORT}`);
  // Without a link of any port the bridge would send nothing at all.
  await twins.rule("gateway", "netdev ingress backup", `ether type ${ETHERTYPE_COMMIT} drop`);
  await flow.client.send("one more");
  assert.equal(await flow.primary.receiveText(8), "one more");
  const end = flow.primary.receiveNext;
  await poll("the primary's acknowledgement", () => committed(stage, flow)?.behind === 8);
  await stage.lab.failHost();
  // It is asked for a segment, in vain.
  const old = (end - "one more".length - 2) >>> 0;
  const isProbe = (frame: Captured) => frame.kind === "tcp" && frame.seq === old;
  await poll("several probes", () => wire.frames.filter(isProbe).length > 2);
  assert.deepEqual(committed(stage, flow), { lifted: false, behind: 8 });
  assert.ok(!typesOf(mirror).includes("flow.unprotected"));
  assert.ok(flow.client.unacknowledged > 0);
});

Deno.test("commit: a timeout without output commit is refused", async () => {
  const hosts = ["--primary", "02:77:00:00:00:11", "--backup", "02:77:00:00:00:12"];
  const flags = ["--interface", "lo", ...hosts, "--service", TWINS, "--commit-timeout", "100"];
  const { status, stderr } = await t2cp("mirror", ...flags);
  assert.equal(status, 64);
  assert.match(stderr, /^t2cp mirror: Flag "--commit-timeout" is of no use without "--commit"/);
});
