/**
 * Injection by libpcap, and its compiler of filters.
 *
 * @module
 */
import { cString, textOf } from "./c_string.ts";
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";
import { readProgram } from "./bpf_program.ts";
import { libpcap } from "./libpcap_sys.ts";

/** An EtherType for local experiments (IEEE 802, 88-B5) that no frame of ours bears. */
const NOBODYS_ETHERTYPE = 0x88b5;
const ERRBUF_SIZE = 256;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_MARK = 36;
const PCAP_NETMASK_UNKNOWN = 0xffffffff;

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
    this.#handle = new Handle(name, captureNothing);
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

  /** Forgets that the interface was down for a while: else the next frame would not be sent. */
  forgetError(): void {
    const error = new Uint8Array(4);
    const size = new Uint8Array(Uint32Array.of(4).buffer);
    const result = libc().getsockopt(this.#handle.fd, SOL_SOCKET, SO_ERROR, error, size);
    unwrap(result, "read the state of a packet socket");
  }

  /** Closes the handle. */
  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}

/** Compiles filters of pcap-filter(7)'s language for the frames of an interface. */
export class FilterCompiler implements Disposable {
  readonly #handle: Handle;

  /**
   * For interface `name`: it knows that interface's link type, and where the kernel keeps a frame's VLAN tag.
   *
   * @throws {PcapError} where there is no such interface, or no permission (CAP_NET_RAW)
   */
  constructor(name: string) {
    this.#handle = new Handle(name, captureNothing);
  }

  /** Link type of the frames, as pcap-linktype(7) numbers them. */
  get link(): number {
    return libpcap().pcap_datalink(this.#handle.pointer);
  }

  /**
   * The program of `filter`; the empty one takes every frame.
   *
   * @throws {PcapError} where it is none
   */
  compile(filter: string): BigUint64Array<ArrayBuffer> {
    const program = new Uint8Array(16);
    const { pointer } = this.#handle;
    const text = cString(filter);
    const compiled = libpcap().pcap_compile(pointer, program, text, 1, PCAP_NETMASK_UNKNOWN);
    this.#handle.unwrap(compiled, `filter "${filter}" on`);
    const code = readProgram(program);
    libpcap().pcap_freecode(program);
    return code;
  }

  /** Closes the handle. */
  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}

/** A capture of every protocol would cost each packet of the host a look. */
function captureNothing(pointer: Deno.PointerValue): void {
  libpcap().pcap_set_protocol_linux(pointer, NOBODYS_ETHERTYPE);
  libpcap().pcap_set_snaplen(pointer, 64);
  libpcap().pcap_set_buffer_size(pointer, 1 << 16);
}
