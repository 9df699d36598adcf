/**
 * Reading of pcap files (draft-ietf-opsawg-pcap, and libpcap's sf-pcap.c for its relatives).
 *
 * @module
 */
import { MAX_BLOCK } from "./pcapng.ts";
import { CaptureReader } from "./reader.ts";
import type { Window } from "./window.ts";

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
/** The "modified" record header has index, protocol and packet type besides (libpcap's KUZNETZOV_TCPDUMP_MAGIC). */
const MODIFIED_RECORD_HEADER = 24;

/** What a magic number says: nanoseconds in a unit of the time's fraction, and bytes of a record's header. */
const MAGICS: ReadonlyMap<number, { unit: number; header: number }> = new Map([
  [0xa1b2c3d4, { unit: 1000, header: RECORD_HEADER }],
  [0xa1b23c4d, { unit: 1, header: RECORD_HEADER }],
  [0xa1b2cd34, { unit: 1000, header: MODIFIED_RECORD_HEADER }],
]);

/** Whether the four bytes at the start of `view` are a pcap's magic number, in either byte order. */
export function isPcap(view: DataView): boolean {
  return MAGICS.has(view.getUint32(0, true)) || MAGICS.has(view.getUint32(0, false));
}

/** The frames of a pcap file. All have one link type and `interfaceId` 0. */
export class PcapReader extends CaptureReader {
  #little = true;
  #unit = 1000;
  #header = RECORD_HEADER;

  /** `window` is at the file header. */
  constructor(window: Window, file: string) {
    super(window, file);
    this.need = FILE_HEADER;
  }

  /** Moves to the next frame; see {@linkcode CaptureReader.next}. */
  override next(): boolean {
    const { window } = this;
    if (this.block === 0 && !this.#readFileHeader()) return false;
    const { view, at } = window;
    const there = window.end - at;
    const header = this.#header;
    if (there < header) return this.#wait(header);
    const little = this.#little;
    const captured = view.getUint32(at + 8, little);
    const size = header + captured;
    if (size > MAX_BLOCK) throw this.tooLarge(size);
    if (there < size) return this.#wait(size);
    const length = view.getUint32(at + 12, little);
    const fraction = view.getUint32(at + 4, little) * this.#unit;
    const seconds = view.getUint32(at, little);
    // A fraction of a second or more is wrong, yet harmless.
    const whole = fraction < 1e9 ? 0 : Math.floor(fraction / 1e9);
    this.seconds = seconds + whole;
    this.nanos = fraction - whole * 1e9;
    this.captured = captured;
    this.length = length;
    this.offset = at + header;
    this.block++;
    this.frames++;
    window.at = at + size;
    return true;
  }

  #readFileHeader(): boolean {
    const { window } = this;
    if (window.end - window.at < FILE_HEADER) return this.#wait(FILE_HEADER);
    const { view, at } = window;
    this.#little = MAGICS.has(view.getUint32(at, true));
    const kind = MAGICS.get(view.getUint32(at, this.#little));
    if (kind === undefined) throw this.bad("is no file header of a pcap");
    const major = view.getUint16(at + 4, this.#little);
    if (major !== 2) throw this.bad(`has version ${major} of the format, which is not known`);
    this.#unit = kind.unit;
    this.#header = kind.header;
    // Above these bits stands the length of the frame check sequence (libpcap's LT_LINKTYPE).
    this.linkType = view.getUint32(at + 20, this.#little) & 0x03ffffff;
    window.at += FILE_HEADER;
    this.block = 1;
    return true;
  }

  #wait(need: number): false {
    this.need = need;
    return false;
  }
}
