/**
 * The pcapng blocks that describe a capture: section, interface, statistics.
 *
 * @module
 */
import { BLOCK_OVERHEAD, BlockType, BYTE_ORDER_MAGIC, OptionCode } from "./pcapng.ts";

/** The value of if_tsresol for nanoseconds: 10^-9. */
const NANOSECONDS = 9;
/** The first byte of if_filter, for a filter in pcap-filter(7)'s language. */
const FILTER_TEXT = 0;
/** An option's length has 16 bits; Wireshark shows far less. */
const MAX_TEXT = 4096;

/** What made the capture. */
export interface SectionInfo {
  /** The host's processor. */
  hardware: string;
  /** The host's operating system. */
  os: string;
  /** The program. */
  application: string;
}

/** Where the capture was made. */
export interface InterfaceInfo {
  /** The interface's name. */
  name: string;
  /** A LINKTYPE_ number. */
  linkType: number;
  /** Bytes kept of each frame. */
  snaplen: number;
  /** What was captured, in pcap-filter(7)'s language; empty for everything. */
  filter: string;
  /** A note for the reader. */
  comment: string;
}

/** What was captured and lost since the capture began. */
export interface InterfaceStatistics {
  /** Frames that came to the interface and passed the filter. */
  received: number;
  /** Frames lost because the kernel's ring was full. */
  dropped: number;
  /** Frames that the interface or its driver lost. */
  interfaceDropped: number;
  /** Frames that reached the program. */
  delivered: number;
}

/** A section header of unknown length, without its frames. */
export function sectionHeader(info: SectionInfo): Uint8Array<ArrayBuffer> {
  return new Block(BlockType.SECTION_HEADER, 16)
    .u32(BYTE_ORDER_MAGIC).u16(1).u16(0).u64(0xffff_ffff_ffff_ffffn)
    .text(OptionCode.SHB_HARDWARE, info.hardware)
    .text(OptionCode.SHB_OS, info.os)
    .text(OptionCode.SHB_USERAPPL, info.application)
    .end();
}

/** The description of an interface whose time stamps are in nanoseconds. */
export function interfaceDescription(info: InterfaceInfo): Uint8Array<ArrayBuffer> {
  return new Block(BlockType.INTERFACE_DESCRIPTION, 8)
    .u16(info.linkType).u16(0).u32(info.snaplen)
    .text(OptionCode.COMMENT, info.comment)
    .text(OptionCode.IF_NAME, info.name)
    .option(OptionCode.IF_TSRESOL, Uint8Array.of(NANOSECONDS))
    .text(OptionCode.IF_FILTER, info.filter, FILTER_TEXT)
    .end();
}

/** The statistics of interface 0 at `now`, for a capture since `started`; both in microseconds since the Unix epoch. */
export function interfaceStatistics(
  statistics: InterfaceStatistics,
  started: number,
  now: number,
): Uint8Array<ArrayBuffer> {
  return new Block(BlockType.INTERFACE_STATISTICS, 12)
    .u32(0).stamp(now)
    .stampOption(OptionCode.ISB_STARTTIME, started)
    .stampOption(OptionCode.ISB_ENDTIME, now)
    .count(OptionCode.ISB_IFRECV, statistics.received)
    .count(OptionCode.ISB_IFDROP, statistics.interfaceDropped)
    .count(OptionCode.ISB_FILTERACCEPT, statistics.received)
    .count(OptionCode.ISB_OSDROP, statistics.dropped)
    .count(OptionCode.ISB_USRDELIV, statistics.delivered)
    .end();
}

/** Builds a block, in little-endian byte order. */
class Block {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #length = 8;

  constructor(type: number, bodySize: number) {
    this.#room(BLOCK_OVERHEAD + bodySize);
    this.#view.setUint32(0, type, true);
  }

  u16(value: number): this {
    this.#view.setUint16(this.#length, value, true);
    this.#length += 2;
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
    return this;
  }

  u64(value: bigint): this {
    this.#view.setBigUint64(this.#length, value, true);
    this.#length += 8;
    return this;
  }

  /** A time of the body or of an option: the upper half first, in either byte order. */
  stamp(micros: number): this {
    const nanos = BigInt(micros) * 1000n;
    return this.u32(Number(nanos >> 32n)).u32(Number(nanos & 0xffff_ffffn));
  }

  stampOption(code: number, micros: number): this {
    this.#room(12);
    return this.u16(code).u16(8).stamp(micros);
  }

  count(code: number, value: number): this {
    this.#room(12);
    return this.u16(code).u16(8).u64(BigInt(value));
  }

  /** An option of text, after the bytes of `prefix`; none where it is empty. */
  text(code: number, value: string, ...prefix: number[]): this {
    const text = new TextEncoder().encode(value).subarray(0, MAX_TEXT);
    return text.length === 0 ? this : this.option(code, Uint8Array.of(...prefix, ...text));
  }

  option(code: number, value: Uint8Array): this {
    this.#room(value.length + 8);
    this.u16(code).u16(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length + 3 & ~3;
    return this;
  }

  end(): Uint8Array<ArrayBuffer> {
    this.#room(8);
    this.u16(OptionCode.END).u16(0);
    const size = this.#length + 4;
    this.u32(size);
    this.#view.setUint32(4, size, true);
    return this.#bytes.slice(0, size);
  }

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + count));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
