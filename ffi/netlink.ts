/**
 * Neighbour entries by rtnetlink(7): as `ip neighbour` changes them, without the start of a process.
 *
 * @module
 */
import { SystemError, unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const NETLINK_ROUTE = 0;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const NLM_F_REQUEST = 0x001;
const NLM_F_ACK = 0x004;
const NLM_F_REPLACE = 0x100;
const NLM_F_CREATE = 0x400;
const NUD_REACHABLE = 0x02;
const NDA_DST = 1;
const NDA_LLADDR = 2;

const HEADER = 16;
const NDMSG = 12;
const ATTRIBUTE = 4;

/** A socket that changes neighbour entries of this network namespace. */
export class NeighbourTable implements Disposable {
  #fd: number;

  /** Opens the socket. @throws {SystemError} */
  constructor() {
    const fd = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    this.#fd = unwrap(fd, "make a netlink socket");
  }

  /**
   * Says that `address`, of 4 or 16 bytes, is at `mac` on interface `ifindex`, whatever was known before.
   *
   * @throws {SystemError} ENODEV for no such interface, EPERM without CAP_NET_ADMIN
   */
  set(ifindex: number, address: Uint8Array, mac: Uint8Array): void {
    const flags = NLM_F_CREATE | NLM_F_REPLACE;
    this.#request(message(RTM_NEWNEIGH, flags, ifindex, address, mac), "set a neighbour entry");
  }

  /**
   * Forgets where `address` is on interface `ifindex`, so that the next packet asks; false where nothing was known.
   *
   * @throws {SystemError}
   */
  forget(ifindex: number, address: Uint8Array): boolean {
    try {
      this.#request(message(RTM_DELNEIGH, 0, ifindex, address), "remove a neighbour entry");
      return true;
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOENT") return false;
      throw error;
    }
  }

  #request(bytes: Uint8Array<ArrayBuffer>, attempted: string): void {
    const kernel = new Uint8Array(12);
    new DataView(kernel.buffer).setUint16(0, AF_NETLINK, true);
    const sent = libc().sendto(this.#fd, bytes, BigInt(bytes.length), 0, kernel, kernel.length);
    unwrap(Number(sent), attempted);
    // The kernel has answered before the call returns: a struct nlmsgerr, or its beginning.
    const answer = new Uint8Array(256);
    unwrap(Number(libc().read(this.#fd, answer, BigInt(answer.length))), attempted);
    const error = -new DataView(answer.buffer).getInt32(HEADER, true);
    if (error !== 0) throw new SystemError(attempted, error);
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc().close(this.#fd);
    this.#fd = -1;
  }
}

/** A struct nlmsghdr with a struct ndmsg and its attributes, in the host's byte order. */
function message(
  type: number,
  flags: number,
  ifindex: number,
  address: Uint8Array,
  mac?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const attributes = [[NDA_DST, address] as const, ...(mac ? [[NDA_LLADDR, mac] as const] : [])];
  const aligned = (length: number): number => (length + 3) & ~3;
  const length = attributes.reduce(
    (sum, [, value]) => sum + aligned(ATTRIBUTE + value.length),
    HEADER + NDMSG,
  );
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK | flags, true);
  view.setUint8(HEADER, address.length === 4 ? AF_INET : AF_INET6);
  view.setInt32(HEADER + 4, ifindex, true);
  view.setUint16(HEADER + 8, NUD_REACHABLE, true);
  let at = HEADER + NDMSG;
  for (const [kind, value] of attributes) {
    view.setUint16(at, ATTRIBUTE + value.length, true);
    view.setUint16(at + 2, kind, true);
    bytes.set(value, at + ATTRIBUTE);
    at += aligned(ATTRIBUTE + value.length);
  }
  return bytes;
}
