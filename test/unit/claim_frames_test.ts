import assert from "node:assert/strict";
import fc from "fast-check";
import { to16Bytes } from "../../lib/address.ts";
import {
  arpAnnouncement,
  ArpOperation,
  arpProbe,
  Discovery,
  duplicateSolicitation,
  neighbourAdvertisement,
  neighbourSolicitation,
  readArp,
  readDiscovery,
} from "../../lib/claim/frames.ts";
import { type IpFrame, parseFrame } from "../fixture/frame.ts";

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

const address = Uint8Array.of(10, 77, 0, 100);
const mac = Uint8Array.of(0x02, 0x77, 0, 0, 0, 0x12);

// RFC 5227 section 1.1: sender and target protocol address are the announced one; in the request of
// section 2.3 the target hardware address is ignored and should be zero.
Deno.test("claim: an ARP announcement as a request, byte by byte", () => {
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

Deno.test("claim: an ARP announcement as a reply, byte by byte", () => {
  const frame = arpAnnouncement("reply", address, mac);
  assert.equal(
    hex(frame),
    [
      "ff ff ff ff ff ff 02 77 00 00 00 12 08 06",
      "00 01 08 00 06 04 00 02",
      "02 77 00 00 00 12 0a 4d 00 64",
      "02 77 00 00 00 12 0a 4d 00 64",
    ].join(" "),
  );
});

const service = Uint8Array.of(0x20, 1, 0x0d, 0xb8, ...Array(11).fill(0), 0x10);

// RFC 4861 section 4.4 and 7.2.6, RFC 2464 section 3: to all nodes, hop limit 255, the override flag
// and no other, and the target link-layer address as an option.
Deno.test("claim: an unsolicited neighbour advertisement, byte by byte", () => {
  const frame = neighbourAdvertisement(service, mac);
  const target = hex(service);
  assert.equal(
    hex(frame).replace(/(88 00) .. ../, "$1 CK SM"),
    [
      "33 33 00 00 00 01 02 77 00 00 00 12 86 dd",
      "60 00 00 00 00 20 3a ff",
      target,
      "ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01",
      "88 00 CK SM 20 00 00 00",
      target,
      "02 01 02 77 00 00 00 12",
    ].join(" "),
  );
  assert.equal((parseFrame(frame) as IpFrame).icmpv6Checksum, true);
});

Deno.test("claim: an ARP probe asks for the address and claims none", () => {
  const frame = parseFrame(arpProbe(Uint8Array.of(10, 77, 0, 100), mac));
  assert.equal(frame.kind, "arp");
  if (frame.kind !== "arp") return;
  assert.equal(frame.operation, "request");
  assert.deepEqual([frame.sender, frame.target], ["0.0.0.0", "10.77.0.100"]);
});

Deno.test("claim: a solicitation of duplicate address detection has no source, and a sound checksum", () => {
  const bytes = duplicateSolicitation(to16Bytes("2001:db8::12:3456"), mac);
  assert.deepEqual([...bytes.subarray(0, 6)], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
  const frame = parseFrame(bytes);
  assert.equal(frame.kind, "ipv6");
  if (frame.kind !== "ipv6") return;
  assert.deepEqual([frame.source, frame.destination], [
    "0:0:0:0:0:0:0:0",
    "ff02:0:0:0:0:1:ff12:3456",
  ]);
  assert.equal(frame.protocol, 58);
  assert.equal(frame.payload[0], 135);
  assert.deepEqual([...frame.payload.subarray(8, 24)], [...to16Bytes("2001:db8::12:3456")]);
  // RFC 1071: the words with their checksum and the pseudo header add up to ones.
  const view = new DataView(bytes.buffer);
  let sum = 58 + 24;
  for (let at = 22; at < bytes.length; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  assert.equal(sum, 0xffff);
});

// RFC 4861 section 4.3 and 7.2.2: from an address of the host's own, with its link-layer address as an option.
Deno.test("claim: a solicitation from an own address, byte by byte", () => {
  const own = to16Bytes("fe80::1");
  const frame = neighbourSolicitation(service, mac, own);
  assert.equal(
    hex(frame).replace(/(87 00) .. ../, "$1 CK SM"),
    [
      "33 33 ff 00 00 10 02 77 00 00 00 12 86 dd",
      "60 00 00 00 00 20 3a ff",
      hex(own),
      "ff 02 00 00 00 00 00 00 00 00 00 01 ff 00 00 10",
      "87 00 CK SM 00 00 00 00",
      hex(service),
      "01 01 02 77 00 00 00 12",
    ].join(" "),
  );
  assert.equal((parseFrame(frame) as IpFrame).icmpv6Checksum, true);
});

Deno.test("claim: what is built is read again", () => {
  for (const form of ["request", "reply"] as const) {
    const read = readArp(arpAnnouncement(form, address, mac))!;
    assert.equal(read.operation, form === "request" ? ArpOperation.REQUEST : ArpOperation.REPLY);
    assert.deepEqual([hex(read.sender), hex(read.mac)], [hex(address), hex(mac)]);
    assert.equal(hex(read.target), hex(address));
  }
  const icmp = (frame: Uint8Array) => readDiscovery(frame.subarray(54))!;
  const advertised = icmp(neighbourAdvertisement(service, mac));
  assert.deepEqual([advertised.type, hex(advertised.target)], [
    Discovery.ADVERTISEMENT,
    hex(service),
  ]);
  assert.equal(hex(advertised.mac!), hex(mac));
  const solicited = icmp(neighbourSolicitation(service, mac, to16Bytes("fe80::1")));
  assert.deepEqual([solicited.type, hex(solicited.mac!)], [Discovery.SOLICITATION, hex(mac)]);
  assert.equal(icmp(duplicateSolicitation(service, mac)).mac, undefined);
});

Deno.test("claim: frames of other kinds, cut or broken, are not read", () => {
  const whole = arpAnnouncement("request", address, mac);
  for (let length = 0; length < whole.length; length++) {
    assert.equal(readArp(whole.subarray(0, length)), undefined);
  }
  assert.notEqual(readArp(Uint8Array.of(...whole, ...Array(18).fill(0))), undefined, "padded");
  for (const [at, value] of [[12, 0], [15, 6], [16, 9], [18, 8], [19, 16]] as const) {
    const other = Uint8Array.from(whole);
    other[at] = value;
    assert.equal(readArp(other), undefined, `byte ${at}`);
  }
  const message = neighbourAdvertisement(service, mac).subarray(54);
  for (let length = 0; length < 24; length++) {
    assert.equal(readDiscovery(message.subarray(0, length)), undefined);
  }
  assert.equal(readDiscovery(message.subarray(0, 31))?.mac, undefined, "half an option");
  const endless = Uint8Array.from(message);
  endless[25] = 0;
  assert.equal(readDiscovery(endless), undefined, "an option without length");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
    readArp(bytes);
    readDiscovery(Uint8Array.of(Discovery.ADVERTISEMENT, 0, ...bytes));
  }));
});
