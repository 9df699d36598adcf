/**
 * Reading of pcapng files (draft-ietf-opsawg-pcapng).
 *
 * @module
 */
import { InterfaceClock } from "./interface_clock.ts";
import {
  BLOCK_OVERHEAD,
  BlockType,
  BYTE_ORDER_MAGIC,
  ENHANCED_PACKET_HEADER,
  MAX_BLOCK,
  OptionCode,
} from "./pcapng.ts";
import { CaptureReader } from "./reader.ts";
import type { Window } from "./window.ts";

/** Type, total length and byte-order magic: what tells a section's byte order. */
const SECTION_START = 12;
/** Bytes of a block's body before its options or its frame. */
const SECTION_BODY = 16;
const INTERFACE_BODY = 8;
const STATISTICS_BODY = 12;
/** An interface costs memory until its section ends. */
const MAX_INTERFACES = 1 << 16;

/** What a frame inherits from its interface. */
interface Interface {
  linkType: number;
  /** 0 where frames are whole. */
  snaplen: number;
  clock: InterfaceClock;
  /** Frames that its last statistics say were lost. */
  lost: number;
}

/** Whether the four bytes at the start of `view` begin a pcapng. */
export function isPcapng(view: DataView): boolean {
  return view.getUint32(0) === BlockType.SECTION_HEADER;
}

/** The frames of a pcapng file. Blocks and options that are unknown are passed over. */
export class PcapngReader extends CaptureReader {
  #little = true;
  #interfaces: Interface[] = [];
  /** The first byte of the present block's body, and the byte behind it. */
  #body = 0;
  #bodyEnd = 0;

  /** `window` is at the first section header. */
  constructor(window: Window, file: string) {
    super(window, file);
    this.need = SECTION_START;
  }

  /** Moves to the next frame; see {@linkcode CaptureReader.next}. */
  override next(): boolean {
    const { window } = this;
    while (true) {
      const { at, view } = window;
      const there = window.end - at;
      if (there < SECTION_START) return this.#wait(SECTION_START);
      const little = this.#orderAt(at);
      const type = view.getUint32(at, little);
      const size = view.getUint32(at + 4, little);
      if (size < BLOCK_OVERHEAD || size % 4 !== 0) throw this.bad(`claims ${size} bytes`);
      if (size > MAX_BLOCK) throw this.tooLarge(size);
      if (there < size) return this.#wait(size);
      const again = view.getUint32(at + size - 4, little);
      if (again !== size) throw this.bad(`claims ${size} bytes at its start, ${again} at its end`);
      this.#little = little;
      this.#body = at + 8;
      this.#bodyEnd = at + size - 4;
      const isFrame = this.#read(type);
      this.block++;
      window.at = at + size;
      if (isFrame) {
        this.frames++;
        return true;
      }
    }
  }

  /** A section header may change the byte order; its own type reads the same in both. */
  #orderAt(at: number): boolean {
    const { view } = this.window;
    if (view.getUint32(at) !== BlockType.SECTION_HEADER) {
      if (this.block === 0) throw this.bad("is no section header of a pcapng");
      return this.#little;
    }
    if (view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC) return true;
    if (view.getUint32(at + 8, false) === BYTE_ORDER_MAGIC) return false;
    throw this.bad("is a section header without a byte-order magic");
  }

  /** Reads the present block; true where it has a frame. */
  #read(type: number): boolean {
    switch (type) {
      case BlockType.ENHANCED_PACKET:
        this.#requireBody(ENHANCED_PACKET_HEADER);
        return this.#packet(this.window.view.getUint32(this.#body, this.#little));
      case BlockType.PACKET:
        this.#requireBody(ENHANCED_PACKET_HEADER);
        return this.#packet(this.window.view.getUint16(this.#body, this.#little));
      case BlockType.SIMPLE_PACKET:
        return this.#simplePacket();
      case BlockType.INTERFACE_DESCRIPTION:
        return this.#interfaceDescription();
      case BlockType.INTERFACE_STATISTICS:
        return this.#interfaceStatistics();
      case BlockType.SECTION_HEADER:
        return this.#sectionHeader();
    }
    return false;
  }

  /** Both kinds of block differ in the interface's number alone; the obsolete one has 16 bits, and a count of drops. */
  #packet(interfaceId: number): boolean {
    const { view } = this.window;
    const body = this.#body;
    const little = this.#little;
    this.#setFrame(
      ENHANCED_PACKET_HEADER,
      view.getUint32(body + 12, little),
      view.getUint32(body + 16, little),
    );
    const { linkType, clock } = this.#interface(interfaceId);
    clock.read(view.getUint32(body + 4, little), view.getUint32(body + 8, little));
    this.interfaceId = interfaceId;
    this.linkType = linkType;
    this.seconds = clock.seconds;
    this.nanos = clock.nanos;
    return true;
  }

  #simplePacket(): boolean {
    this.#requireBody(4);
    const first = this.#interface(0);
    const length = this.window.view.getUint32(this.#body, this.#little);
    const whole = first.snaplen === 0 ? length : Math.min(length, first.snaplen);
    this.#setFrame(4, whole, length);
    this.interfaceId = 0;
    this.linkType = first.linkType;
    this.seconds = 0;
    this.nanos = 0;
    return true;
  }

  #setFrame(header: number, captured: number, length: number): void {
    const room = this.#bodyEnd - this.#body - header;
    if (captured > room) {
      throw this.bad(`claims a frame of ${captured} bytes and has room for ${room}`);
    }
    this.offset = this.#body + header;
    this.captured = captured;
    this.length = length;
  }

  #interface(id: number): Interface {
    const found = this.#interfaces[id];
    if (found === undefined) throw this.bad(`names interface ${id}, which no block describes`);
    return found;
  }

  #sectionHeader(): boolean {
    this.#requireBody(SECTION_BODY);
    const major = this.window.view.getUint16(this.#body + 4, this.#little);
    if (major !== 1) throw this.bad(`has version ${major} of the format, which is not known`);
    this.#interfaces = [];
    return false;
  }

  #interfaceDescription(): boolean {
    this.#requireBody(INTERFACE_BODY);
    if (this.#interfaces.length >= MAX_INTERFACES) {
      throw this.bad(`describes one interface more than ${MAX_INTERFACES}`);
    }
    let resolution: number | undefined;
    let offset: number | undefined;
    const { view } = this.window;
    const little = this.#little;
    this.#options(INTERFACE_BODY, (code, size, value) => {
      if (code === OptionCode.IF_TSRESOL && size >= 1) resolution = view.getUint8(value);
      if (code === OptionCode.IF_TSOFFSET && size >= 8) {
        offset = Number(view.getBigInt64(value, little));
      }
    });
    this.#interfaces.push({
      linkType: view.getUint16(this.#body, little),
      snaplen: view.getUint32(this.#body + 4, little),
      clock: new InterfaceClock(resolution, offset),
      lost: 0,
    });
    return false;
  }

  #interfaceStatistics(): boolean {
    this.#requireBody(STATISTICS_BODY);
    const { view } = this.window;
    const counted = this.#interfaces[view.getUint32(this.#body, this.#little)];
    // Statistics of an interface that nobody described harm nobody.
    if (counted === undefined) return false;
    let lost = 0;
    this.#options(STATISTICS_BODY, (code, size, value) => {
      const losses = code === OptionCode.ISB_IFDROP || code === OptionCode.ISB_OSDROP;
      if (losses && size >= 8) lost += Number(view.getBigUint64(value, this.#little));
    });
    this.lost += Math.max(0, lost - counted.lost);
    counted.lost = lost;
    return false;
  }

  /** Tells of each option of the present block, which has `before` bytes in front of them. */
  #options(before: number, tell: (code: number, size: number, value: number) => void): void {
    const { view } = this.window;
    const little = this.#little;
    let at = this.#body + before;
    while (at + 4 <= this.#bodyEnd) {
      const code = view.getUint16(at, little);
      const size = view.getUint16(at + 2, little);
      const value = at + 4;
      if (code === OptionCode.END) break;
      if (value + size > this.#bodyEnd) {
        throw this.bad(`has an option ${code} of ${size} bytes, longer than the block`);
      }
      tell(code, size, value);
      at = value + (size + 3 & ~3);
    }
  }

  #requireBody(least: number): void {
    const size = this.#bodyEnd - this.#body;
    if (size < least) throw this.bad(`has ${size} bytes within, and needs ${least}`);
  }

  #wait(need: number): false {
    this.need = need;
    return false;
  }
}
