/**
 * Frames that say, or ask, which host has an address: ARP and neighbour discovery.
 *
 * @module
 */
import { checksum, sum } from "../packet/checksum.ts";

const ETHERNET = 14;
const IPV6 = 40;
const ICMPV6 = 58;
const ARP_FRAME = 42;
const BROADCAST = new Uint8Array(6).fill(0xff);
const UNSPECIFIED_4 = new Uint8Array(4);
const UNSPECIFIED_6 = new Uint8Array(16);

/** EtherTypes. */
export const EtherType = { ARP: 0x0806, IPV6: 0x86dd } as const;

/** ICMPv6 types of neighbour discovery: RFC 4861 section 4. */
export const Discovery = { SOLICITATION: 135, ADVERTISEMENT: 136 } as const;

/** Option types of neighbour discovery that carry a link-layer address: RFC 4861 section 4.6.1. */
const LinkAddress = { SOURCE: 1, TARGET: 2 } as const;

/** The operations of ARP: RFC 826. */
export const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;

/** What an ARP packet says; addresses are four bytes, in network byte order. */
export interface ArpPacket {
  /** One of the numbers of {@linkcode ArpOperation}. */
  operation: number;
  /** Sender hardware address, six bytes. */
  mac: Uint8Array;
  /** Sender protocol address. */
  sender: Uint8Array;
  /** Target hardware address. */
  targetMac: Uint8Array;
  /** Target protocol address. */
  target: Uint8Array;
}

/** Builds a broadcast ARP frame for IPv4 over Ethernet. */
function arpFrame(packet: ArpPacket): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(ARP_FRAME);
  const view = new DataView(frame.buffer);
  frame.set(BROADCAST);
  frame.set(packet.mac, 6);
  view.setUint16(12, EtherType.ARP);
  view.setUint16(14, 1); // Ethernet
  view.setUint16(16, 0x0800); // IPv4
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  view.setUint16(20, packet.operation);
  frame.set(packet.mac, 22);
  frame.set(packet.sender, 28);
  frame.set(packet.targetMac, 32);
  frame.set(packet.target, 38);
  return frame;
}

/**
 * Builds a gratuitous ARP (RFC 5944 section 4.6): broadcast, `address`, four bytes, is at `mac`, six bytes. Peers differ
 * in which form they heed. The request is RFC 5227's announcement. In the reply the target hardware address is the
 * sender's, too; Linux takes no other for gratuitous (arp_is_garp).
 */
export function arpAnnouncement(
  form: "request" | "reply",
  address: Uint8Array,
  mac: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return form === "request"
    ? arpFrame({
      operation: ArpOperation.REQUEST,
      mac,
      sender: address,
      targetMac: new Uint8Array(6),
      target: address,
    })
    : arpFrame({
      operation: ArpOperation.REPLY,
      mac,
      sender: address,
      targetMac: mac,
      target: address,
    });
}

/** An ARP probe for `address`, four bytes: who answers has it, and nobody learns from it (RFC 5227 section 2.1.1). */
export function arpProbe(address: Uint8Array, mac: Uint8Array): Uint8Array<ArrayBuffer> {
  return arpFrame({
    operation: ArpOperation.REQUEST,
    mac,
    sender: UNSPECIFIED_4,
    targetMac: new Uint8Array(6),
    target: address,
  });
}

/** The ARP packet of a frame; undefined where it is none for IPv4 over Ethernet, or cut short. */
export function readArp(frame: Uint8Array): ArpPacket | undefined {
  if (frame.length < ARP_FRAME) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (view.getUint16(12) !== EtherType.ARP || view.getUint32(14) !== 0x00010800) return undefined;
  if (view.getUint16(18) !== 0x0604) return undefined;
  return {
    operation: view.getUint16(20),
    mac: frame.subarray(22, 28),
    sender: frame.subarray(28, 32),
    targetMac: frame.subarray(32, 38),
    target: frame.subarray(38, 42),
  };
}

/** Builds a frame of neighbour discovery for `target`, with one option or none. */
function discoveryFrame(
  type: number,
  flags: number,
  addresses: { mac: Uint8Array; source: Uint8Array; destination: Uint8Array; target: Uint8Array },
  option?: number,
): Uint8Array<ArrayBuffer> {
  const { mac, source, destination, target } = addresses;
  const icmp = ETHERNET + IPV6;
  const length = option === undefined ? 24 : 32;
  const frame = new Uint8Array(icmp + length);
  const view = new DataView(frame.buffer);
  // RFC 2464 section 7.
  frame.set([0x33, 0x33, ...destination.subarray(12)]);
  frame.set(mac, 6);
  view.setUint16(12, EtherType.IPV6);
  view.setUint8(14, 0x60);
  view.setUint16(18, length);
  view.setUint8(20, ICMPV6);
  view.setUint8(21, 255); // RFC 4861 section 7.1 discards any other
  frame.set(source, 22);
  frame.set(destination, 38);
  view.setUint8(icmp, type);
  view.setUint32(icmp + 4, flags);
  frame.set(target, icmp + 8);
  if (option !== undefined) {
    view.setUint8(icmp + 24, option);
    view.setUint8(icmp + 25, 1);
    frame.set(mac, icmp + 26);
  }
  const pseudo = sum(view, 22, icmp, ICMPV6 + length);
  view.setUint16(icmp + 2, checksum(sum(view, icmp, frame.length, pseudo)));
  return frame;
}

const ALL_NODES = Uint8Array.of(0xff, 0x02, ...new Uint8Array(13), 1);
const OVERRIDE = 0x20000000;

/**
 * Builds an unsolicited neighbour advertisement (RFC 4861 section 7.2.6) to all nodes that `address`, 16 bytes, is at
 * `mac`, six bytes; it overrides what they knew.
 */
export function neighbourAdvertisement(
  address: Uint8Array,
  mac: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const addresses = { mac, source: address, destination: ALL_NODES, target: address };
  return discoveryFrame(Discovery.ADVERTISEMENT, OVERRIDE, addresses, LinkAddress.TARGET);
}

/** The solicited-node multicast address of `address`: RFC 4291 section 2.7.1. */
function solicitedNode(address: Uint8Array): Uint8Array {
  return Uint8Array.of(0xff, 0x02, ...new Uint8Array(9), 1, 0xff, ...address.subarray(13));
}

/**
 * A neighbour solicitation for `address`, 16 bytes, from `source`, an address of this host: who has it answers this host
 * alone (RFC 4861 section 7.2.4).
 */
export function neighbourSolicitation(
  address: Uint8Array,
  mac: Uint8Array,
  source: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const addresses = { mac, source, destination: solicitedNode(address), target: address };
  return discoveryFrame(Discovery.SOLICITATION, 0, addresses, LinkAddress.SOURCE);
}

/**
 * A neighbour solicitation of duplicate address detection for `address` (RFC 4862 section 5.4.2): who has it tells all
 * nodes.
 */
export function duplicateSolicitation(
  address: Uint8Array,
  mac: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const destination = solicitedNode(address);
  const addresses = { mac, source: UNSPECIFIED_6, destination, target: address };
  return discoveryFrame(Discovery.SOLICITATION, 0, addresses);
}

/** What an ICMPv6 message of neighbour discovery says. */
export interface DiscoveryMessage {
  /** One of the numbers of {@linkcode Discovery}. */
  type: number;
  /** The address that it is about, 16 bytes. */
  target: Uint8Array;
  /** The link-layer address in its option, six bytes; undefined where it has none. */
  mac: Uint8Array | undefined;
}

/** The solicitation or advertisement of an ICMPv6 message; undefined where it is neither, or broken. */
export function readDiscovery(message: Uint8Array): DiscoveryMessage | undefined {
  const [type, code] = message;
  const wanted = type === Discovery.ADVERTISEMENT
    ? LinkAddress.TARGET
    : type === Discovery.SOLICITATION
    ? LinkAddress.SOURCE
    : undefined;
  if (wanted === undefined || code !== 0 || message.length < 24) return undefined;
  const found = { type: type!, target: message.subarray(8, 24) };
  // RFC 4861 section 4.6: lengths are in units of eight bytes, and none is zero.
  for (let at = 24; at + 8 <= message.length; at += message[at + 1]! * 8) {
    if (message[at + 1] === 0) return undefined;
    if (message[at] === wanted) return { ...found, mac: message.subarray(at + 2, at + 8) };
  }
  return { ...found, mac: undefined };
}
