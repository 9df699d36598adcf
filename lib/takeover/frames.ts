/**
 * Segments of flows that t2cp makes: those that wake a flow, heal it or end it.
 *
 * @module
 */
import { FLOW, FLOW_KEY, Option } from "../flow/layout.ts";
import { checksum, fold, sum } from "../packet/checksum.ts";

const ETHERNET = 14;
const IPV4 = 20;
const IPV6 = 40;
const TCP = 20;
const TIMESTAMPS = 12;
const PROTOCOL_TCP = 6;

/** A frame that no host heeds: EtherType 0x88b5 is for local experiments (IEEE 802). */
export function nobodysFrame(): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(60);
  new DataView(frame.buffer).setUint16(12, 0x88b5);
  return frame;
}

/** What a segment says; sequence numbers are 32 bits. */
export interface Segment {
  /** Whether it goes from the service to the client, rather than to the service. */
  toClient: boolean;
  /** SEG.SEQ. */
  seq: number;
  /** SEG.ACK. */
  ack: number;
  /** SEG.WND, unscaled. */
  window: number;
  /** Its control bits, RFC 9293 section 3.1. */
  flags: number;
  /** What it carries, at most {@linkcode MAX_PAYLOAD} bytes. */
  payload: Uint8Array;
  /** The checksum is left to the kernel, and is the sum of the pseudo header; false unless given. */
  partial?: boolean;
}

/** Control bits of {@linkcode Segment.flags}. */
export const Flag = { FIN: 0x01, RST: 0x04, PSH: 0x08, ACK: 0x10 } as const;

/** The most that one segment may carry, in bytes: what fits an IPv4 packet with all headers. */
export const MAX_PAYLOAD: number = 0xffff - IPV4 - TCP - TIMESTAMPS;

/** No payload. */
export const NOTHING: Uint8Array = new Uint8Array(0);

/**
 * How many bytes of payload a client's segment of the flow at `flowAt` may have, so that neither the flow's maximum
 * segment size nor an interface of `mtu` bytes is exceeded.
 */
export function payloadRoom(
  keys: DataView,
  keyAt: number,
  flows: DataView,
  flowAt: number,
  mtu: number,
): number {
  const ip = isMapped(keys, keyAt + FLOW_KEY.client) ? IPV4 : IPV6;
  const size = Math.min(flows.getUint16(flowAt + FLOW.mss, true), mtu - ip - TCP);
  const options = (flows.getUint8(flowAt + FLOW.options) & Option.TIMESTAMPS) !== 0
    ? TIMESTAMPS
    : 0;
  return Math.min(Math.max(size - options, 1), MAX_PAYLOAD);
}

/** The headers of a segment with timestamps as the flow has them: whether IPv6, where TCP begins, and where it ends. */
export function headersOf(
  keys: DataView,
  keyAt: number,
  flows: DataView,
  flowAt: number,
): { ipv6: boolean; tcp: number; headers: number } {
  const ipv6 = !isMapped(keys, keyAt + FLOW_KEY.client);
  const tcp = ETHERNET + (ipv6 ? IPV6 : IPV4);
  const stamped = (flows.getUint8(flowAt + FLOW.options) & Option.TIMESTAMPS) !== 0;
  return { ipv6, tcp, headers: tcp + TCP + (stamped ? TIMESTAMPS : 0) };
}

/** Builds segments of flows, in one buffer that is used again for every one. */
export class SegmentFrames {
  // One byte more, so that the last word of an odd payload is whole.
  readonly #buffer = new Uint8Array(ETHERNET + IPV6 + TCP + TIMESTAMPS + MAX_PAYLOAD + 1);
  readonly #view = new DataView(this.#buffer.buffer);
  readonly #words = new Uint16Array(this.#buffer.buffer);

  /**
   * A segment of the flow whose `struct flow_key` stands in `keys` at `keyAt` and whose
   * `struct flow` stands in `flows` at `flowAt`. Valid until the next call.
   */
  build(
    keys: DataView,
    keyAt: number,
    flows: DataView,
    flowAt: number,
    segment: Segment,
  ): Uint8Array<ArrayBuffer> {
    const view = this.#view;
    const { toClient } = segment;
    // A reset needs none: RFC 7323 section 5.2 spares it the check.
    const timestamps = (segment.flags & Flag.RST) === 0 &&
      (flows.getUint8(flowAt + FLOW.options) & Option.TIMESTAMPS) !== 0;
    const header = timestamps ? TCP + TIMESTAMPS : TCP;
    const length = header + segment.payload.length;
    copy(flows, flowAt + FLOW.local_mac, view, toClient ? 6 : 0, 6);
    copy(flows, flowAt + FLOW.remote_mac, view, toClient ? 0 : 6, 6);
    const ipv4 = isMapped(keys, keyAt + FLOW_KEY.client);
    const tcp = ETHERNET + (ipv4 ? IPV4 : IPV6);
    const source = keyAt + (toClient ? FLOW_KEY.server : FLOW_KEY.client);
    const destination = keyAt + (toClient ? FLOW_KEY.client : FLOW_KEY.server);
    const pseudo = ipv4
      ? this.#ipv4(keys, source, destination, length)
      : this.#ipv6(keys, source, destination, length);
    copy(keys, keyAt + FLOW_KEY.client_port, view, toClient ? tcp + 2 : tcp, 2);
    copy(keys, keyAt + FLOW_KEY.server_port, view, toClient ? tcp : tcp + 2, 2);
    view.setUint32(tcp + 4, segment.seq);
    view.setUint32(tcp + 8, segment.ack);
    view.setUint16(tcp + 12, (header / 4) << 12 | segment.flags);
    view.setUint16(tcp + 14, segment.window);
    view.setUint32(tcp + 16, 0);
    if (timestamps) {
      view.setUint32(tcp + 20, 0x0101080a);
      view.setUint32(tcp + 24, flows.getUint32(flowAt + FLOW.client_tsval, true));
      view.setUint32(tcp + 28, flows.getUint32(flowAt + FLOW.client_tsecr, true));
    }
    const start = sum(view, tcp, tcp + header, pseudo);
    if (segment.partial) {
      this.#buffer.set(segment.payload, tcp + header);
      view.setUint16(tcp + 16, fold(pseudo));
    } else {
      view.setUint16(tcp + 16, checksum(start + this.#payload(segment.payload, tcp + header)));
    }
    return this.#buffer.subarray(0, tcp + length);
  }

  /** Writes the payload at `at`, an even offset, and returns its sum. */
  #payload(payload: Uint8Array, at: number): number {
    if (payload.length === 0) return 0;
    this.#buffer.set(payload, at);
    this.#buffer[at + payload.length] = 0;
    // In the host's byte order, which costs a third; the sum is swapped in the end (RFC 1071 section 2.B).
    const end = (at + payload.length + 1) >> 1;
    let total = 0;
    for (let word = at >> 1; word < end; word++) total += this.#words[word]!;
    const folded = fold(total);
    return (folded & 0xff) << 8 | folded >> 8;
  }

  /** Writes the IPv4 header for `length` bytes of TCP; returns the sum of the pseudo header. */
  #ipv4(keys: DataView, source: number, destination: number, length: number): number {
    const view = this.#view;
    const ip = ETHERNET;
    view.setUint16(12, 0x0800);
    view.setUint16(ip, 0x4500);
    view.setUint16(ip + 2, IPV4 + length);
    view.setUint16(ip + 4, 0);
    view.setUint16(ip + 6, 0x4000); // do not fragment
    view.setUint8(ip + 8, 64);
    view.setUint8(ip + 9, PROTOCOL_TCP);
    view.setUint16(ip + 10, 0);
    // The last four of the 16 bytes of a mapped address.
    copy(keys, source + 12, view, ip + 12, 4);
    copy(keys, destination + 12, view, ip + 16, 4);
    view.setUint16(ip + 10, checksum(sum(view, ip, ip + IPV4, 0)));
    return sum(view, ip + 12, ip + IPV4, PROTOCOL_TCP + length);
  }

  /** Writes the IPv6 header for `length` bytes of TCP; returns the sum of the pseudo header. */
  #ipv6(keys: DataView, source: number, destination: number, length: number): number {
    const view = this.#view;
    const ip = ETHERNET;
    view.setUint16(12, 0x86dd);
    view.setUint32(ip, 0x60000000);
    view.setUint16(ip + 4, length);
    view.setUint8(ip + 6, PROTOCOL_TCP);
    view.setUint8(ip + 7, 64);
    copy(keys, source, view, ip + 8, 16);
    copy(keys, destination, view, ip + 24, 16);
    return sum(view, ip + 8, ip + IPV6, PROTOCOL_TCP + length);
  }
}

/** Whether the 16 bytes are an IPv4-mapped address. */
function isMapped(view: DataView, at: number): boolean {
  return view.getUint32(at) === 0 && view.getUint32(at + 4) === 0 &&
    view.getUint32(at + 8) === 0xffff;
}

function copy(from: DataView, at: number, to: DataView, toAt: number, length: number): void {
  for (let i = 0; i < length; i++) to.setUint8(toAt + i, from.getUint8(at + i));
}
