import assert from "node:assert/strict";
import { arpProbe, duplicateSolicitation } from "../../lib/guard/claims.ts";
import { to16Bytes } from "../../lib/address.ts";
import { parseFrame } from "../fixture/frame.ts";

const mac = Uint8Array.of(2, 0x77, 0, 0, 0, 0x11);

Deno.test("guard: an ARP probe asks for the address and claims none", () => {
  const frame = parseFrame(arpProbe(Uint8Array.of(10, 77, 0, 100), mac));
  assert.equal(frame.kind, "arp");
  if (frame.kind !== "arp") return;
  assert.equal(frame.operation, "request");
  assert.deepEqual([frame.sender, frame.target], ["0.0.0.0", "10.77.0.100"]);
});

Deno.test("guard: a solicitation of duplicate address detection has no source, and a sound checksum", () => {
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
