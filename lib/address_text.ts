/**
 * The text of IP addresses. `node:net` could tell what is one, yet loading it takes longer than most of a command's
 * start.
 *
 * @module
 */

const GROUPS = 8;
const OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const IPV4 = new RegExp(`^${OCTET}(\\.${OCTET}){3}$`);
const GROUP = /^[0-9a-f]{1,4}$/i;

/** The 4 bytes of an IPv4 address in dotted decimal, without leading zeros; undefined where `text` is none. */
export function parse4(text: string): number[] | undefined {
  return IPV4.test(text) ? text.split(".").map(Number) : undefined;
}

/**
 * The 16 bytes, in network byte order, of an IPv6 address in any form of RFC 4291 section 2.2; undefined where `text`
 * is none.
 */
export function parse6(text: string): Uint8Array<ArrayBuffer> | undefined {
  const [head = "", tail, more] = text.split("::");
  const first = bytesOf(head, tail === undefined);
  const last = bytesOf(tail ?? "", true);
  if (first === undefined || last === undefined || more !== undefined) return undefined;
  const bytes = new Uint8Array(2 * GROUPS);
  const count = first.length + last.length;
  // The two colons stand for one group or more.
  if (tail === undefined ? count !== bytes.length : count > bytes.length - 2) return undefined;
  bytes.set(first);
  bytes.set(last, bytes.length - last.length);
  return bytes;
}

/** The bytes of groups between colons. Where the address ends with them, the last may be an IPv4 address. */
function bytesOf(text: string, isEnd: boolean): number[] | undefined {
  const bytes: number[] = [];
  if (text === "") return bytes;
  const groups = text.split(":");
  for (const [i, group] of groups.entries()) {
    if (GROUP.test(group)) {
      const value = parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
      continue;
    }
    const dotted = isEnd && i === groups.length - 1 ? parse4(group) : undefined;
    if (dotted === undefined) return undefined;
    bytes.push(...dotted);
  }
  return bytes;
}

/** The address of 16 bytes in network byte order, as RFC 5952 section 4 writes it. */
export function format6(bytes: Uint8Array): string {
  const groups = Array.from({ length: GROUPS }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  // The longest run of zeros is left out, the first of several; one alone is not.
  let left = { from: 0, count: 1 };
  for (let from = 0; from < GROUPS; from++) {
    let count = 0;
    while (groups[from + count] === 0) count++;
    if (count > left.count) left = { from, count };
  }
  const texts = groups.map((group) => group.toString(16));
  if (left.count === 1) return texts.join(":");
  const head = texts.slice(0, left.from).join(":");
  return `${head}::${texts.slice(left.from + left.count).join(":")}`;
}
