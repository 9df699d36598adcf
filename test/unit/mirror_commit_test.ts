import assert from "node:assert/strict";
import fc from "fast-check";
import { FLOW_KEY } from "../../lib/flow/layout.ts";
import { COMMIT } from "../../lib/mirror/layout.ts";
import { probeFrame } from "../../lib/mirror/commit.ts";
import { type Ends, flowKey } from "../fixture/bpf.ts";
import { Bit, readSegment } from "../fixture/segment.ts";

const macs = {
  primary: Uint8Array.of(2, 0, 0, 0, 0, 1),
  own: Uint8Array.of(2, 0, 0, 0, 0, 2),
};
const families: readonly Ends[] = [
  { client: "10.77.1.2", clientPort: 40_000, server: "10.77.0.100", serverPort: 80 },
  {
    client: "fd77:1:0:0:0:0:0:2",
    clientPort: 40_000,
    server: "fd77:0:0:0:0:0:0:100",
    serverPort: 80,
  },
];

Deno.test("mirror: a probe is a sound segment of the client with one byte that is old", () => {
  const numbers = fc.record({
    iss: fc.nat(0xffffffff),
    told: fc.oneof(fc.nat(0xffffffff), fc.nat(3)),
    family: fc.nat(1),
    before: fc.nat(3),
  });
  fc.assert(fc.property(numbers, ({ iss, told, family, before }) => {
    const ends = families[family]!;
    const keys = new Uint8Array((before + 1) * FLOW_KEY.size);
    keys.set(flowKey(ends), before * FLOW_KEY.size);
    const values = new DataView(new ArrayBuffer((before + 1) * COMMIT.size));
    const at = before * COMMIT.size;
    values.setUint32(at + COMMIT.iss, iss, true);
    values.setUint32(at + COMMIT.told_ack, told, true);
    const place = { keys: new DataView(keys.buffer), keyAt: before * FLOW_KEY.size, values, at };
    const { at: _, tos, window, timestamps, ...segment } = readSegment(probeFrame(place, macs));
    assert.deepEqual([tos, window, timestamps], [0, 0, undefined]);
    assert.deepEqual(segment, {
      destinationMac: [...macs.primary],
      sourceMac: [...macs.own],
      tags: [],
      source: ends.client,
      destination: ends.server,
      sourcePort: ends.clientPort,
      destinationPort: ends.serverPort,
      seq: (told - 2) >>> 0,
      ack: (iss + 1) >>> 0,
      flags: Bit.ACK,
      payload: [0],
      ipChecksum: true,
      tcpChecksum: true,
      padding: 0,
    });
  }));
});
