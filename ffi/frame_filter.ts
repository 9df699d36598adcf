/**
 * Filters of pcap-filter(7) on frames in memory.
 *
 * @module
 */
import { readProgram } from "./bpf_program.ts";
import { cString } from "./c_string.ts";
import { libpcap } from "./libpcap_sys.ts";
import { PcapError } from "./libpcap.ts";

const PCAP_NETMASK_UNKNOWN = 0xffffffff;
const MAX_SNAPLEN = 262_144;
/** `struct pcap_pkthdr`: a time, then the captured and the original length. */
const HEADER = { size: 24, captured: 16, length: 20 } as const;
/** Link types of files whose number in libpcap differs: LINKTYPE_RAW is DLT_RAW. */
const OTHER_NUMBERS: ReadonlyMap<number, number> = new Map([[101, 12]]);

/** A compiled filter for frames of one link type. */
export class FrameFilter implements Disposable {
  readonly #program = new Uint8Array(16);
  readonly #bytes = new Uint8Array(HEADER.size);
  readonly #header = new DataView(this.#bytes.buffer);

  /**
   * Compiles `filter` for a LINKTYPE_ number.
   *
   * @throws {PcapError} where it is none, or says what this link type does not have
   */
  constructor(filter: string, linkType: number) {
    const lib = libpcap();
    const dead = lib.pcap_open_dead(OTHER_NUMBERS.get(linkType) ?? linkType, MAX_SNAPLEN);
    try {
      const text = cString(filter);
      if (lib.pcap_compile(dead, this.#program, text, 1, PCAP_NETMASK_UNKNOWN) === 0) return;
      const reason = lib.pcap_geterr(dead);
      throw new PcapError(
        `compile filter "${filter}" for link type ${linkType}`,
        reason === null ? "" : new Deno.UnsafePointerView(reason).getCString(),
      );
    } finally {
      lib.pcap_close(dead);
    }
  }

  /** Whether the filter takes `frame`, which had `length` bytes on the wire. */
  takes(frame: Uint8Array<ArrayBuffer>, length: number): boolean {
    this.#header.setUint32(HEADER.captured, frame.length, true);
    this.#header.setUint32(HEADER.length, length, true);
    return libpcap().pcap_offline_filter(this.#program, this.#bytes, frame) !== 0;
  }

  /** Its instructions. */
  get code(): BigUint64Array<ArrayBuffer> {
    return readProgram(this.#program);
  }

  /** Releases the compiled filter. */
  [Symbol.dispose](): void {
    libpcap().pcap_freecode(this.#program);
  }
}
