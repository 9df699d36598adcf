/**
 * Asking whether another host has the service's address: after a takeover the backup answers for it.
 *
 * @module
 */
import { PacketSocket, VNET_HEADER } from "../../ffi/packet_socket.ts";
import { familyOf, to16Bytes } from "../address.ts";
import { macOf } from "../host/links.ts";
import { checksum, sum } from "../takeover/frames.ts";
import { MARK_RELEASE } from "./layout.ts";

const ARP_FRAME = 42;
const SOLICITATION_FRAME = 78;
const ICMPV6 = 58;

/** An ARP probe for `address`, four bytes: who answers has it, and nobody learns from it (RFC 5227 section 2.1.1). */
export function arpProbe(address: Uint8Array, mac: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(ARP_FRAME);
  const view = new DataView(frame.buffer);
  frame.fill(0xff, 0, 6);
  frame.set(mac, 6);
  view.setUint16(12, 0x0806);
  view.setUint16(14, 1); // Ethernet
  view.setUint16(16, 0x0800); // IPv4
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  view.setUint16(20, 1); // request
  frame.set(mac, 22);
  frame.set(address, 38);
  return frame;
}

/** A neighbour solicitation of duplicate address detection for `address`, 16 bytes (RFC 4862 section 5.4.2). */
export function duplicateSolicitation(
  address: Uint8Array,
  mac: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(SOLICITATION_FRAME);
  const view = new DataView(frame.buffer);
  const tail = address.subarray(13);
  frame.set([0x33, 0x33, 0xff, ...tail]);
  frame.set(mac, 6);
  view.setUint16(12, 0x86dd);
  view.setUint8(14, 0x60);
  view.setUint16(18, 24);
  view.setUint8(20, ICMPV6);
  view.setUint8(21, 255);
  // The solicited-node multicast address: RFC 4291 section 2.7.1.
  frame.set([0xff, 0x02], 38);
  frame.set([1, 0xff, ...tail], 49);
  view.setUint8(54, 135);
  frame.set(address, 62);
  const pseudo = sum(view, 22, 54, ICMPV6 + 24);
  view.setUint16(56, checksum(sum(view, 54, SOLICITATION_FRAME, pseudo)));
  return frame;
}

/** Asks on interface `name` who has `addresses`; the answers are for the programs. */
export function askForClaims(name: string, addresses: Iterable<string>): void {
  const mac = macOf(name);
  using socket = new PacketSocket(name, MARK_RELEASE);
  for (const address of addresses) {
    const bytes = to16Bytes(address);
    const frame = familyOf(address) === 4
      ? arpProbe(bytes.subarray(12), mac)
      : duplicateSolicitation(bytes, mac);
    const buffer = new Uint8Array(VNET_HEADER + frame.length);
    buffer.set(frame, VNET_HEADER);
    socket.send(buffer);
  }
}
