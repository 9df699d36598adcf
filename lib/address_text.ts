/**
 * The text of IP addresses. The libraries are small ES modules: loading `node:net` for the same takes longer than most
 * of a command's start.
 *
 * @module
 */
import { parseIp, stringifyIp } from "ip-bigint";
import ipRegex from "ip-regex";

const IPV4 = ipRegex.v4({ exact: true });
const IPV6 = ipRegex.v6({ exact: true });

/** The 4 bytes of an IPv4 address in dotted decimal, without leading zeros; undefined where `text` is none. */
export function parse4(text: string): number[] | undefined {
  return IPV4.test(text) ? text.split(".").map(Number) : undefined;
}

/**
 * The 16 bytes, in network byte order, of an IPv6 address in any form of RFC 4291 section 2.2; undefined where `text`
 * is none, or has a zone.
 */
export function parse6(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text.includes("%") || !IPV6.test(text)) return undefined;
  const { number } = parseIp(text);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, number >> 64n);
  view.setBigUint64(8, BigInt.asUintN(64, number));
  return bytes;
}

/** The address of 16 bytes in network byte order, as RFC 5952 section 4 writes it. */
export function format6(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return stringifyIp({ number: view.getBigUint64(0) << 64n | view.getBigUint64(8), version: 6 });
}
