/**
 * Live captures and injection by libpcap.
 *
 * @module
 */
import { cString, textOf } from "./c_string.ts";
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";
import { libpcap } from "./libpcap_sys.ts";

/** An EtherType for local experiments (IEEE 802, 88-B5) that no frame of ours bears. */
const NOBODYS_ETHERTYPE = 0x88b5;
const ERRBUF_SIZE = 256;
const SOL_SOCKET = 1;
const SO_MARK = 36;

/** A libpcap call that failed, in libpcap's own words. */
export class PcapError extends Error {
  /** `attempted` completes the sentence "Cannot …". */
  constructor(attempted: string, reason: string) {
    super(`Cannot ${attempted}: ${reason}`);
    this.name = "PcapError";
  }
}

/** A handle that puts frames on an interface. */
export class Injector implements Disposable {
  readonly #interface: string;
  #handle: Deno.PointerValue;

  /**
   * Opens interface `name` for sending only. With `mark`, the frames bear that SO_MARK, by which BPF programs know
   * them.
   *
   * @throws {PcapError} where there is no such interface, or no permission (CAP_NET_RAW)
   */
  constructor(name: string, mark?: number) {
    const errbuf = new Uint8Array(ERRBUF_SIZE);
    this.#interface = name;
    this.#handle = libpcap().pcap_create(cString(name), errbuf);
    if (this.#handle === null) throw new PcapError(`open interface "${name}"`, textOf(errbuf));
    try {
      // A capture of every protocol would cost each packet of the host a look.
      libpcap().pcap_set_protocol_linux(this.#handle, NOBODYS_ETHERTYPE);
      libpcap().pcap_set_snaplen(this.#handle, 64);
      libpcap().pcap_set_buffer_size(this.#handle, 1 << 16);
      const status = libpcap().pcap_activate(this.#handle);
      if (status < 0) throw new PcapError(`open interface "${name}"`, this.#error(status));
      if (mark !== undefined) this.#setMark(mark);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends `frame`, from its Ethernet header on. */
  send(frame: Uint8Array<ArrayBuffer>): void {
    if (libpcap().pcap_sendpacket(this.#handle, frame, frame.length) < 0) {
      throw new PcapError(`send on interface "${this.#interface}"`, this.#error());
    }
  }

  /** Closes the handle. */
  [Symbol.dispose](): void {
    if (this.#handle !== null) libpcap().pcap_close(this.#handle);
    this.#handle = null;
  }

  #setMark(mark: number): void {
    const fd = libpcap().pcap_fileno(this.#handle);
    const value = new Uint8Array(new Uint32Array([mark]).buffer);
    unwrap(libc().setsockopt(fd, SOL_SOCKET, SO_MARK, value, 4), "mark the injected frames");
  }

  #error(status?: number): string {
    const own = libpcap().pcap_geterr(this.#handle);
    const text = own === null ? "" : new Deno.UnsafePointerView(own).getCString();
    if (text !== "" || status === undefined) return text;
    const general = libpcap().pcap_statustostr(status);
    return general === null ? `status ${status}` : new Deno.UnsafePointerView(general).getCString();
  }
}
