/**
 * What the kernel says of processes and of this process's network namespace.
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

/** The same number on every architecture. */
const SYS_PIDFD_OPEN = 434n;

const POLLIN = 0x1;
const POLLFD_SIZE = 8;

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;

/**
 * A descriptor of process `pid` that becomes readable when the process ends: pidfd_open(2). The caller closes it.
 *
 * @throws {SystemError} ESRCH where there is no such process
 */
export function openProcess(pid: number): number {
  const result = libc().syscall(SYS_PIDFD_OPEN, BigInt(pid), 0n);
  return Number(unwrap(result, `open process ${pid}`));
}

/** Of each of `descriptors`, as {@linkcode openProcess} gives them, whether its process has ended. */
export function haveEnded(descriptors: readonly number[]): boolean[] {
  const entries = new Uint8Array(descriptors.length * POLLFD_SIZE);
  const view = new DataView(entries.buffer);
  descriptors.forEach((descriptor, index) => {
    view.setInt32(index * POLLFD_SIZE, descriptor, true);
    view.setInt16(index * POLLFD_SIZE + 4, POLLIN, true);
  });
  unwrap(libc().poll(entries, BigInt(descriptors.length), 0), "poll processes");
  return descriptors.map((_, index) => view.getInt16(index * POLLFD_SIZE + 6, true) !== 0);
}

/** Closes what {@linkcode openProcess} opened. */
export function closeProcess(descriptor: number): void {
  libc().close(descriptor);
}

/** The number by which BPF programs know this process's network namespace, 8 bytes in host byte order. */
export function networkNamespace(): Uint8Array<ArrayBuffer> {
  const attempted = "ask for the network namespace";
  const socket = unwrap(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), attempted);
  try {
    const cookie = new Uint8Array(8);
    const length = new Uint8Array(new Uint32Array([cookie.length]).buffer);
    unwrap(libc().getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie, length), attempted);
    return cookie;
  } finally {
    libc().close(socket);
  }
}
