/**
 * Sending of whole IP packets: raw(7) sockets, whose packets the kernel routes like any other.
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_MARK = 36;
/** The packets bring their own IP header. */
const IPPROTO_RAW = 255;

/** A socket that sends IP packets of one version as they are. */
export class RawSocket implements Disposable {
  readonly #family: 4 | 6;
  #fd: number;

  /**
   * Opens a socket for IP version `family`, whose packets bear `mark` as their SO_MARK.
   *
   * @throws {SystemError} where that is not permitted (CAP_NET_RAW)
   */
  constructor(family: 4 | 6, mark: number) {
    this.#family = family;
    const domain = family === 4 ? AF_INET : AF_INET6;
    const attempted = "make a raw socket";
    this.#fd = unwrap(libc().socket(domain, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), attempted);
    const bytes = new Uint8Array(new Uint32Array([mark]).buffer);
    try {
      unwrap(libc().setsockopt(this.#fd, SOL_SOCKET, SO_MARK, bytes, 4), attempted);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Sends an IP packet to the destination in its header. `interfaceIndex` is for link-local addresses.
   *
   * @throws {SystemError} where there is no way to the destination
   */
  send(packet: Uint8Array<ArrayBuffer>, interfaceIndex: number): void {
    const ipv4 = this.#family === 4;
    const to = new Uint8Array(ipv4 ? 16 : 28);
    const view = new DataView(to.buffer);
    view.setUint16(0, ipv4 ? AF_INET : AF_INET6, true);
    to.set(ipv4 ? packet.subarray(16, 20) : packet.subarray(24, 40), ipv4 ? 4 : 8);
    // fe80::/10; any other address has no scope.
    const local = !ipv4 && packet[24] === 0xfe && (packet[25]! & 0xc0) === 0x80;
    if (local) view.setUint32(24, interfaceIndex, true);
    const length = BigInt(packet.length);
    unwrap(Number(libc().sendto(this.#fd, packet, length, 0, to, to.length)), "send a packet");
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc().close(this.#fd);
    this.#fd = -1;
  }
}
