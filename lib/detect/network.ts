/**
 * The sockets of BFD: RFC 5881 sections 4 and 5, RFC 5883 section 5.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { Poller } from "../../ffi/poller.ts";
import { type Datagram, interfaceIndex, type UdpAddress, UdpSocket } from "../../ffi/udp.ts";
import { familyOf, from16Bytes, to16Bytes } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** What tells sessions on one link from those across routers. */
export interface Kind {
  /** The port that BFD Control packets are sent to. */
  readonly port: number;
  /** The least TTL or hop limit that they may arrive with, 1 to 255. */
  readonly minTtl: number;
}

/** Sessions on one link: RFC 5881. */
export const SINGLE_HOP: Kind = { port: 3784, minTtl: 255 };

/** Sessions across routers, by default one: RFC 5883. */
export const MULTIHOP: Kind = { port: 4784, minTtl: 254 };

/** The TTL or hop limit that packets are sent with: RFC 5082. */
const TTL = 255;

/** The ports that they are sent from. */
const SOURCE_PORTS = { first: 49152, last: 65535 } as const;

/** CS6, and its kin among the queues of this host: the heartbeat must pass a full queue. */
const PRECEDENCE = { dscp: 48, priority: 6 } as const;

/** BFD Control packets have at most 255 bytes. */
const CAPACITY = 512;

/** Bytes: what 1000 sessions send in the time that a busy machine may take from this process. */
const RECEIVE_BUFFER = 4 << 20;

/** A socket that one session sends from. */
export interface Sender {
  /**
   * Sends without waiting; returns whether it was sent.
   *
   * @throws {SystemError}
   */
  send(bytes: Uint8Array<ArrayBuffer>): boolean;
  /** Closes the socket. */
  close(): void;
}

/** What the detector needs of a network; a test may bring its own. */
export interface Network {
  /**
   * The next packet that waits, `undefined` where none does; valid until the next call.
   *
   * @throws {SystemError}
   */
  receive(): Datagram | undefined;
  /**
   * Opens a sender to `peer`, whatever its port says, from local address `local` or the one the host chooses.
   *
   * @throws {SystemError}
   */
  connect(peer: UdpAddress, local?: Uint8Array): Sender;
  /** Waits for a packet, for {@linkcode Network.wake}, or at most `micros` microseconds. */
  wait(micros: number): Promise<void>;
  /** Waits for {@linkcode Network.wake}, or at most `micros` microseconds: packets may come together. */
  rest(micros: number): Promise<void>;
  /** Ends the wait or the rest. */
  wake(): void;
  /** Closes what {@linkcode Network} itself opened. */
  close(): Promise<void>;
}

/** Settings of {@linkcode openNetwork}. */
export interface NetworkOptions {
  /** On one link or across routers. */
  kind: Kind;
  /** The local address; every address of the host's where undefined. */
  local?: string;
  /** The IP versions to receive by; those of `local` where it is given. */
  families: readonly (4 | 6)[];
  /** The only interface to use. */
  device?: string;
  /** Uniform random numbers, 0 <= r < 1, for the source ports. */
  random: () => number;
}

/** The bytes of `address`: 4 or 16. */
export function addressBytes(address: string): Uint8Array<ArrayBuffer> {
  const bytes = to16Bytes(address);
  return familyOf(address) === 4 ? bytes.slice(12) : bytes;
}

/** The text of an address of 4 or 16 bytes. */
export function addressText(bytes: Uint8Array): string {
  return bytes.length === 4 ? bytes.join(".") : from16Bytes(bytes);
}

/** Whether the IPv6 address of 16 bytes is link-local, fe80::/10. */
export function isLinkLocal(bytes: Uint8Array): boolean {
  return bytes.length === 16 && bytes[0] === 0xfe && ((bytes[1] ?? 0) & 0xc0) === 0x80;
}

/**
 * The index of interface `name`.
 *
 * @throws {Failure} with status NO_INPUT where the host has none of that name
 */
export function deviceIndex(name: string): number {
  const index = interfaceIndex(name);
  if (index === 0) {
    throw new Failure(ExitStatus.NO_INPUT, `Interface "${name}" does not exist`, {
      mend: `"ip link" lists those of this host`,
    });
  }
  return index;
}

/**
 * Opens the sockets that receive.
 *
 * @throws {Failure} where an address or the port cannot be had
 */
export function openNetwork(options: NetworkOptions): Network {
  const { local, device, random, kind: { port } } = options;
  const scopeId = device === undefined ? 0 : deviceIndex(device);
  const address = local === undefined ? undefined : addressBytes(local);
  const families = address === undefined
    ? options.families
    : [address.length === 4 ? 4 as const : 6 as const];
  const common = { ttl: TTL, bindToDevice: device, ...PRECEDENCE };
  const sockets: UdpSocket[] = [];
  let turn = 0;
  try {
    for (const family of new Set(families)) {
      const bound = { ...common, family, address, scopeId, port, receiveBuffer: RECEIVE_BUFFER };
      try {
        sockets.push(UdpSocket.open(bound, CAPACITY));
      } catch (error) {
        // A host without IPv6 answers by IPv4.
        const absent = error instanceof SystemError && error.code === "EAFNOSUPPORT";
        if (!absent || sockets.length === 0) throw error;
      }
    }
    const poller = new Poller(sockets.map((socket) => socket.fd));
    return {
      receive(): Datagram | undefined {
        // Every socket in turn, or a flood of one would starve the other.
        for (let tried = 0; tried < sockets.length; tried++) {
          turn = (turn + 1) % sockets.length;
          const datagram = sockets[turn]?.receive();
          if (datagram !== undefined) return datagram;
        }
        return undefined;
      },
      connect(peer: UdpAddress, from?: Uint8Array): Sender {
        const family = peer.address.length === 4 ? 4 : 6;
        const own = from ?? (address?.length === peer.address.length ? address : undefined);
        const socket = openSource(
          { ...common, family, address: own, scopeId: peer.scopeId },
          random,
        );
        const to = { ...peer, port };
        return { send: (bytes) => socket.send(bytes, to), close: () => socket.close() };
      },
      wait: (micros) => poller.wait(micros),
      rest: (micros) => poller.rest(micros),
      wake: () => poller.wake(),
      async close(): Promise<void> {
        await poller.close();
        for (const socket of sockets) socket.close();
      },
    };
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw explain(error, options);
  }
}

type SourceOptions = Omit<Parameters<typeof UdpSocket.open>[0], "port">;

/** Opens a socket on a random port of the range that RFC 5881 section 4 allows. */
function openSource(options: SourceOptions, random: () => number): UdpSocket {
  const { first, last } = SOURCE_PORTS;
  for (let attempt = 1;; attempt++) {
    const port = first + Math.floor(random() * (last - first + 1));
    try {
      return UdpSocket.open({ ...options, port }, CAPACITY);
    } catch (error) {
      const taken = error instanceof SystemError && error.code === "EADDRINUSE";
      if (!taken || attempt === 100) throw error;
    }
  }
}

/** What a failed `open` means for the user. */
function explain(error: unknown, { local, device, kind }: NetworkOptions): unknown {
  if (!(error instanceof SystemError)) return error;
  const cause = error;
  const where = local === undefined ? "" : ` of "${local}"`;
  switch (error.code) {
    case "EADDRINUSE":
      return new Failure(ExitStatus.TEMPORARY, `UDP port ${kind.port}${where} is in use`, {
        mend: `stop the other BFD speaker ("ss -lunp" shows it), or give each its own --local`,
        cause,
      });
    case "EADDRNOTAVAIL":
      return new Failure(ExitStatus.UNAVAILABLE, `This host has no address "${local}"`, {
        mend: `"ip address" lists those it has; a new IPv6 address takes seconds to become usable`,
        cause,
      });
    case "ENODEV":
      return new Failure(ExitStatus.NO_INPUT, `Interface "${device}" does not exist`, {
        mend: `"ip link" lists those of this host`,
        cause,
      });
    case "EPERM":
    case "EACCES":
      return new Failure(ExitStatus.NO_PERMISSION, error.message, { mend: "run as root", cause });
    case "EAFNOSUPPORT":
      return new Failure(ExitStatus.UNAVAILABLE, "This host has no IPv6", {
        mend: `give an IPv4 address to --local`,
        cause,
      });
    default:
      return new Failure(ExitStatus.OS, error.message, { cause });
  }
}
