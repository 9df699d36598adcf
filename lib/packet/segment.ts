/**
 * TCP segments in captured frames.
 *
 * @module
 */
import { LinkType, networkOffset } from "./link.ts";

/** Control bits of TCP, RFC 9293 section 3.1. */
export const Control = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32 } as const;

/** What {@linkcode Segment.read} found in a frame. */
export const Reading = {
  /** A TCP segment, whose fields are there now. */
  TCP: 0,
  /** Something else. */
  OTHER: 1,
  /** A fragment of an IP packet: only together the fragments say what they carry. */
  FRAGMENT: 2,
  /** The captured part of the frame ends before the headers do. */
  CUT: 3,
  /** A packet whose lengths contradict each other. */
  MALFORMED: 4,
} as const;

/** One of the numbers of {@linkcode Reading}. */
export type Reading = typeof Reading[keyof typeof Reading];

/** EtherTypes. */
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const TCP = 6;
const IPV6_HEADER = 40;
const TCP_HEADER = 20;
/** IPv6 extension headers, RFC 8200 section 4.1 and RFC 4302. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION = 60;
const MAX_EXTENSIONS = 8;
/** The smallest Ethernet payload: what is behind a shorter packet is padding. */
const MIN_ETHERNET_PAYLOAD = 46;

/**
 * A TCP segment, read in place: one object serves for any number of frames, and reading allocates nothing. The fields
 * are those of the last frame for which {@linkcode Segment.read} returned {@linkcode Reading.TCP}; offsets count from
 * the start of the memory that it was read in.
 */
export class Segment {
  /** IP version. */
  family: 4 | 6 = 4;
  /** Offset of the source address: 4 bytes, or 16 of IPv6. */
  sourceAt = 0;
  /** Offset of the destination address. */
  destinationAt = 0;
  /** Offset of the TCP header. */
  tcpAt = 0;
  /** Source port. */
  sourcePort = 0;
  /** Destination port. */
  destinationPort = 0;
  /** Sequence number of the segment, 32 bits unsigned; that of SYN where it has one. */
  seq = 0;
  /** Acknowledgement number, 32 bits unsigned; without meaning where `flags` lack ACK. */
  ack = 0;
  /** The bits of {@linkcode Control}. */
  flags = 0;
  /** The window as the header has it, not scaled. */
  window = 0;
  /** Offset of the payload. */
  payloadAt = 0;
  /** Bytes of payload by the IP header. */
  length = 0;
  /** Bytes of payload in the captured part of the frame, at most `length`. */
  captured = 0;

  /**
   * Reads a frame of link type `link` ({@linkcode LinkType}): `captured` of its bytes stand in `view` from `start` on,
   * and on the wire it had `wire`. No other byte is looked at.
   */
  read(view: DataView, start: number, captured: number, wire: number, link: number): Reading {
    const end = start + captured;
    // The usual frame needs no closer look.
    const type = link === LinkType.ETHERNET && captured > 14 ? view.getUint16(start + 12) : 0;
    const isPlain = type === IPV4 || type === IPV6;
    const at = isPlain ? start + 14 : networkOffset(view, start, end, link);
    if (at < 0) return Reading.OTHER;
    if (at >= end) return Reading.CUT;
    const version = view.getUint8(at) >> 4;
    if (version === 4) return this.#readIpv4(view, at, end, start + wire);
    if (version === 6) return this.#readIpv6(view, at, end, start + wire);
    return Reading.OTHER;
  }

  /** `end` is where the captured part ends, and `wireEnd` where the frame would. */
  #readIpv4(view: DataView, at: number, end: number, wireEnd: number): Reading {
    if (end - at < 20) return Reading.CUT;
    const header = (view.getUint8(at) & 15) * 4;
    if (header < 20) return Reading.MALFORMED;
    if (view.getUint8(at + 9) !== TCP) return Reading.OTHER;
    // More fragments, or not the first.
    if ((view.getUint16(at + 6) & 0x3fff) !== 0) return Reading.FRAGMENT;
    let total = view.getUint16(at + 2);
    if (total === 0) {
      // Larger than the field can say, as offload makes them: the frame's own length counts.
      total = wireEnd - at;
      if (total <= MIN_ETHERNET_PAYLOAD) return Reading.MALFORMED;
    }
    this.family = 4;
    this.sourceAt = at + 12;
    this.destinationAt = at + 16;
    return this.#readTcp(view, at + header, total - header, end);
  }

  #readIpv6(view: DataView, at: number, end: number, wireEnd: number): Reading {
    if (end - at < IPV6_HEADER) return Reading.CUT;
    this.family = 6;
    this.sourceAt = at + 8;
    this.destinationAt = at + 24;
    let length = view.getUint16(at + 4);
    if (length === 0) {
      // A jumbogram (RFC 2675), or offload's without its option.
      length = wireEnd - at - IPV6_HEADER;
      if (length <= 0) return Reading.OTHER;
    }
    let next = view.getUint8(at + 6);
    at += IPV6_HEADER;
    for (let count = 0; next !== TCP; count++) {
      if (next === FRAGMENT) return Reading.FRAGMENT;
      const extension = next === HOP_BY_HOP || next === ROUTING || next === DESTINATION ||
        next === AUTHENTICATION;
      if (!extension || count === MAX_EXTENSIONS) return Reading.OTHER;
      if (end - at < 2) return Reading.CUT;
      const units = view.getUint8(at + 1);
      const size = next === AUTHENTICATION ? (units + 2) * 4 : (units + 1) * 8;
      next = view.getUint8(at);
      at += size;
      length -= size;
      if (length < 0) return Reading.MALFORMED;
    }
    return this.#readTcp(view, at, length, end);
  }

  /** `size` is that of the whole segment by the IP header; `end` is where the captured part ends. */
  #readTcp(view: DataView, at: number, size: number, end: number): Reading {
    if (size < TCP_HEADER) return Reading.MALFORMED;
    if (end - at < TCP_HEADER) return Reading.CUT;
    const header = (view.getUint8(at + 12) >> 4) * 4;
    if (header < TCP_HEADER || header > size) return Reading.MALFORMED;
    this.tcpAt = at;
    this.sourcePort = view.getUint16(at);
    this.destinationPort = view.getUint16(at + 2);
    this.seq = view.getUint32(at + 4);
    this.ack = view.getUint32(at + 8);
    this.flags = view.getUint8(at + 13);
    this.window = view.getUint16(at + 14);
    this.payloadAt = at + header;
    this.length = size - header;
    this.captured = Math.min(this.length, Math.max(0, end - at - header));
    return Reading.TCP;
  }
}
