/**
 * Sending of frames that the kernel takes as large segments: a packet(7) socket with virtio-net headers.
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";
import { AF_PACKET, bindToInterface, SOCK_CLOEXEC, SOCK_RAW, SOL_PACKET } from "./packet_family.ts";

const SOL_SOCKET = 1;
const SO_MARK = 36;
const PACKET_VNET_HDR = 15;

/** Length of struct virtio_net_hdr, which stands before each frame. */
export const VNET_HEADER = 10;
const NEEDS_CHECKSUM = 1;
const GSO_TCPV4 = 1;
const GSO_TCPV6 = 4;
/** Where the checksum stands in the TCP header. */
const TCP_CHECKSUM = 16;

/** Where the parts of a large segment stand. */
export interface LargeSegment {
  /** Whether it is IPv6. */
  ipv6: boolean;
  /** Offset of the TCP header from the frame's begin. */
  tcp: number;
  /** Bytes of all headers. */
  headers: number;
  /** Bytes of payload in each of the segments that it stands for. */
  size: number;
}

/**
 * Fills in a struct virtio_net_hdr at the begin of `buffer`, for the frame behind it. The frame's TCP checksum must be
 * the sum of its pseudo header: the kernel does the rest where it is needed at all.
 */
export function writeVnetHeader(buffer: DataView, segment: LargeSegment): void {
  buffer.setUint8(0, NEEDS_CHECKSUM);
  buffer.setUint8(1, segment.ipv6 ? GSO_TCPV6 : GSO_TCPV4);
  buffer.setUint16(2, segment.headers, true);
  buffer.setUint16(4, segment.size, true);
  buffer.setUint16(6, segment.tcp, true);
  buffer.setUint16(8, TCP_CHECKSUM, true);
}

/** A packet socket that puts frames with virtio-net headers on an interface. */
export class PacketSocket implements Disposable {
  #fd: number;

  /**
   * Opens interface `name` for sending only; the frames bear `mark` as their SO_MARK.
   *
   * @throws {SystemError} where there is no such interface, or no permission (CAP_NET_RAW)
   */
  constructor(name: string, mark: number) {
    // Protocol 0: it receives nothing.
    this.#fd = unwrap(libc().socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "make a packet socket");
    try {
      const option = (level: number, what: number, value: number): void => {
        const bytes = new Uint8Array(new Uint32Array([value]).buffer);
        unwrap(libc().setsockopt(this.#fd, level, what, bytes, 4), "set up a packet socket");
      };
      option(SOL_PACKET, PACKET_VNET_HDR, 1);
      option(SOL_SOCKET, SO_MARK, mark);
      bindToInterface(this.#fd, name, 0, `bind a packet socket to "${name}"`);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Sends a virtio-net header and the frame behind it.
   *
   * @throws {SystemError} where the kernel does not take it
   */
  send(buffer: Uint8Array<ArrayBuffer>): void {
    const sent = libc().sendto(this.#fd, buffer, BigInt(buffer.length), 0, null, 0);
    unwrap(Number(sent), "send a large segment");
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc().close(this.#fd);
    this.#fd = -1;
  }
}
