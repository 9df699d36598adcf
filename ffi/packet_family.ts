/**
 * What packet(7) sockets have alike.
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";
import { interfaceIndex } from "./tc.ts";

/** The address family. */
export const AF_PACKET = 17;
/** Option level of packet sockets. */
export const SOL_PACKET = 263;
/** Frames with their link header. */
export const SOCK_RAW = 3;
/** Closed in programs that this process starts. */
export const SOCK_CLOEXEC = 0x80000;

/** `struct sockaddr_ll`. */
const ADDRESS = { size: 20, family: 0, protocol: 2, index: 4 } as const;

/**
 * Binds a packet socket to interface `name`, for frames of the EtherType `protocol`; with 0 it receives none.
 * `attempted` completes the sentence "Cannot …".
 *
 * @throws {SystemError}
 */
export function bindToInterface(
  fd: number,
  name: string,
  protocol: number,
  attempted: string,
): void {
  const address = new DataView(new ArrayBuffer(ADDRESS.size));
  address.setUint16(ADDRESS.family, AF_PACKET, true);
  address.setUint16(ADDRESS.protocol, protocol);
  address.setInt32(ADDRESS.index, interfaceIndex(name), true);
  const result = libc().bind(fd, new Uint8Array(address.buffer), ADDRESS.size);
  unwrap(result, attempted);
}
