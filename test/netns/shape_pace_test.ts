import assert from "node:assert/strict";
import { PATIENCE, poll } from "../fixture/wait.ts";
import { assertSameBytes, onStage } from "./stage.ts";
import { noise, PORT, TWINS, Twins } from "./twins.ts";
import type { Process } from "./two_hosts.ts";

const CLIENT = "10.77.1.2";

/** The events of a client's port. */
const eventsOf = (process: Process, port: number, type: string) =>
  process.events.filter((event) => event.type === type && event.client === `${CLIENT}:${port}`);

onStage(
  "shape: a replica that reads nothing for a while catches up with its primary",
  async (stage) => {
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS);
    const flow = await twins.open("slow");
    const half = noise(6 << 20);
    const send = async () => {
      const [, heard] = await Promise.all([
        flow.client.send(half),
        flow.primary.receive(half.length),
      ]);
      assertSameBytes(heard, half);
    };
    await send();
    await poll("a replica's kernel that has it all", async () => {
      const { primary_ack, replica_ack } = (await flow.tracked())!;
      return primary_ack === replica_ack;
    });
    assertSameBytes(await flow.replica.receive(half.length), half, "first half at the replica");
    await send();
    // It is behind still when it takes over.
    assert.equal((await stage.failOver()).flows, 1);
    assertSameBytes(await flow.replica.receive(half.length), half, "other half at the replica");
    for (const type of ["gap", "flow.unprotected", "flow.close"]) {
      assert.deepEqual(eventsOf(shadow, flow.port, type), []);
    }
    await flow.goesOn();
    await flow.ends();
  },
);

onStage(
  "shape: a replica that lacks bytes is reported, and its connection is reset at the takeover",
  async (stage) => {
    using twins = new Twins(stage, [PORT], (socket, role) => {
      if (role === "backup") socket.socket({ RCVBUF: 32_768 });
    });
    const { shadow } = await stage.protect(TWINS);
    const whole = await twins.open("whole");
    await whole.up(noise(1000));

    // The tap loses a segment.
    const gapped = await twins.open("gapped");
    await gapped.up("before");
    const wire = await stage.capture("primary");
    const lost = `oifname "backup" tcp dport ${PORT} tcp sport ${gapped.port} drop`;
    await twins.rule("gateway", "bridge output", lost);
    await gapped.client.send("lost");
    assert.equal(await gapped.primary.receiveText(4), "lost");
    await twins.mend();
    const gap = await poll("a gap", () => eventsOf(shadow, gapped.port, "gap")[0]);
    assert.equal((Number(gap.to) - Number(gap.from)) >>> 0, 4);
    const ack = await wire.find(
      "the primary's acknowledgement",
      (frame) =>
        frame.kind === "tcp" && frame.destinationPort === gapped.port && frame.ack === gap.to,
    );
    const late = Date.parse(gap.time) - ack.time / 1000;
    assert.ok(late < 2000, `the gap was reported ${late} ms after its acknowledgement`);
    await gapped.client.send("after");
    assert.equal(await gapped.primary.receiveText(5), "after");
    assert.equal(gapped.replica.tryReceive(9), undefined, "nothing beyond the gap");

    // The replica reads nothing, until it has room for nothing more.
    const stuck = await twins.open("stuck");
    const flood = noise(4 << 20);
    await Promise.all([stuck.client.send(flood), stuck.primary.receive(flood.length)]);
    const unprotected = await poll(
      "an unprotected flow",
      async () => {
        await stuck.client.send("x");
        await stuck.primary.receive(1);
        return eventsOf(shadow, stuck.port, "flow.unprotected")[0];
      },
      PATIENCE,
      100,
    );
    assert.match(String(unprotected.reason), /stopped following/);
    assert.ok(eventsOf(shadow, stuck.port, "lag").length > 2);
    const reports = shadow.events.filter(({ type }) => type === "flow.unprotected").length;
    assert.equal((await stage.stats()).flows_unprotected, reports);

    const takeover = stage.start("backup", "takeover", "--now", "--run-dir", stage.runDir);
    const active = await takeover.next("active");
    assert.deepEqual([active.flows, active.flows_behind, active.flows_lost], [2, 1, 1]);
    for (const { name, client, port } of [gapped, stuck]) {
      assert.equal(await client.fails(), "ECONNRESET", name);
      const close = await poll("its end", () => eventsOf(takeover, port, "flow.close")[0]);
      assert.match(String(close.reason), /reset at the takeover: the replica lacked \d+ bytes/);
    }
    await whole.goesOn();
    await whole.ends();
  },
);
