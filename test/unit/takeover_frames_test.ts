import assert from "node:assert/strict";
import fc from "fast-check";
import { FLOW, FLOW_KEY, Option } from "../../lib/flow/layout.ts";
import {
  Flag,
  MAX_PAYLOAD,
  nobodysFrame,
  payloadRoom,
  SegmentFrames,
} from "../../lib/takeover/frames.ts";
import { parseFrame, type TcpFrame } from "../fixture/frame.ts";

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

Deno.test("frames: nobody's frame bears the EtherType for experiments, and is long enough", () => {
  const frame = nobodysFrame();
  assert.ok(frame.length >= 60, "the least an Ethernet frame has without its check sequence");
  assert.equal(hex(frame.subarray(12, 14)), "88 b5");
});

const octets = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const uint32 = fc.nat(0xffffffff);
const uint16 = fc.nat(0xffff);

/** The 16 bytes of an address of either family; those of IPv4 in their mapped form. */
const mapped = octets(4).map((bytes) => Uint8Array.of(...Array(10).fill(0), 255, 255, ...bytes));
const native = octets(16).map((bytes) => Uint8Array.of(0x20, ...bytes.subarray(1)));

const flows = fc.record({
  local: octets(6),
  remote: octets(6),
  ends: fc.oneof(fc.tuple(mapped, mapped), fc.tuple(native, native)),
  clientPort: uint16,
  serverPort: uint16,
  options: fc.nat(15),
  tsval: uint32,
  tsecr: uint32,
  toClient: fc.boolean(),
  flags: fc.constantFrom(Flag.ACK, Flag.RST, Flag.RST | Flag.ACK, Flag.ACK | Flag.FIN | Flag.PSH),
  payload: fc.uint8Array({ maxLength: 100 }),
  seq: uint32,
  ack: uint32,
  window: uint16,
  keyAt: fc.nat(80),
  flowAt: fc.nat(200),
  // What else stands in the record must not matter.
  noise: octets(FLOW.size),
});

type Made = typeof flows extends fc.Arbitrary<infer T> ? T : never;

function build(frames: SegmentFrames, made: Made): Uint8Array {
  const keys = new DataView(new ArrayBuffer(made.keyAt + FLOW_KEY.size));
  const values = new DataView(new ArrayBuffer(made.flowAt + FLOW.size));
  const key = new Uint8Array(keys.buffer, made.keyAt);
  const flow = new Uint8Array(values.buffer, made.flowAt);
  key.set(made.ends[0], FLOW_KEY.client);
  key.set(made.ends[1], FLOW_KEY.server);
  keys.setUint16(made.keyAt + FLOW_KEY.client_port, made.clientPort);
  keys.setUint16(made.keyAt + FLOW_KEY.server_port, made.serverPort);
  flow.set(made.noise);
  flow.set(made.local, FLOW.local_mac);
  flow.set(made.remote, FLOW.remote_mac);
  values.setUint8(made.flowAt + FLOW.options, made.options);
  values.setUint32(made.flowAt + FLOW.client_tsval, made.tsval, true);
  values.setUint32(made.flowAt + FLOW.client_tsecr, made.tsecr, true);
  return frames.build(keys, made.keyAt, values, made.flowAt, made);
}

const isIpv4 = (address: Uint8Array): boolean => address[0] === 0;

function shown(address: Uint8Array): string {
  if (isIpv4(address)) return address.subarray(12).join(".");
  const word = (i: number): number => address[i * 2]! << 8 | address[i * 2 + 1]!;
  return Array.from({ length: 8 }, (_, i) => word(i).toString(16)).join(":");
}

function check(frame: Uint8Array, made: Made): void {
  const reset = (made.flags & Flag.RST) !== 0;
  const timestamps = !reset && (made.options & Option.TIMESTAMPS) !== 0;
  const headers = 14 + (isIpv4(made.ends[0]) ? 20 : 40) + 20 + (timestamps ? 12 : 0);
  assert.equal(frame.length, headers + made.payload.length);
  const parsed = parseFrame(frame) as TcpFrame;
  assert.equal(parsed.kind, "tcp");
  const client = {
    mac: hex(made.remote).replaceAll(" ", ":"),
    address: shown(made.ends[0]),
    port: made.clientPort,
  };
  const service = {
    mac: hex(made.local).replaceAll(" ", ":"),
    address: shown(made.ends[1]),
    port: made.serverPort,
  };
  const [from, to] = made.toClient ? [service, client] : [client, service];
  assert.deepEqual([parsed.sourceMac, parsed.destinationMac], [from.mac, to.mac]);
  assert.deepEqual([parsed.source, parsed.destination], [from.address, to.address]);
  assert.deepEqual([parsed.sourcePort, parsed.destinationPort], [from.port, to.port]);
  assert.equal(parsed.seq, made.seq);
  assert.equal(parsed.ack, made.ack);
  assert.equal(parsed.window, made.window);
  assert.equal(parsed.flags, { 4: "R", 16: "A", 20: "RA", 25: "FPA" }[made.flags]);
  assert.equal(hex(parsed.payload), hex(made.payload));
  assert.deepEqual(
    parsed.timestamps,
    timestamps ? { value: made.tsval, echo: made.tsecr } : undefined,
  );
  assert.deepEqual([parsed.ipChecksum, parsed.tcpChecksum], [true, true], "the checksums");
  assert.ok(parsed.ttl > 0);
}

Deno.test("frames: a segment is valid and says what it should, for any flow in either direction", () => {
  const frames = new SegmentFrames();
  fc.assert(fc.property(flows, (made) => check(build(frames, made), made)), { numRuns: 2000 });
});

Deno.test("frames: one frame's content is not seen in the next", () => {
  const frames = new SegmentFrames();
  fc.assert(fc.property(flows, flows, (one, two) => {
    const expected = Uint8Array.from(build(new SegmentFrames(), two));
    build(frames, one);
    assert.equal(hex(build(frames, two)), hex(expected));
  }));
});

Deno.test("frames: sums that carry more than once, or not at all, still give the right checksum", () => {
  for (const byte of [0, 0xff]) {
    const fill = (length: number) => new Uint8Array(length).fill(byte);
    const value = byte === 0 ? 0 : 0xffffffff;
    const ipv4 = Uint8Array.of(...Array(10).fill(0), 255, 255, ...fill(4));
    const ipv6 = Uint8Array.of(0x20, ...fill(15));
    for (const options of [0, Option.TIMESTAMPS]) {
      for (const address of [ipv4, ipv6]) {
        const made: Made = {
          local: fill(6),
          remote: fill(6),
          ends: [address, address],
          clientPort: value & 0xffff,
          serverPort: value & 0xffff,
          options,
          tsval: value,
          tsecr: value,
          toClient: false,
          flags: Flag.ACK,
          payload: fill(3),
          seq: value,
          ack: value,
          window: value & 0xffff,
          keyAt: 0,
          flowAt: 0,
          noise: fill(FLOW.size),
        };
        check(build(new SegmentFrames(), made), made);
      }
    }
  }
});

Deno.test("frames: a segment may be as large as the flow and the interface allow", () => {
  const room = (mapped: boolean, mss: number, options: number, mtu: number): number => {
    const keys = new DataView(new ArrayBuffer(FLOW_KEY.size));
    if (mapped) keys.setUint16(10, 0xffff);
    const values = new DataView(new ArrayBuffer(FLOW.size));
    values.setUint16(FLOW.mss, mss, true);
    values.setUint8(FLOW.options, options);
    return payloadRoom(keys, 0, values, 0, mtu);
  };
  assert.equal(room(true, 1460, Option.TIMESTAMPS, 1500), 1448);
  assert.equal(room(true, 1460, 0, 1500), 1460);
  assert.equal(room(true, 8960, 0, 1500), 1460, "the interface's MTU");
  assert.equal(room(false, 8960, 0, 1500), 1440);
  assert.equal(room(true, 536, Option.TIMESTAMPS, 1500), 524, "the flow's MSS");
  assert.equal(room(true, 65535, 0, 1 << 17), MAX_PAYLOAD);
  assert.equal(room(true, 0, Option.TIMESTAMPS, 1500), 1, "something always goes");
});

Deno.test("frames: the largest payload is valid too", () => {
  const [made] = fc.sample(flows.filter((flow) => isIpv4(flow.ends[0])), { numRuns: 1, seed: 1 });
  for (const length of [MAX_PAYLOAD, MAX_PAYLOAD - 1]) {
    const payload = new Uint8Array(length).fill(0xff);
    check(build(new SegmentFrames(), { ...made!, flags: Flag.ACK, payload }), {
      ...made!,
      flags: Flag.ACK,
      payload,
    });
  }
});
