/**
 * How flows begin and end in the recorder, and what becomes of their bytes.
 */
import assert from "node:assert/strict";
import { CloseReason, IDLE, LINGER } from "../../lib/recorder/recorder.ts";
import { BOTH_WAYS, type TestFlow, TestRecorder } from "../fixture/recorder.ts";
import { Bit } from "../fixture/segment.ts";

const MIB = 1 << 20;
const flow: TestFlow = { family: 4, port: 5000 };
const ISN = 2 ** 32 - 3;
const DATA = [1, 2, 3, 4, 5, 6, 7, 8];
/** The first sequence number behind the bytes. */
const END = ISN + 1 + DATA.length;

function begin(): TestRecorder {
  const test = new TestRecorder(4 * MIB, MIB);
  test.client(flow, { seq: ISN, flags: Bit.SYN });
  test.server(flow, { seq: 900, ack: ISN + 1 >>> 0, flags: Bit.SYN | Bit.ACK });
  assert.deepEqual(test.opened, []);
  test.data(flow, ISN + 1, DATA);
  assert.deepEqual(test.opened, [test.ends(flow).client]);
  return test;
}

/** The flow's bytes, as long as it is known. */
async function bytes(test: TestRecorder): Promise<number[] | undefined> {
  try {
    return (await test.fetch(flow, ISN + 1, DATA.length))[0];
  } catch {
    return undefined;
  }
}

Deno.test("recorder: an orderly end is one once both FINs are acknowledged, which are no bytes", async () => {
  const test = begin();
  test.client(flow, { seq: END >>> 0, ack: 901, flags: Bit.FIN | Bit.ACK });
  test.primaryAck(flow, END + 1);
  test.server(flow, { seq: 901, ack: END + 1 >>> 0, flags: Bit.FIN | Bit.ACK });
  assert.deepEqual(test.closed, []);
  test.client(flow, { seq: END + 1 >>> 0, ack: 902 });
  assert.deepEqual(test.closed, [[test.ends(flow).client, CloseReason.FIN]]);
  // The FIN is no byte.
  assert.equal(test.recorder.ledger.acknowledged, DATA.length);
  assert.equal(await test.replicaAck(flow, ISN + 3), 2);
  assert.equal(await test.replicaAck(flow, END + 1), DATA.length - 2);
  assert.equal(test.recorder.ledger.delivered, DATA.length);
});

Deno.test("recorder: the bytes of an ended flow linger for a while", async () => {
  const test = begin();
  test.client(flow, { seq: END >>> 0, flags: Bit.RST });
  test.recorder.tick(LINGER - 1);
  assert.deepEqual(await bytes(test), DATA);
  test.recorder.tick(LINGER);
  assert.equal(await bytes(test), undefined);
  const { ledger } = test.recorder;
  assert.deepEqual([ledger.held, ledger.dropped_closed], [0, DATA.length]);
  assert.deepEqual(test.dropped, []);
  assert.equal(test.recorder.table.size, 0);
});

Deno.test("recorder: a reset by either side ends a flow", () => {
  const byClient = begin();
  byClient.client(flow, { seq: END >>> 0, flags: Bit.RST });
  assert.equal(byClient.closed[0]![1], CloseReason.RESET_BY_CLIENT);
  const byServer = begin();
  byServer.server(flow, { seq: 901, flags: Bit.RST });
  assert.equal(byServer.closed[0]![1], CloseReason.RESET_BY_SERVER);
});

Deno.test("recorder: a flow whose reset nobody believed goes on, with all its bytes", async () => {
  const test = begin();
  test.client(flow, { seq: 12345, flags: Bit.RST });
  assert.equal(test.closed.length, 1);
  test.data(flow, END, [9]);
  assert.equal(test.opened.length, 2);
  test.recorder.tick(LINGER + 5);
  assert.deepEqual((await test.fetch(flow, ISN + 1, 9))[0], [...DATA, 9]);
});

Deno.test("recorder: a new connection on the same addresses and ports replaces the old one", async () => {
  const test = begin();
  const next = 77_000_000;
  test.client(flow, { seq: next, flags: Bit.SYN });
  // Only the primary's answer tells that it is one.
  assert.deepEqual(await bytes(test), DATA);
  test.server(flow, { seq: 5, ack: next + 1, flags: Bit.SYN | Bit.ACK });
  assert.deepEqual(test.closed, [[test.ends(flow).client, CloseReason.REPLACED]]);
  test.data(flow, next + 1, [42]);
  assert.deepEqual((await test.fetch(flow, next + 1, 1))[0], [42]);
  assert.equal((await bytes(test))![0], -1);
});

Deno.test("recorder: a repeated handshake and a repeated end change nothing", async () => {
  const test = begin();
  test.client(flow, { seq: ISN, flags: Bit.SYN });
  test.server(flow, { seq: 900, ack: ISN + 1 >>> 0, flags: Bit.SYN | Bit.ACK });
  test.client(flow, { seq: END >>> 0, ack: 901, flags: Bit.FIN | Bit.ACK });
  test.server(flow, { seq: 901, ack: END + 1 >>> 0, flags: Bit.FIN | Bit.ACK });
  for (let i = 0; i < 3; i++) test.client(flow, { seq: END + 1 >>> 0, ack: 902 });
  test.client(flow, { seq: END >>> 0, ack: 902, flags: Bit.FIN | Bit.ACK });
  test.data(flow, ISN + 1, DATA);
  assert.deepEqual([test.opened.length, test.closed.length], [1, 1]);
  assert.deepEqual(await bytes(test), DATA);
});

Deno.test("recorder: on an ended flow's addresses data from elsewhere begin a new flow", async () => {
  const test = begin();
  test.client(flow, { seq: END >>> 0, flags: Bit.RST });
  test.data(flow, END + 2 ** 30, [5]);
  assert.equal(test.opened.length, 2);
  assert.deepEqual((await test.fetch(flow, END + 2 ** 30, 1))[0], [5]);
});

Deno.test("recorder: data in a SYN stand behind it", async () => {
  const test = new TestRecorder(4 * MIB, MIB);
  test.client(flow, { seq: ISN, flags: Bit.SYN, payload: DATA });
  assert.deepEqual(await bytes(test), DATA);
});

Deno.test("recorder: a flow without a segment for long is given up", () => {
  const test = begin();
  test.recorder.tick(IDLE - 1);
  assert.deepEqual(test.closed, []);
  test.primaryAck(flow, END);
  test.recorder.tick(2 * IDLE - 2);
  assert.deepEqual(test.closed, []);
  test.recorder.tick(2 * IDLE - 1);
  assert.deepEqual(test.closed, [[test.ends(flow).client, CloseReason.IDLE]]);
  assert.equal(test.recorder.table.size, 0);
});

Deno.test("recorder: a full table takes new flows at the cost of ended and old ones", () => {
  const test = new TestRecorder(100_000, 20_000);
  const capacity = test.recorder.states.flags.length;
  const each = (port: number): TestFlow => ({ family: 6, port });
  for (let i = 0; i < capacity; i++) {
    test.recorder.tick(i);
    test.data(each(1000 + i), 1, [i]);
  }
  test.client(each(1005), { seq: 2, flags: Bit.RST });
  test.data(each(3000), 1, [1]);
  assert.equal(test.closed.at(-1)![0], test.ends(each(1005)).client);
  test.data(each(3001), 1, [1]);
  assert.deepEqual(test.closed.at(-1), [test.ends(each(1000)).client, CloseReason.EVICTED]);
  assert.equal(test.recorder.table.size, capacity);
  assert.equal(test.recorder.ledger.flows_evicted, 2);
});

Deno.test("recorder: dropped bytes are reported once, and again after the replica has got past them", async () => {
  const test = new TestRecorder(4 * MIB, 64 << 10);
  const block = Array<number>(32 << 10).fill(1);
  const send = (from: number, count: number): void => {
    for (let i = 0; i < count; i++) {
      test.data(flow, from + i * block.length, block);
      test.primaryAck(flow, from + (i + 1) * block.length);
    }
    test.recorder.tick(1);
  };
  send(0, 4);
  assert.equal(test.dropped.length, 1);
  const [, reasons] = await test.fetch(flow, 0, 4 * block.length);
  assert.deepEqual(reasons, ["dropped for the budget"]);
  send(4 * block.length, 4);
  assert.equal(test.dropped.length, 1);
  await test.replicaAck(flow, 8 * block.length);
  send(8 * block.length, 4);
  assert.equal(test.dropped.length, 2);
});

Deno.test("recorder: what lies far outside of the window is not kept", async () => {
  const test = new TestRecorder(4 * MIB, 64 << 10);
  test.data(flow, 1000, [1]);
  test.primaryAck(flow, 1001);
  for (const seq of [1001 + (64 << 10), 2 ** 31, 1000 - (65 << 10)]) test.data(flow, seq, [1, 2]);
  const { ledger } = test.recorder;
  assert.deepEqual([ledger.seen, ledger.outside + ledger.repeated], [1, 6]);
  assert.equal(test.recorder.holdings.store.used, 1);
  assert.deepEqual((await test.fetch(flow, 1000, 2))[0], [1, -1]);
});

Deno.test("recorder: between two services either is the other's client", async () => {
  const test = new TestRecorder(4 * MIB, MIB);
  const both: TestFlow = { family: 4, port: BOTH_WAYS };
  for (let i = 0; i < 3; i++) {
    test.data(both, 10 + i, [i]);
    test.server(both, { seq: 700 + i, ack: 11 + i, payload: [50 + i] });
  }
  const { client, server } = test.ends(both);
  assert.deepEqual(test.opened, [client, server]);
  assert.deepEqual(await test.fetch(both, 10, 3), [[0, 1, 2], []]);
  const range = { from: 700, to: 703, client: server, server: client };
  const [line] = await test.ask({ request: "fetch", ...range });
  assert.deepEqual(line, { segment: { seq: 700, data: btoa("\x32\x33\x34") } });
});
