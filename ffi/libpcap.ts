/**
 * Live captures and injection by libpcap.
 *
 * @module
 */
import { cString, textOf } from "./c_string.ts";
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";
import { joinPrograms, readProgram, writeProgram } from "./bpf_program.ts";
import { libpcap } from "./libpcap_sys.ts";

/** An EtherType for local experiments (IEEE 802, 88-B5) that no frame of ours bears. */
const NOBODYS_ETHERTYPE = 0x88b5;
const ERRBUF_SIZE = 256;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const PCAP_TSTAMP_PRECISION_NANO = 1;
const PCAP_NETMASK_UNKNOWN = 0xffffffff;
/** The most that libpcap captures of a frame: its MAXIMUM_SNAPLEN. */
const MAX_SNAPLEN = 262_144;

/** A libpcap call that failed, in libpcap's own words. */
export class PcapError extends Error {
  /** `attempted` completes the sentence "Cannot …". */
  constructor(attempted: string, reason: string) {
    super(`Cannot ${attempted}: ${reason}`);
    this.name = "PcapError";
  }
}

/** An open `pcap_t` of an interface. */
class Handle implements Disposable {
  readonly interface: string;
  #pointer: Deno.PointerValue;

  /** Opens the interface; `configure` sets what must be set before activation. */
  constructor(name: string, configure: (pointer: Deno.PointerValue) => void) {
    const errbuf = new Uint8Array(ERRBUF_SIZE);
    this.interface = name;
    this.#pointer = libpcap().pcap_create(cString(name), errbuf);
    if (this.#pointer === null) throw new PcapError(`open interface "${name}"`, textOf(errbuf));
    try {
      configure(this.#pointer);
      this.unwrap(libpcap().pcap_activate(this.#pointer), "open");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get pointer(): Deno.PointerValue {
    return this.#pointer;
  }

  get fd(): number {
    return libpcap().pcap_fileno(this.#pointer);
  }

  /** The one gate of results: positive ones are warnings. */
  unwrap(result: number, doing: string): number {
    if (result >= 0) return result;
    const own = libpcap().pcap_geterr(this.#pointer);
    const text = own === null ? "" : new Deno.UnsafePointerView(own).getCString();
    const general = libpcap().pcap_statustostr(result);
    const reason = text !== "" || general === null
      ? text
      : new Deno.UnsafePointerView(general).getCString();
    throw new PcapError(`${doing} interface "${this.interface}"`, reason);
  }

  [Symbol.dispose](): void {
    if (this.#pointer !== null) libpcap().pcap_close(this.#pointer);
    this.#pointer = null;
  }
}

/** A handle that puts frames on an interface. */
export class Injector implements Disposable {
  readonly #handle: Handle;

  /**
   * Opens interface `name` for sending only. With `mark`, the frames bear that SO_MARK, by which BPF programs know
   * them.
   *
   * @throws {PcapError} where there is no such interface, or no permission (CAP_NET_RAW)
   */
  constructor(name: string, mark?: number) {
    this.#handle = new Handle(name, (pointer) => {
      // A capture of every protocol would cost each packet of the host a look.
      libpcap().pcap_set_protocol_linux(pointer, NOBODYS_ETHERTYPE);
      libpcap().pcap_set_snaplen(pointer, 64);
      libpcap().pcap_set_buffer_size(pointer, 1 << 16);
    });
    if (mark === undefined) return;
    try {
      const value = new Uint8Array(new Uint32Array([mark]).buffer);
      const result = libc().setsockopt(this.#handle.fd, SOL_SOCKET, SO_MARK, value, 4);
      unwrap(result, "mark the injected frames");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends `frame`, from its Ethernet header on. */
  send(frame: Uint8Array<ArrayBuffer>): void {
    const handle = this.#handle;
    handle.unwrap(libpcap().pcap_sendpacket(handle.pointer, frame, frame.length), "send on");
  }

  /** Closes the handle. */
  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}

/** A part of what is captured. */
export interface CaptureFilter {
  /** Which frames, in pcap-filter(7)'s language; all of them where it is empty. */
  filter: string;
  /** Bytes kept of each of them. */
  snaplen: number;
}

/** Settings of {@linkcode Capture}. */
export interface CaptureOptions {
  /**
   * What to capture: the first filter that takes a frame says how much is kept of it. A function gets the link type
   * of the interface, as pcap-linktype(7) numbers them.
   */
  filters: readonly CaptureFilter[] | ((link: number) => readonly CaptureFilter[]);
  /** Bytes of the kernel's ring. */
  bufferSize: number;
  /** How long the kernel may collect frames before they can be read, in milliseconds, at least 1. */
  delay: number;
}

/** What was captured and lost, counted by the kernel since the start. */
export interface CaptureStats {
  /** Frames that the filter took. */
  received: number;
  /** Frames lost because the ring was full. */
  dropped: number;
  /** Frames that the interface or its driver lost. */
  interfaceDropped: number;
}

/**
 * Takes one frame. `frame` is libpcap's own memory: valid until the return, `captured` of its bytes are the frame's,
 * and the frame had `length` bytes on the wire. `seconds` since the epoch and `nanos` below a second are its time.
 */
export type FrameReceiver = (
  frame: DataView,
  captured: number,
  length: number,
  seconds: number,
  nanos: number,
) => void;

/** A live capture; it never blocks. Poll {@linkcode Capture.fd} to wait for frames. */
export class Capture implements Disposable {
  /** Link type of the frames, as pcap-linktype(7) numbers them. */
  readonly link: number;
  readonly #handle: Handle;
  readonly #pointers = new BigUint64Array(2);
  readonly #headerSlot: Uint8Array<ArrayBuffer> = new Uint8Array(this.#pointers.buffer, 0, 8);
  readonly #dataSlot: Uint8Array<ArrayBuffer> = new Uint8Array(this.#pointers.buffer, 8, 8);
  #headerAt = 0n;
  #header: DataView = new DataView(new ArrayBuffer(0));
  #dataAt = 0n;
  #data: DataView = new DataView(new ArrayBuffer(0));

  /**
   * Starts capturing on interface `name`, with its MAC address' frames and broadcasts only.
   *
   * @throws {PcapError} for an interface or filter that is none, or without permission (CAP_NET_RAW)
   */
  constructor(name: string, options: CaptureOptions) {
    this.#handle = new Handle(name, (pointer) => {
      libpcap().pcap_set_snaplen(pointer, MAX_SNAPLEN);
      libpcap().pcap_set_buffer_size(pointer, options.bufferSize);
      libpcap().pcap_set_timeout(pointer, options.delay);
      libpcap().pcap_set_promisc(pointer, 0);
      libpcap().pcap_set_tstamp_precision(pointer, PCAP_TSTAMP_PRECISION_NANO);
    });
    try {
      this.link = libpcap().pcap_datalink(this.#handle.pointer);
      const { filters } = options;
      this.#setFilters(typeof filters === "function" ? filters(this.link) : filters);
      const errbuf = new Uint8Array(ERRBUF_SIZE);
      this.#handle.unwrap(libpcap().pcap_setnonblock(this.#handle.pointer, 1, errbuf), "read from");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Checks a filter for Ethernet frames without an interface.
   *
   * @throws {PcapError} where it is none
   */
  static checkFilter(filter: string): void {
    const dead = libpcap().pcap_open_dead(1, MAX_SNAPLEN);
    try {
      const program = new Uint8Array(16);
      const result = libpcap().pcap_compile(
        dead,
        program,
        cString(filter),
        1,
        PCAP_NETMASK_UNKNOWN,
      );
      if (result === 0) return libpcap().pcap_freecode(program);
      const reason = libpcap().pcap_geterr(dead);
      throw new PcapError(
        `compile filter "${filter}"`,
        reason === null ? "" : new Deno.UnsafePointerView(reason).getCString(),
      );
    } finally {
      libpcap().pcap_close(dead);
    }
  }

  /** The descriptor that is readable while frames wait. */
  get fd(): number {
    return this.#handle.fd;
  }

  /** Gives at most `limit` waiting frames to `receive`, and returns their number. */
  drain(receive: FrameReceiver, limit: number): number {
    const lib = libpcap();
    let frames = 0;
    while (frames < limit) {
      const { pointer } = this.#handle;
      const result = lib.pcap_next_ex(pointer, this.#headerSlot, this.#dataSlot);
      if (this.#handle.unwrap(result, "read from") !== 1) break;
      this.#follow();
      const header = this.#header;
      receive(
        this.#data,
        header.getUint32(16, true),
        header.getUint32(20, true),
        header.getUint32(0, true) + header.getInt32(4, true) * 2 ** 32,
        header.getUint32(8, true),
      );
      frames += 1;
    }
    return frames;
  }

  /** What was captured and lost so far. */
  stats(): CaptureStats {
    const stats = new Uint32Array(3);
    const result = libpcap().pcap_stats(this.#handle.pointer, new Uint8Array(stats.buffer));
    this.#handle.unwrap(result, "read the statistics of");
    return { received: stats[0]!, dropped: stats[1]!, interfaceDropped: stats[2]! };
  }

  /** Ends the capture. */
  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }

  /** libpcap mostly gives the same addresses again, and a new view costs more than the rest of the packet. */
  #follow(): void {
    if (this.#pointers[0] !== this.#headerAt) {
      this.#headerAt = this.#pointers[0]!;
      this.#header = viewAt(this.#headerAt, 24);
    }
    if (this.#pointers[1] !== this.#dataAt) {
      this.#dataAt = this.#pointers[1]!;
      this.#data = viewAt(this.#dataAt, MAX_SNAPLEN);
    }
  }

  /**
   * One program of all filters. libpcap's would keep as much of each frame; its own returns are constants, which it
   * replaces, and a return of the accumulator it leaves alone.
   */
  #setFilters(filters: readonly CaptureFilter[]): void {
    const parts = filters.map(({ filter, snaplen }) => ({ code: this.#compile(filter), snaplen }));
    using program = writeProgram(joinPrograms(parts));
    const set = libpcap().pcap_setfilter(this.#handle.pointer, program.bytes);
    this.#handle.unwrap(set, "set the filter of");
  }

  #compile(filter: string): BigUint64Array<ArrayBuffer> {
    const program = new Uint8Array(16);
    const { pointer } = this.#handle;
    const text = cString(filter);
    const compiled = libpcap().pcap_compile(pointer, program, text, 1, PCAP_NETMASK_UNKNOWN);
    this.#handle.unwrap(compiled, `filter "${filter}" on`);
    const code = readProgram(program);
    libpcap().pcap_freecode(program);
    return code;
  }
}

function viewAt(address: bigint, length: number): DataView {
  const pointer = Deno.UnsafePointer.create(address);
  if (pointer === null) throw new PcapError("read a frame", "libpcap gave no address");
  return new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, length));
}
