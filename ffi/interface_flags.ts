/**
 * The state of network interfaces: netdevice(7).
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const SIOCGIFFLAGS = 0x8913n;

/** `struct ifreq`. */
const REQUEST = { size: 40, name: 0, nameSize: 16, flags: 16 } as const;

/** Bits of {@linkcode interfaceFlags}: `enum net_device_flags` of `linux/if.h`. */
export const InterfaceFlag = { UP: 0x1, LOOPBACK: 0x8, RUNNING: 0x40, NOARP: 0x80 } as const;

/** The kernel wants some socket to be asked by; this one stays open. */
let socket: number | undefined;

/**
 * The flags of interface `name`; undefined where there is none.
 *
 * @throws {SystemError} where no socket can be had
 */
export function interfaceFlags(name: string): number | undefined {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length >= REQUEST.nameSize) return undefined;
  const request = new Uint8Array(REQUEST.size);
  request.set(bytes, REQUEST.name);
  socket ??= unwrap(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "open a socket");
  const result = libc().ioctl(socket, SIOCGIFFLAGS, request);
  return result < 0 ? undefined : new DataView(request.buffer).getUint16(REQUEST.flags, true);
}
