/**
 * UDP sockets that tell what Deno's do not: the TTL or hop limit of a datagram, the address it was
 * sent to, and the interface it came in on.
 *
 * @module
 */
import { constants } from "node:os";
import { lastErrno, SystemError, unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const AF = { 4: 2, 6: 10 } as const;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL = { SOCKET: 1, IP: 0, IPV6: 41 } as const;
const SO = { RCVBUF: 8, PRIORITY: 12, BINDTODEVICE: 25, RCVBUFFORCE: 33 } as const;
const IP = { TOS: 1, TTL: 2, PKTINFO: 8, RECVTTL: 12 } as const;
const IPV6 = {
  UNICAST_HOPS: 16,
  V6ONLY: 26,
  RECVPKTINFO: 49,
  PKTINFO: 50,
  RECVHOPLIMIT: 51,
  HOPLIMIT: 52,
  TCLASS: 67,
} as const;
const MSG = { CTRUNC: 0x8, TRUNC: 0x20 } as const;

/** struct msghdr, struct iovec, struct cmsghdr, struct sockaddr_in6 and the control data we ask for. */
const SIZE = { MSGHDR: 56, IOVEC: 16, CMSGHDR: 16, SOCKADDR_IN6: 28, CONTROL: 128 } as const;
const SOCKADDR_SIZE = { 4: 16, 6: SIZE.SOCKADDR_IN6 } as const;

/** One end of a datagram's way. */
export interface UdpAddress {
  /** 4 bytes of an IPv4 or 16 bytes of an IPv6 address, network byte order. */
  address: Uint8Array;
  /** 0 to 65535. */
  port: number;
  /** The interface's index where an IPv6 address is link-local, else 0. */
  scopeId: number;
}

/** Settings of {@linkcode UdpSocket.open}. */
export interface UdpOptions {
  /** IP version. An IPv6 socket never carries IPv4. */
  family: 4 | 6;
  /** The local address, 4 or 16 bytes as `family` says; every local address unless given. */
  address?: Uint8Array;
  /** The local port; one that the kernel chooses unless given. */
  port?: number;
  /** The interface's index where `address` is link-local. */
  scopeId?: number;
  /** TTL or hop limit of what is sent, 1 to 255; the host's default unless given. */
  ttl?: number;
  /** DSCP of what is sent, 0 to 63 (RFC 2474); 0 unless given. */
  dscp?: number;
  /** SO_PRIORITY of what is sent, 0 to 6, for the queues of this host; the kernel's unless given. */
  priority?: number;
  /**
   * Bytes of the receive buffer, the kernel's bookkeeping included; the host's default unless given.
   * Without CAP_NET_ADMIN at most the host's net.core.rmem_max.
   */
  receiveBuffer?: number;
  /** Send and receive by this interface only. */
  bindToDevice?: string;
  /**
   * A raw socket of this protocol of IP instead, 1 to 255, such as 1 for ICMP: raw(7). Ports are 0 then, and what
   * arrives by IPv4 has its IP header. Needs CAP_NET_RAW.
   */
  rawProtocol?: number;
}

/** A received datagram. Its buffers are used again for the next one. */
export interface Datagram {
  /** What arrived, as far as it fits the socket's buffer. */
  bytes: Uint8Array;
  /** Whether the datagram was longer than that. */
  truncated: boolean;
  /** Who sent it. */
  source: UdpAddress;
  /**
   * The address that it was sent to, 4 or 16 bytes; of an IPv4 broadcast or multicast, the address
   * that an answer leaves from. Empty where the kernel did not tell.
   */
  destination: Uint8Array;
  /** TTL or hop limit, 0 to 255, or -1 where the kernel did not tell. */
  ttl: number;
  /** Index of the interface that it came in on, 0 where the kernel did not tell. */
  interfaceIndex: number;
}

/** A UDP or raw socket that never blocks. */
export class UdpSocket {
  /** The file descriptor, for a poller. */
  readonly fd: number;
  /** IP version. */
  readonly family: 4 | 6;
  readonly #peer: Uint8Array<ArrayBuffer>;
  readonly #header: DataView<ArrayBuffer>;
  readonly #headerBytes: Uint8Array<ArrayBuffer>;
  readonly #name = new DataView(new ArrayBuffer(SIZE.SOCKADDR_IN6));
  readonly #control = new DataView(new ArrayBuffer(SIZE.CONTROL));
  readonly #iovec: DataView<ArrayBuffer>;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  readonly #datagram: Datagram;
  #closed = false;

  private constructor(fd: number, family: 4 | 6, capacity: number) {
    this.fd = fd;
    this.family = family;
    this.#peer = new Uint8Array(SOCKADDR_SIZE[family]);
    this.#buffer = new Uint8Array(capacity);
    this.#iovec = new DataView(new ArrayBuffer(SIZE.IOVEC));
    this.#iovec.setBigUint64(0, pointer(this.#buffer), true);
    this.#iovec.setBigUint64(8, BigInt(capacity), true);
    this.#header = new DataView(new ArrayBuffer(SIZE.MSGHDR));
    this.#headerBytes = new Uint8Array(this.#header.buffer);
    this.#header.setBigUint64(0, pointer(this.#name), true);
    this.#header.setBigUint64(16, pointer(this.#iovec), true);
    this.#header.setBigUint64(24, 1n, true);
    this.#header.setBigUint64(32, pointer(this.#control), true);
    this.#datagram = {
      bytes: this.#buffer,
      truncated: false,
      source: { address: new Uint8Array(family === 4 ? 4 : 16), port: 0, scopeId: 0 },
      destination: new Uint8Array(0),
      ttl: -1,
      interfaceIndex: 0,
    };
  }

  /**
   * Opens and binds a socket whose datagrams have at most `capacity` bytes.
   *
   * @throws {SystemError} EADDRINUSE, EADDRNOTAVAIL, ENODEV, EPERM and the like
   * @throws {RangeError} where an option is out of its range
   */
  static open(options: UdpOptions, capacity = 2048): UdpSocket {
    const { family } = options;
    const length = family === 4 ? 4 : 16;
    const local = {
      address: options.address ?? new Uint8Array(length),
      port: options.port ?? 0,
      scopeId: options.scopeId ?? 0,
    };
    const name = encodeAddress(local, new Uint8Array(SOCKADDR_SIZE[family]), family);
    inRange("Capacity", capacity, 1, 65535);
    inRange("TTL", options.ttl ?? 1, 1, 255);
    inRange("DSCP", options.dscp ?? 0, 0, 63);
    inRange("Priority", options.priority ?? 0, 0, 6);
    const { rawProtocol } = options;
    const type = (rawProtocol === undefined ? SOCK_DGRAM : SOCK_RAW) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const what = rawProtocol === undefined ? "open a UDP socket" : "open a raw socket";
    const fd = unwrap(libc().socket(AF[family], type, rawProtocol ?? 0), what);
    try {
      configure(fd, options);
      unwrap(libc().bind(fd, name, name.length), `bind UDP port ${local.port}`);
      return new UdpSocket(fd, family, capacity);
    } catch (error) {
      libc().close(fd);
      throw error;
    }
  }

  /**
   * The address and port that the socket is bound to.
   *
   * @throws {SystemError}
   */
  localAddress(): UdpAddress {
    this.#use();
    const name = new Uint8Array(SIZE.SOCKADDR_IN6);
    const length = Uint32Array.of(name.length);
    unwrap(
      libc().getsockname(this.fd, name, new Uint8Array(length.buffer)),
      "read a socket's address",
    );
    return decodeAddress(new DataView(name.buffer), length[0] ?? 0, this.family);
  }

  /**
   * Sends `bytes` to `peer` without waiting. Returns whether they were sent; they were not where the
   * socket's send buffer is full.
   *
   * @throws {SystemError} ENETUNREACH, EPERM and the like
   */
  send(bytes: Uint8Array<ArrayBuffer>, peer: UdpAddress): boolean {
    this.#use();
    encodeAddress(peer, this.#peer, this.family);
    const sent = libc().sendto(
      this.fd,
      bytes,
      BigInt(bytes.length),
      0,
      this.#peer,
      this.#peer.length,
    );
    if (sent >= 0n) return true;
    const errno = lastErrno();
    if (errno === constants.errno.EAGAIN || errno === constants.errno.ENOBUFS) return false;
    throw new SystemError("send a UDP datagram", errno);
  }

  /**
   * The next datagram that waits, `undefined` where none does. The result is valid until the next
   * call.
   *
   * @throws {SystemError}
   */
  receive(): Datagram | undefined {
    this.#use();
    this.#header.setUint32(8, SIZE.SOCKADDR_IN6, true);
    this.#header.setBigUint64(40, BigInt(SIZE.CONTROL), true);
    this.#header.setInt32(48, 0, true);
    const received = libc().recvmsg(this.fd, this.#headerBytes, 0);
    if (received < 0n) {
      const errno = lastErrno();
      if (errno === constants.errno.EAGAIN || errno === constants.errno.EINTR) return undefined;
      throw new SystemError("receive a UDP datagram", errno);
    }
    const datagram = this.#datagram;
    const flags = this.#header.getInt32(48, true);
    datagram.bytes = this.#buffer.subarray(0, Math.min(Number(received), this.#buffer.length));
    datagram.truncated = (flags & MSG.TRUNC) !== 0;
    datagram.source = decodeAddress(this.#name, this.#header.getUint32(8, true), this.family);
    datagram.destination = new Uint8Array(0);
    datagram.ttl = -1;
    datagram.interfaceIndex = 0;
    // A cut control message would be read as if it were whole.
    if ((flags & MSG.CTRUNC) === 0) this.#readControl(datagram);
    return datagram;
  }

  /** Closes the socket. May be called again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    libc().close(this.fd);
  }

  #use(): void {
    if (this.#closed) throw new TypeError("Socket is closed");
  }

  /** Walks the control messages; `cmsg(3)`. */
  #readControl(datagram: Datagram): void {
    const control = this.#control;
    const end = Math.min(Number(this.#header.getBigUint64(40, true)), control.byteLength);
    let at = 0;
    while (at + SIZE.CMSGHDR <= end) {
      const length = Number(control.getBigUint64(at, true));
      if (length < SIZE.CMSGHDR || at + length > end) return;
      const level = control.getInt32(at + 8, true);
      const type = control.getInt32(at + 12, true);
      const data = at + SIZE.CMSGHDR;
      const size = length - SIZE.CMSGHDR;
      if (level === SOL.IP && type === IP.TTL && size >= 4) {
        datagram.ttl = control.getInt32(data, true);
      } else if (level === SOL.IPV6 && type === IPV6.HOPLIMIT && size >= 4) {
        datagram.ttl = control.getInt32(data, true);
      } else if (level === SOL.IP && type === IP.PKTINFO && size >= 12) {
        // struct in_pktinfo: int ipi_ifindex, struct in_addr ipi_spec_dst, ipi_addr
        datagram.interfaceIndex = control.getInt32(data, true);
        datagram.destination = copy(control, data + 4, 4);
      } else if (level === SOL.IPV6 && type === IPV6.PKTINFO && size >= 20) {
        // struct in6_pktinfo: struct in6_addr ipi6_addr, unsigned int ipi6_ifindex
        datagram.interfaceIndex = control.getUint32(data + 16, true);
        datagram.destination = copy(control, data, 16);
      }
      at += length + 7 & ~7;
    }
  }
}

/**
 * The index of interface `name`, 0 where there is none.
 */
export function interfaceIndex(name: string): number {
  return libc().if_nametoindex(new TextEncoder().encode(`${name}\0`));
}

function configure(fd: number, options: UdpOptions): void {
  const { family, ttl, dscp, priority, receiveBuffer, bindToDevice } = options;
  if (bindToDevice !== undefined) {
    const name = new TextEncoder().encode(bindToDevice);
    setOption(fd, SOL.SOCKET, SO.BINDTODEVICE, name, `bind to interface "${bindToDevice}"`);
  }
  const level = family === 4 ? SOL.IP : SOL.IPV6;
  const number = (option: number, value: number, attempted: string): void =>
    setOption(fd, level, option, int(value), attempted);
  if (family === 4) {
    number(IP.RECVTTL, 1, "ask for received TTLs");
    number(IP.PKTINFO, 1, "ask for destination addresses");
    if (ttl !== undefined) number(IP.TTL, ttl, `send with TTL ${ttl}`);
    if (dscp !== undefined) number(IP.TOS, dscp << 2, `send with DSCP ${dscp}`);
  } else {
    // A raw socket has its protocol for a port, and the kernel takes it for bound.
    if (options.rawProtocol === undefined) number(IPV6.V6ONLY, 1, "restrict a socket to IPv6");
    number(IPV6.RECVHOPLIMIT, 1, "ask for received hop limits");
    number(IPV6.RECVPKTINFO, 1, "ask for destination addresses");
    if (ttl !== undefined) number(IPV6.UNICAST_HOPS, ttl, `send with hop limit ${ttl}`);
    if (dscp !== undefined) number(IPV6.TCLASS, dscp << 2, `send with DSCP ${dscp}`);
  }
  if (receiveBuffer !== undefined) {
    // The kernel doubles it for its bookkeeping.
    const half = int(receiveBuffer >> 1);
    if (libc().setsockopt(fd, SOL.SOCKET, SO.RCVBUFFORCE, half, half.length) !== 0) {
      setOption(fd, SOL.SOCKET, SO.RCVBUF, half, "set the size of a receive buffer");
    }
  }
  // After IP_TOS, which sets the priority too.
  if (priority !== undefined) {
    setOption(fd, SOL.SOCKET, SO.PRIORITY, int(priority), `send with priority ${priority}`);
  }
}

function setOption(
  fd: number,
  level: number,
  option: number,
  value: Uint8Array<ArrayBuffer>,
  attempted: string,
): void {
  unwrap(libc().setsockopt(fd, level, option, value, value.length), attempted);
}

function int(value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Int32Array.of(value).buffer);
}

function pointer(view: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(view));
}

function copy(view: DataView<ArrayBuffer>, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
}

/** Writes a struct sockaddr_in or sockaddr_in6 into `name`, which has its size. */
function encodeAddress(
  from: UdpAddress,
  name: Uint8Array<ArrayBuffer>,
  family: 4 | 6,
): Uint8Array<ArrayBuffer> {
  const length = family === 4 ? 4 : 16;
  if (from.address.length !== length) {
    throw new RangeError(`An IPv${family} address has ${length} bytes`);
  }
  inRange("Port", from.port, 0, 65535);
  const view = new DataView(name.buffer);
  view.setUint16(0, AF[family], true);
  view.setUint16(2, from.port);
  name.set(from.address, family === 4 ? 4 : 8);
  if (family === 6) view.setUint32(24, from.scopeId, true);
  return name;
}

function decodeAddress(name: DataView<ArrayBuffer>, length: number, family: 4 | 6): UdpAddress {
  if (length < SOCKADDR_SIZE[family] || name.getUint16(0, true) !== AF[family]) {
    throw new RangeError(`The kernel returned no IPv${family} address`);
  }
  return {
    address: family === 4 ? copy(name, 4, 4) : copy(name, 8, 16),
    port: name.getUint16(2),
    scopeId: family === 4 ? 0 : name.getUint32(24, true),
  };
}

function inRange(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} ${value} is not a whole number from ${min} to ${max}`);
  }
}
