import assert from "node:assert/strict";
import fc from "fast-check";
import { LinkType } from "../../lib/packet/link.ts";
import { Reading, Segment } from "../../lib/packet/segment.ts";
import { Ether, ethernet, ipPacket, Next, octets, tcpSegment, word } from "../fixture/segment.ts";

const [A4, B4] = ["10.1.2.3", "192.0.2.200"];
const [A6, B6] = ["2001:db8::1", "2001:db8:1:2:3:4:5:6"];

/** What a link layer puts in front of an IP packet. */
const links: Record<string, (packet: number[], ipv6: boolean) => [number, number[]]> = {
  "Ethernet": (packet, ipv6) => [
    LinkType.ETHERNET,
    [...ethernet(ipv6 ? Ether.IPV6 : Ether.IPV4, packet)],
  ],
  "a VLAN tag": (packet, ipv6) => [
    LinkType.ETHERNET,
    [...ethernet(ipv6 ? Ether.IPV6 : Ether.IPV4, packet, { tags: [Ether.VLAN] })],
  ],
  "two tags": (packet, ipv6) => [
    LinkType.ETHERNET,
    [...ethernet(ipv6 ? Ether.IPV6 : Ether.IPV4, packet, {
      tags: [Ether.SERVICE_VLAN, Ether.VLAN],
    })],
  ],
  "cooked": (packet, ipv6) => [
    LinkType.LINUX_SLL,
    [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, ...word(ipv6 ? Ether.IPV6 : Ether.IPV4), ...packet],
  ],
  "cooked, version 2": (packet, ipv6) => [
    LinkType.LINUX_SLL2,
    [...word(ipv6 ? Ether.IPV6 : Ether.IPV4), ...Array(18).fill(0), ...packet],
  ],
  "nothing": (packet) => [LinkType.RAW, packet],
  "nothing, by libpcap's number": (packet) => [LinkType.RAW_DLT, packet],
  "BSD loopback": (packet, ipv6) => [LinkType.NULL, [ipv6 ? 30 : 2, 0, 0, 0, ...packet]],
};

/** Hop-by-hop or destination options, or a routing header, of 8 and more bytes; an authentication header. */
const extension = fc.oneof(
  fc.record({
    type: fc.constantFrom(Next.HOP_BY_HOP, Next.DESTINATION, Next.ROUTING),
    units: fc.integer({ min: 0, max: 3 }),
  }).map(({ type, units }) => ({ type, bytes: [units, ...Array(6 + units * 8).fill(0)] })),
  fc.integer({ min: 1, max: 5 }).map((units) => ({
    type: Next.AH,
    bytes: [units, ...Array((units + 2) * 4 - 2).fill(0)],
  })),
);

const shape = fc.record({
  link: fc.constantFrom(...Object.keys(links)),
  ipv6: fc.boolean(),
  ipOptions: fc.integer({ min: 0, max: 10 }),
  extensions: fc.array(extension, { maxLength: 4 }),
  tcpOptions: fc.integer({ min: 0, max: 10 }),
  tcp: fc.record({
    sourcePort: fc.nat(65535),
    destinationPort: fc.nat(65535),
    seq: fc.nat(2 ** 32 - 1),
    ack: fc.nat(2 ** 32 - 1),
    flags: fc.nat(255),
    window: fc.nat(65535),
  }),
  payload: fc.uint8Array({ maxLength: 100 }),
  padding: fc.integer({ min: 0, max: 20 }),
  at: fc.nat(9),
});

type Shape = typeof shape extends fc.Arbitrary<infer T> ? T : never;

function build(s: Shape): { link: number; bytes: number[]; headers: number } {
  const [source, destination] = s.ipv6 ? [A6, B6] : [A4, B4];
  const options = Array(s.tcpOptions * 4).fill(1);
  let body = tcpSegment(source, destination, { ...s.tcp, options, payload: [...s.payload] });
  let protocol: number = Next.TCP;
  for (const { type, bytes } of s.ipv6 ? s.extensions : []) {
    body = [protocol, ...bytes, ...body];
    protocol = type;
  }
  const ipOptions = s.ipv6 ? [] : Array(s.ipOptions * 4).fill(1);
  const packet = ipPacket({ source, destination, protocol, options: ipOptions }, body);
  const [link, bytes] = links[s.link]!(packet, s.ipv6);
  return { link, bytes, headers: bytes.length - s.payload.length };
}

/** Exactly the captured bytes, so that a look behind them throws, `at` bytes into some memory. */
function memory(bytes: number[], captured: number, at: number): DataView {
  const all = new Uint8Array(at + captured);
  all.set(bytes.slice(0, captured), at);
  return new DataView(all.buffer);
}

Deno.test("packet: every field of a segment, behind any headers", () => {
  fc.assert(fc.property(shape, (s) => {
    const { link, bytes, headers } = build(s);
    const padded = [...bytes, ...Array(s.padding).fill(0xee)];
    const segment = new Segment();
    const view = memory(padded, padded.length, s.at);
    assert.equal(segment.read(view, s.at, padded.length, padded.length, link), Reading.TCP);
    const { sourcePort, destinationPort, seq, ack, flags, window } = segment;
    assert.deepEqual({ sourcePort, destinationPort, seq, ack, flags, window }, { ...s.tcp });
    assert.equal(segment.family, s.ipv6 ? 6 : 4);
    const address = (at: number): number[] => [
      ...new Uint8Array(view.buffer, at, s.ipv6 ? 16 : 4),
    ];
    assert.deepEqual(address(segment.sourceAt), octets(s.ipv6 ? A6 : A4));
    assert.deepEqual(address(segment.destinationAt), octets(s.ipv6 ? B6 : B4));
    assert.equal(segment.length, s.payload.length);
    assert.equal(segment.captured, s.payload.length);
    if (s.payload.length > 0) assert.equal(segment.payloadAt, s.at + headers);
  }));
});

Deno.test("packet: a cut frame is read as far as it goes, and not a byte further", () => {
  fc.assert(fc.property(shape, fc.nat(1000), (s, cut) => {
    const { link, bytes, headers } = build(s);
    const captured = cut % (bytes.length + 1);
    const segment = new Segment();
    const view = memory(bytes, captured, s.at);
    const reading = segment.read(view, s.at, captured, bytes.length, link);
    if (captured >= headers) {
      assert.equal(reading, Reading.TCP);
      assert.equal(segment.length, s.payload.length);
      assert.equal(segment.captured, captured - headers);
    } else if (reading === Reading.TCP) {
      // All but the options of TCP is there.
      assert.ok(captured >= headers - s.tcpOptions * 4);
      assert.equal(segment.captured, 0);
    } else {
      assert.ok(reading === Reading.CUT || reading === Reading.OTHER, `reading ${reading}`);
    }
  }));
});

Deno.test("packet: any bytes are read without a look behind them, and lengths stay within the frame", () => {
  const anyLink = fc.constantFrom(...Object.values(LinkType));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), anyLink, fc.nat(70_000), (bytes, link, wire) => {
      const segment = new Segment();
      const view = new DataView(Uint8Array.from(bytes).buffer);
      const reading = segment.read(view, 0, bytes.length, bytes.length + wire, link);
      if (reading !== Reading.TCP) return;
      assert.ok(segment.captured >= 0 && segment.captured <= segment.length);
      assert.ok(segment.captured === 0 || segment.payloadAt + segment.captured <= bytes.length);
    }),
  );
});

Deno.test("packet: broken segments one byte away from sound ones are read or refused, never wrongly measured", () => {
  fc.assert(fc.property(shape, fc.nat(1000), fc.nat(255), (s, where, value) => {
    const { link, bytes } = build(s);
    bytes[where % bytes.length] = value;
    const segment = new Segment();
    const view = memory(bytes, bytes.length, 0);
    if (segment.read(view, 0, bytes.length, bytes.length, link) !== Reading.TCP) return;
    assert.ok(segment.captured === 0 || segment.payloadAt + segment.captured <= bytes.length);
  }));
});

const segmentOf = (payload: number, ...ends: [string, string]): number[] =>
  tcpSegment(...ends, { sourcePort: 1, destinationPort: 2, payload: Array(payload).fill(7) });

function read(bytes: number[], link: number, wire = bytes.length): [Reading, Segment] {
  const segment = new Segment();
  return [segment.read(memory(bytes, bytes.length, 0), 0, bytes.length, wire, link), segment];
}

Deno.test("packet: where the length field is 0, as offload leaves it, the frame's length counts", () => {
  const body = segmentOf(200, A4, B4);
  const packet = ipPacket({ source: A4, destination: B4, protocol: Next.TCP, length: 0 }, body);
  const [reading, segment] = read([...ethernet(Ether.IPV4, packet)], LinkType.ETHERNET, 90_000);
  assert.equal(reading, Reading.TCP);
  assert.equal(segment.length, 90_000 - 14 - 20 - 20);
  assert.equal(segment.captured, 200);

  const body6 = segmentOf(200, A6, B6);
  const jumbo = [Next.TCP, 0, 0xc2, 4, 0, 1, 0x5f, 0x60];
  for (const [protocol, extension] of [[Next.HOP_BY_HOP, jumbo], [Next.TCP, []]] as const) {
    const ip = { source: A6, destination: B6, protocol, length: 0 };
    const [reading, segment] = read(ipPacket(ip, [...extension, ...body6]), LinkType.RAW, 90_000);
    assert.equal(reading, Reading.TCP);
    assert.equal(segment.length, 90_000 - 40 - extension.length - 20);
    assert.equal(segment.captured, 200);
  }
});

Deno.test("packet: fragments, other protocols and contradictions are told apart", () => {
  const body = segmentOf(10, A4, B4);
  const ip = { source: A4, destination: B4, protocol: Next.TCP as number };
  const v4 = (change: object): Reading =>
    read(ipPacket({ ...ip, ...change }, body), LinkType.RAW)[0];
  assert.equal(v4({ fragment: 0x2000 }), Reading.FRAGMENT);
  assert.equal(v4({ fragment: 0x0001 }), Reading.FRAGMENT);
  assert.equal(v4({ protocol: Next.UDP }), Reading.OTHER);
  assert.equal(v4({ version: 5 }), Reading.OTHER);
  assert.equal(v4({ ihl: 4 }), Reading.MALFORMED);
  assert.equal(v4({ length: 39 }), Reading.MALFORMED);
  assert.equal(v4({ fragment: 0x4000 }), Reading.TCP);

  const ip6 = { source: A6, destination: B6, protocol: Next.FRAGMENT };
  const fragment = [Next.TCP, 0, 0, 1, 0, 0, 0, 9, ...segmentOf(10, A6, B6)];
  assert.equal(read(ipPacket(ip6, fragment), LinkType.RAW)[0], Reading.FRAGMENT);

  const short = tcpSegment(A4, B4, { sourcePort: 1, destinationPort: 2, offset: 4 });
  assert.equal(read(ipPacket(ip, short), LinkType.RAW)[0], Reading.MALFORMED);
  const long = tcpSegment(A4, B4, { sourcePort: 1, destinationPort: 2, offset: 6 });
  assert.equal(read(ipPacket(ip, long), LinkType.RAW)[0], Reading.MALFORMED);

  const tagged = (count: number): Reading => {
    const tags = { tags: Array(count).fill(Ether.VLAN) };
    return read([...ethernet(Ether.IPV4, ipPacket(ip, body), tags)], LinkType.ETHERNET)[0];
  };
  assert.equal(tagged(4), Reading.TCP);
  assert.equal(tagged(5), Reading.OTHER);
});
