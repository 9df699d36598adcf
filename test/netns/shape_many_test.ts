import assert from "node:assert/strict";
import { Bit, ipPacket, Next, tcpSegment } from "../fixture/segment.ts";
import { sendPackets, State } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import { onStage, SERVICE_ADDRESS } from "./stage.ts";
import { type Flow, noise, PORT, TWINS, Twins } from "./twins.ts";

const CONNECTIONS = 500;
const AT_ONCE = 50;
/** More than the backup remembers of handshakes. */
const SYNS = 20_000;

/** A connection in which both ends have spoken. */
async function talk(twins: Twins, name: string): Promise<Flow> {
  const flow = await twins.open(name);
  await flow.up("question");
  await flow.down("answer");
  return flow;
}

onStage("shape: many short connections leave nothing on the backup", async (stage) => {
  using twins = new Twins(stage);
  const { shadow } = await stage.protect(TWINS);
  const wire = await stage.capture("backup");
  const kept = await twins.open("kept");
  const connection = async (index: number) => {
    const { client, primary, replica } = await talk(twins, `connection ${index}`);
    if (index % 2 === 0) {
      client.close();
      for (const server of [primary, replica]) {
        assert.equal((await server.receive(1)).length, 0);
        server.close();
      }
    } else {
      for (const server of [replica, primary]) server.finish();
      await client.enters(State.CLOSE_WAIT);
      // It acknowledges the server's FIN at once, and so apart from its own.
      client.tcp({ QUICKACK: 1 });
      await primary.enters(State.FIN_WAIT2);
      for (const end of [client, primary, replica]) end.close();
    }
  };
  for (let i = 0; i < CONNECTIONS; i += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => connection(i + index)));
  }
  await poll("no flow but one", async () => (await stage.stats()).flows === 1);
  await poll("no socket but one", async () => {
    const sockets = await stage.sockets("backup", PORT);
    return sockets.length === 1;
  });
  const stats = await stage.stats();
  assert.equal(stats.flows_opened, CONNECTIONS + 1);
  assert.equal(stats.flows_closed, CONNECTIONS);
  await stage.assertSilent(wire);
  assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
  assert.equal((await stage.failOver()).flows, 1);
  await kept.goesOn();
});

/** SYNs to the service from addresses that do not exist. */
function* flood(from: number, to: number): Generator<Uint8Array<ArrayBuffer>> {
  for (let i = from; i < to; i++) {
    const ends = { source: `198.18.${i >> 8 & 255}.${i & 255}`, destination: SERVICE_ADDRESS };
    const segment = tcpSegment(ends.source, ends.destination, {
      sourcePort: 1024 + i % 60_000,
      destinationPort: PORT,
      seq: Math.imul(i, 0x9e3779b1) >>> 0,
      flags: Bit.SYN,
      options: [2, 4, 5, 0xb4],
    });
    yield Uint8Array.from(ipPacket({ ...ends, protocol: Next.TCP }, segment));
  }
}

onStage("shape: a flood of SYNs pushes out no established flow", async (stage) => {
  using twins = new Twins(stage);
  const { shadow } = await stage.protect(TWINS);
  const wire = await stage.capture("backup");
  const flows = [await twins.open("idle"), await twins.open("busy")];
  const [idle, busy] = flows;
  await idle!.up("hello");
  const copied = async () => {
    const text = await stage.output("gateway", "ip", "-s", "-j", "link", "show", "backup");
    return JSON.parse(text)[0].stats64.tx.packets as number;
  };
  const before = await copied();
  // A kernel that has much else to do drops some of them.
  for (let sent = 0; await copied() - before < SYNS; sent += 2000) {
    assert.ok(sent < 3 * SYNS, "the backup sees the flood");
    sendPackets(twins.namespace("client"), flood(sent, sent + 2000));
    await busy!.up(noise(10_000));
    await busy!.down(noise(10_000));
  }
  assert.equal((await stage.stats()).flows, flows.length);
  const during = await twins.open("after the flood");
  await during.up("hello");
  await stage.assertSilent(wire);
  assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
  assert.equal((await stage.stats()).flows, flows.length + 1);
  assert.equal((await stage.failOver()).flows, flows.length + 1);
  for (const flow of [...flows, during]) await flow.goesOn();
});
