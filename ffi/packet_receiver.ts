/**
 * Receiving frames of one protocol, a few of them: a packet(7) socket. For many, see {@linkcode Capture}.
 *
 * @module
 */
import { constants } from "node:os";
import { writeProgram } from "./bpf_program.ts";
import { lastErrno, SystemError, unwrap } from "./errno.ts";
import { FrameFilter } from "./frame_filter.ts";
import { libc } from "./libc_sys.ts";
import { AF_PACKET, bindToInterface, SOCK_CLOEXEC, SOCK_RAW } from "./packet_family.ts";

const SOCK_NONBLOCK = 0x800;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const LINKTYPE_ETHERNET = 1;

/** Frames of one EtherType that arrive on an interface. It never blocks; what is not read in time, the kernel drops. */
export class PacketReceiver implements Disposable {
  /** The descriptor that is readable while frames wait. */
  readonly fd: number;
  readonly #buffer: Uint8Array<ArrayBuffer>;

  /**
   * Receives on interface `name` what is of EtherType `protocol` and `filter`, of pcap-filter(7), takes; `capacity` bytes
   * of each frame.
   *
   * @throws {PcapError} where the filter is none
   * @throws {SystemError} where there is no such interface, or no permission (CAP_NET_RAW)
   */
  constructor(name: string, protocol: number, filter: string, capacity: number) {
    this.#buffer = new Uint8Array(capacity);
    using compiled = new FrameFilter(filter, LINKTYPE_ETHERNET);
    const attempted = `receive on interface "${name}"`;
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    // Without a protocol nothing is received until the filter is there.
    this.fd = unwrap(libc().socket(AF_PACKET, type, 0), attempted);
    try {
      const program = writeProgram(compiled.code);
      unwrap(libc().setsockopt(this.fd, SOL_SOCKET, SO_ATTACH_FILTER, program, 16), attempted);
      bindToInterface(this.fd, name, protocol, attempted);
    } catch (error) {
      libc().close(this.fd);
      throw error;
    }
  }

  /**
   * The next frame that waits, from its Ethernet header on, undefined where none does. Valid until the next call.
   *
   * @throws {SystemError}
   */
  receive(): Uint8Array<ArrayBuffer> | undefined {
    const { EAGAIN, EINTR, ENETDOWN } = constants.errno;
    const read = libc().read(this.fd, this.#buffer, BigInt(this.#buffer.length));
    if (read >= 0n) return this.#buffer.subarray(0, Number(read));
    const errno = lastErrno();
    // It goes on once the interface is up again.
    if (errno === EAGAIN || errno === EINTR || errno === ENETDOWN) return undefined;
    throw new SystemError("receive a frame", errno);
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    libc().close(this.fd);
  }
}
