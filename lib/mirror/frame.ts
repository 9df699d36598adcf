/**
 * Frames that `mirror` sends by itself, in the name of a client or of the primary.
 *
 * @module
 */
import { FLOW_KEY } from "../flow/layout.ts";

const ETHERNET = 14;
const TCP = 20;
const PROTOCOL_TCP = 6;

/** Control bits of TCP, RFC 9293 section 3.1. */
export const Flag = { RST: 0x04, ACK: 0x10 } as const;

/** What a frame says. */
export interface Said {
  /** The MAC address that it comes from. */
  source: Uint8Array;
  /** The MAC address that it goes to. */
  destination: Uint8Array;
  /** Whether it goes from the service to the client, rather than to the service. */
  toClient: boolean;
  /** SEG.SEQ. */
  seq: number;
  /** SEG.ACK. */
  ack: number;
  /** Bits of {@linkcode Flag}. */
  flags: number;
  /** How many bytes of zeros it carries: 0 or 1. */
  payload: number;
}

/**
 * A TCP segment of the flow whose `struct flow_key` stands in `keys` at `at`, without options and with a window of 0.
 */
export function segmentFrame(keys: DataView, at: number, said: Said): Uint8Array<ArrayBuffer> {
  const bytes = (from: number, length: number): Uint8Array =>
    new Uint8Array(keys.buffer, keys.byteOffset + at + from, length);
  const { client, server, client_port, server_port } = FLOW_KEY;
  const from = said.toClient ? server : client;
  const to = said.toClient ? client : server;
  const mapped = isMapped(bytes(client, 16));
  const tcp = ETHERNET + (mapped ? 20 : 40);
  const length = TCP + said.payload;
  const frame = new Uint8Array(tcp + length);
  const view = new DataView(frame.buffer);
  frame.set(said.destination, 0);
  frame.set(said.source, 6);
  if (mapped) {
    view.setUint16(12, 0x0800);
    frame.set([0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, PROTOCOL_TCP], ETHERNET);
    frame.set(bytes(from + 12, 4), ETHERNET + 12);
    frame.set(bytes(to + 12, 4), ETHERNET + 16);
    view.setUint16(ETHERNET + 10, checksum(view, ETHERNET, tcp, 0));
  } else {
    view.setUint16(12, 0x86dd);
    frame.set([0x60, 0, 0, 0, 0, length, PROTOCOL_TCP, 64], ETHERNET);
    frame.set(bytes(from, 16), ETHERNET + 8);
    frame.set(bytes(to, 16), ETHERNET + 24);
  }
  frame.set(bytes(said.toClient ? server_port : client_port, 2), tcp);
  frame.set(bytes(said.toClient ? client_port : server_port, 2), tcp + 2);
  view.setUint32(tcp + 4, said.seq);
  view.setUint32(tcp + 8, said.ack);
  view.setUint16(tcp + 12, TCP / 4 << 12 | said.flags);
  // The payload is zero, and adds nothing.
  const addresses = tcp - (mapped ? 8 : 32);
  view.setUint16(tcp + 16, checksum(view, addresses, tcp + TCP, PROTOCOL_TCP + length));
  return frame;
}

/** Whether the 16 bytes are an IPv4-mapped address. */
function isMapped(address: Uint8Array): boolean {
  return address.every((byte, index) => index > 11 || byte === (index < 10 ? 0 : 0xff));
}

/** The Internet checksum (RFC 1071) of the words from `from` to `to`, and of `more`. */
function checksum(view: DataView, from: number, to: number, more: number): number {
  let total = more;
  for (let at = from; at < to; at += 2) total += view.getUint16(at);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}
