import assert from "node:assert/strict";
import fc from "fast-check";
import { FLOW, FLOW_KEY, Option } from "../../lib/flow/layout.ts";
import { arpAnnouncement, Flag, nobodysFrame, SegmentFrames } from "../../lib/takeover/frames.ts";
import { parseFrame, type TcpFrame } from "../fixture/frame.ts";

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

const address = Uint8Array.of(10, 77, 0, 100);
const mac = Uint8Array.of(0x02, 0x77, 0, 0, 0, 0x12);

// RFC 5227 section 1.1: sender and target protocol address are the announced one; in the request of
// section 2.3 the target hardware address is ignored and should be zero.
Deno.test("frames: an ARP announcement as a request, byte by byte", () => {
  assert.equal(
    hex(arpAnnouncement("request", address, mac)),
    [
      "ff ff ff ff ff ff 02 77 00 00 00 12 08 06",
      "00 01 08 00 06 04 00 01",
      "02 77 00 00 00 12 0a 4d 00 64",
      "00 00 00 00 00 00 0a 4d 00 64",
    ].join(" "),
  );
});

Deno.test("frames: an ARP announcement as a reply, byte by byte", () => {
  const frame = arpAnnouncement("reply", address, mac);
  // Nobody heeds the target hardware address of a broadcast reply, and the RFCs disagree on it.
  frame.fill(0, 32, 38);
  assert.equal(
    hex(frame),
    [
      "ff ff ff ff ff ff 02 77 00 00 00 12 08 06",
      "00 01 08 00 06 04 00 02",
      "02 77 00 00 00 12 0a 4d 00 64",
      "00 00 00 00 00 00 0a 4d 00 64",
    ].join(" "),
  );
});

Deno.test("frames: nobody's frame bears the EtherType for experiments, and is long enough", () => {
  const frame = nobodysFrame();
  assert.ok(frame.length >= 60, "the least an Ethernet frame has without its check sequence");
  assert.equal(hex(frame.subarray(12, 14)), "88 b5");
});

const octets = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const uint32 = fc.nat(0xffffffff);
const uint16 = fc.nat(0xffff);

const flows = fc.record({
  local: octets(6),
  remote: octets(6),
  client: octets(4),
  server: octets(4),
  clientPort: uint16,
  serverPort: uint16,
  options: fc.nat(15),
  tsval: uint32,
  tsecr: uint32,
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
  key.set([255, 255], FLOW_KEY.client + 10);
  key.set(made.client, FLOW_KEY.client + 12);
  key.set([255, 255], FLOW_KEY.server + 10);
  key.set(made.server, FLOW_KEY.server + 12);
  keys.setUint16(made.keyAt + FLOW_KEY.client_port, made.clientPort);
  keys.setUint16(made.keyAt + FLOW_KEY.server_port, made.serverPort);
  flow.set(made.noise);
  flow.set(made.local, FLOW.local_mac);
  flow.set(made.remote, FLOW.remote_mac);
  values.setUint8(made.flowAt + FLOW.options, made.options);
  values.setUint32(made.flowAt + FLOW.client_tsval, made.tsval, true);
  values.setUint32(made.flowAt + FLOW.client_tsecr, made.tsecr, true);
  const { seq, ack, window } = made;
  return frames.build(keys, made.keyAt, values, made.flowAt, {
    toClient: false,
    seq,
    ack,
    window,
    flags: Flag.ACK,
    payload: 0,
  });
}

function check(frame: Uint8Array, made: Made): void {
  const timestamps = (made.options & Option.TIMESTAMPS) !== 0;
  assert.equal(frame.length, 14 + 20 + 20 + (timestamps ? 12 : 0));
  const parsed = parseFrame(frame) as TcpFrame;
  assert.equal(parsed.kind, "tcp");
  // Throughout from the client to the service: what the backup's own stack shall receive.
  assert.equal(parsed.destinationMac, hex(made.local).replaceAll(" ", ":"));
  assert.equal(parsed.sourceMac, hex(made.remote).replaceAll(" ", ":"));
  assert.equal(parsed.source, [...made.client].join("."));
  assert.equal(parsed.destination, [...made.server].join("."));
  assert.equal(parsed.sourcePort, made.clientPort);
  assert.equal(parsed.destinationPort, made.serverPort);
  assert.equal(parsed.seq, made.seq);
  assert.equal(parsed.ack, made.ack);
  assert.equal(parsed.window, made.window);
  assert.equal(parsed.flags, "A");
  assert.equal(parsed.payload.length, 0);
  assert.deepEqual(
    parsed.timestamps,
    timestamps ? { value: made.tsval, echo: made.tsecr } : undefined,
  );
  assert.deepEqual([parsed.ipChecksum, parsed.tcpChecksum], [true, true], "the checksums");
  assert.ok(parsed.ttl > 0);
}

Deno.test("frames: a wake frame is a valid segment of the client, for any flow", () => {
  const frames = new SegmentFrames();
  fc.assert(fc.property(flows, (made) => check(build(frames, made), made)), { numRuns: 1000 });
});

Deno.test("frames: one frame's content is not seen in the next", () => {
  const frames = new SegmentFrames();
  fc.assert(fc.property(flows, flows, (one, two) => {
    const expected = Uint8Array.from(build(new SegmentFrames(), two));
    build(frames, { ...one, options: Option.TIMESTAMPS });
    assert.equal(hex(build(frames, two)), hex(expected));
  }));
});

Deno.test("frames: sums that carry more than once still give the right checksum", () => {
  const ones = (length: number) => new Uint8Array(length).fill(0xff);
  const zeros = (length: number) => new Uint8Array(length);
  for (const fill of [ones, zeros]) {
    const value = fill(1)[0] === 0 ? 0 : 0xffffffff;
    for (const options of [0, Option.TIMESTAMPS]) {
      const made: Made = {
        local: fill(6),
        remote: fill(6),
        client: fill(4),
        server: fill(4),
        clientPort: value & 0xffff,
        serverPort: value & 0xffff,
        options,
        tsval: value,
        tsecr: value,
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
});
