/**
 * Addresses of services, hosts and interfaces: their text forms and their bytes.
 *
 * @module
 */
import { format6, parse4, parse6 } from "./address_text.ts";
import { ExitStatus, Failure } from "./failure.ts";

/** IP version. */
export type Family = 4 | 6;

/** Transport protocol of a service. */
export type Protocol = "tcp" | "udp";

/** A virtual address and port that clients connect to. */
export interface Service {
  /** TCP unless the text said `udp:`. */
  readonly protocol: Protocol;
  /** The address in its usual form: IPv6 in RFC 5952 form, without brackets. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
  /** The address's IP version. */
  readonly family: Family;
}

function refuse(message: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, message, { mend });
}

/**
 * The IP version of `address` as text, `undefined` where it is no address. Zones (`%eth0`) and
 * prefix lengths are not part of an address here.
 */
export function familyOf(address: string): Family | undefined {
  if (parse4(address) !== undefined) return 4;
  return parse6(address) === undefined ? undefined : 6;
}

/**
 * Brings an IP address into its usual form: IPv6 as in RFC 5952 and without brackets, IPv4 as it is.
 *
 * @throws {Failure} with status USAGE where `text` is no address, has a zone, or is IPv4-mapped
 */
export function parseAddress(text: string): string {
  const bare = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  if (parse4(text) !== undefined) return text;
  const bytes = parse6(bare);
  if (bytes !== undefined) return canonical6(bare, bytes);
  if (bare.includes("%")) {
    refuse(
      `Address "${text}" has a zone`,
      `write it without, as "${bare.slice(0, bare.indexOf("%"))}"`,
    );
  }
  refuse(`"${text}" is not an IP address`, `write one such as "10.0.0.1" or "2001:db8::1"`);
}

function canonical6(address: string, bytes: Uint8Array): string {
  if (isMapped(bytes)) {
    refuse(`"${address}" is an IPv4-mapped address`, `write "${bytes.subarray(12).join(".")}"`);
  }
  return format6(bytes);
}

/**
 * Parses a service: `10.77.0.100:80`, `[2001:db8::100]:80`, either with `tcp:` or `udp:` in front.
 *
 * @throws {Failure} with status USAGE and what to write instead
 */
export function parseService(text: string): Service {
  const prefix = /^(tcp|udp):/i.exec(text);
  const protocol: Protocol = prefix?.[1]?.toLowerCase() === "udp" ? "udp" : "tcp";
  const kept = prefix?.[0] ?? "";
  const rest = text.slice(kept.length);
  const shown = `Service "${text}"`;

  if (familyOf(rest) !== undefined || /^\[[^\]]*\]$/.test(rest)) {
    const address = parseAddress(rest);
    refuse(`${shown} lacks a port`, `write "${kept}${formatEndpoint(address, 80)}"`);
  }
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*)):([^:]*)$/.exec(rest);
  if (parts === null) {
    refuse(`${shown} is not an address and a port`, examples);
  }
  const host = parts[1] ?? parts[2] ?? "";
  const family = familyOf(host);
  if (family === undefined) {
    if (host.includes("%")) parseAddress(host);
    refuse(`${shown} has no IP address before its port`, examples);
  }
  if (family === 4 && parts[1] !== undefined) {
    refuse(`${shown} has an IPv4 address in brackets`, `write "${kept}${host}:${parts[3]}"`);
  }
  return { protocol, address: parseAddress(host), port: parsePort(parts[3] ?? ""), family };
}

const examples = `write one such as "10.0.0.1:80" or "[2001:db8::1]:80"`;

/**
 * Parses a port number, 1 to 65535.
 *
 * @throws {Failure} with status USAGE
 */
export function parsePort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) {
    refuse(`"${text}" is not a port`, "write a number from 1 to 65535");
  }
  return port;
}

/** `address:port`, with IPv6 in brackets, as the events name a flow's ends. */
export function formatEndpoint(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** What {@linkcode parseService} reads: `udp:` in front for UDP, nothing in front for TCP. */
export function formatService(service: Service): string {
  const endpoint = formatEndpoint(service.address, service.port);
  return service.protocol === "udp" ? `udp:${endpoint}` : endpoint;
}

const mappedPrefix = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

function isMapped(bytes: Uint8Array): boolean {
  return mappedPrefix.every((byte, i) => bytes[i] === byte);
}

/**
 * The 16 bytes of an address in network byte order, IPv4 in its IPv4-mapped form `::ffff:a.b.c.d`
 * (RFC 4291 section 2.5.5.2): the form that the BPF maps are keyed with.
 *
 * @throws {Failure} with status USAGE where `address` is no address
 */
export function to16Bytes(address: string): Uint8Array<ArrayBuffer> {
  const plain = parseAddress(address);
  const dotted = parse4(plain);
  if (dotted === undefined) return parse6(plain)!;
  const bytes = new Uint8Array(16);
  bytes.set(mappedPrefix);
  bytes.set(dotted, 12);
  return bytes;
}

/**
 * The address of 16 bytes in network byte order: IPv4 where they are IPv4-mapped, else IPv6.
 *
 * @throws {RangeError} where there are not 16 bytes
 */
export function from16Bytes(bytes: Uint8Array): string {
  if (bytes.length !== 16) throw new RangeError(`An address has 16 bytes, not ${bytes.length}`);
  if (isMapped(bytes)) return [...bytes.subarray(12)].join(".");
  return format6(bytes);
}

/**
 * Parses an Ethernet address, six bytes in hexadecimal between colons or hyphens.
 *
 * @throws {Failure} with status USAGE
 */
export function parseMac(text: string): Uint8Array<ArrayBuffer> {
  const separator = text.includes("-") ? "-" : ":";
  const parts = text.split(separator);
  if (parts.length !== 6 || !parts.every((part) => /^[0-9a-f]{2}$/i.test(part))) {
    refuse(`"${text}" is not a MAC address`, `write one such as "02:00:0a:4d:00:01"`);
  }
  return Uint8Array.from(parts, (part) => parseInt(part, 16));
}

/** Whether `text` has the form that {@linkcode parseMac} reads. */
export function isMac(text: string): boolean {
  return /^[0-9a-f]{2}(?:(:[0-9a-f]{2}){5}|(-[0-9a-f]{2}){5})$/i.test(text);
}

/**
 * Six bytes as `02:00:0a:4d:00:01`.
 *
 * @throws {RangeError} where there are not six bytes
 */
export function formatMac(bytes: Uint8Array): string {
  if (bytes.length !== 6) throw new RangeError(`A MAC address has 6 bytes, not ${bytes.length}`);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
