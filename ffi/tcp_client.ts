/**
 * The client's ends of many TCP connections in one process, and epoll(7) that says what happens on them. Deno's own
 * sockets cost a promise and a turn of the event loop for each read and write.
 *
 * @module
 */
import { constants } from "node:os";
import { lastErrno, SystemError, unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_LINGER = 13;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
const EPOLL_CLOEXEC = SOCK_CLOEXEC;
const EPOLL_CTL_ADD = 1;
const EPOLLET = 0x8000_0000;

/** What happened on a connection, bits of epoll_ctl(2). */
export const Happening = {
  /** There are bytes, or the end of them. */
  READABLE: 0x1,
  /** It is connected, or takes bytes again. */
  WRITABLE: 0x4,
  /** It has failed. */
  ERROR: 0x8,
  /** Both directions have ended. */
  HANG_UP: 0x10,
  /** The server has sent all it will send. */
  SERVER_DONE: 0x2000,
} as const;

/** A `struct epoll_event` is packed on x86-64 only. */
const EVENT = Deno.build.arch === "x86_64" ? { size: 12, data: 4 } : { size: 16, data: 8 };
/** Events that one look takes. */
const BATCH = 1024;
/** Bytes that one {@linkcode TcpClients.receive} takes at most. */
export const INBOX_SIZE: number = 64 << 10;
const INBOX_LENGTH = BigInt(INBOX_SIZE);

/** A server's address as the kernel takes it. */
export interface SocketAddress {
  /** AF_INET or AF_INET6. */
  readonly domain: number;
  /** A `struct sockaddr_in` or `sockaddr_in6`. */
  readonly name: Uint8Array<ArrayBuffer>;
}

/** The {@linkcode SocketAddress} of 4 or 16 bytes of address and a port. */
export function socketAddress(address: Uint8Array, port: number): SocketAddress {
  const ipv4 = address.length === 4;
  if (!ipv4 && address.length !== 16) throw new RangeError("An address has 4 or 16 bytes");
  const name = new Uint8Array(ipv4 ? 16 : 28);
  const view = new DataView(name.buffer);
  const domain = ipv4 ? AF_INET : AF_INET6;
  view.setUint16(0, domain, true);
  view.setUint16(2, port);
  name.set(address, ipv4 ? 4 : 8);
  return { domain, name };
}

/**
 * Connections by their file descriptor. No call blocks unless it says so. Where a call can fail by what the network or
 * the server does, it returns the negated error number instead of throwing.
 */
export class TcpClients implements Disposable {
  /** What {@linkcode TcpClients.receive} got; overwritten by the next. */
  readonly inbox: Uint8Array<ArrayBuffer> = new Uint8Array(INBOX_SIZE);
  /** The keys of the connections of the last {@linkcode TcpClients.look}. */
  readonly keys: Uint32Array<ArrayBuffer> = new Uint32Array(BATCH);
  /** What happened on each, bits of {@linkcode Happening}. */
  readonly happenings: Uint32Array<ArrayBuffer> = new Uint32Array(BATCH);
  readonly #epoll: number;
  readonly #events = new Uint8Array(BATCH * EVENT.size);
  readonly #view = new DataView(this.#events.buffer);
  readonly #interest = new Uint8Array(EVENT.size);
  readonly #one = new Uint8Array(Int32Array.of(1).buffer);
  readonly #abortive = new Uint8Array(Int32Array.of(1, 0).buffer);
  readonly #error = new Int32Array(1);
  readonly #length = new Uint32Array(1);

  /** @throws {SystemError} where the kernel gives no more file descriptors */
  constructor() {
    this.#epoll = unwrap(libc().epoll_create1(EPOLL_CLOEXEC), "make an epoll instance");
  }

  /** A descriptor that is readable while {@linkcode TcpClients.look} has something to tell. */
  get fd(): number {
    return this.#epoll;
  }

  /**
   * Begins to connect to `to`; what happens is told under `key`, 32 bits unsigned. Returns the connection's descriptor,
   * or an error number negated.
   */
  open(to: SocketAddress, key: number): number {
    const lib = libc();
    const fd = lib.socket(to.domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -lastErrno();
    // Messages leave when they are due, each by itself.
    lib.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, this.#one, 4);
    let errno = 0;
    if (lib.connect(fd, to.name, to.name.length) < 0) {
      errno = lastErrno();
      if (errno === constants.errno.EINPROGRESS) errno = 0;
    }
    if (errno === 0) {
      const view = new DataView(this.#interest.buffer);
      const { READABLE, WRITABLE, SERVER_DONE } = Happening;
      view.setUint32(0, (READABLE | WRITABLE | SERVER_DONE | EPOLLET) >>> 0, true);
      view.setUint32(EVENT.data, key, true);
      if (lib.epoll_ctl(this.#epoll, EPOLL_CTL_ADD, fd, this.#interest) < 0) errno = lastErrno();
    }
    if (errno === 0) return fd;
    lib.close(fd);
    return -errno;
  }

  /**
   * Blocks for `millis` at most until something happened, and returns on how many connections; at most one entry each.
   * Each happening is told once.
   *
   * @throws {SystemError}
   */
  look(millis: number): number {
    const count = libc().epoll_wait(this.#epoll, this.#events, BATCH, millis);
    if (count < 0) {
      const errno = lastErrno();
      if (errno === constants.errno.EINTR) return 0;
      throw new SystemError("wait for connections", errno);
    }
    for (let i = 0, at = 0; i < count; i++, at += EVENT.size) {
      this.happenings[i] = this.#view.getUint32(at, true);
      this.keys[i] = this.#view.getUint32(at + EVENT.data, true);
    }
    return count;
  }

  /** Sends some of `bytes`, and returns how many, or an error number negated: EAGAIN where none are taken now. */
  send(fd: number, bytes: Uint8Array<ArrayBuffer>): number {
    const sent = Number(libc().send(fd, bytes, BigInt(bytes.length), MSG_NOSIGNAL));
    return sent < 0 ? -lastErrno() : sent;
  }

  /** Receives into the inbox. Returns how many bytes, 0 at their end, or an error number negated. */
  receive(fd: number): number {
    const received = Number(libc().recv(fd, this.inbox, INBOX_LENGTH, 0));
    return received < 0 ? -lastErrno() : received;
  }

  /** The error number that a connection has failed with, 0 for none. */
  errorOf(fd: number): number {
    this.#error[0] = 0;
    this.#length[0] = 4;
    libc().getsockopt(
      fd,
      SOL_SOCKET,
      SO_ERROR,
      new Uint8Array(this.#error.buffer),
      new Uint8Array(this.#length.buffer),
    );
    return this.#error[0]!;
  }

  /** Says that no more bytes follow (FIN). */
  finish(fd: number): void {
    libc().shutdown(fd, SHUT_WR);
  }

  /** Closes a connection; where bytes were not received, the kernel sends RST. */
  close(fd: number): void {
    libc().close(fd);
  }

  /** Closes a connection with RST. */
  reset(fd: number): void {
    libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, this.#abortive, 8);
    libc().close(fd);
  }

  /** Closes the epoll instance; the connections are the caller's to close. */
  [Symbol.dispose](): void {
    libc().close(this.#epoll);
  }
}
