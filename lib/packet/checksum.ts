/**
 * The Internet checksum: RFC 1071.
 *
 * @module
 */

/** Adds up the 16-bit words of `view` from `from` to `to`, an even number of bytes, to `start`. */
export function sum(view: DataView, from: number, to: number, start: number): number {
  let total = start;
  for (let at = from; at < to; at += 2) total += view.getUint16(at);
  return total;
}

/** Brings a sum down to 16 bits. */
export function fold(total: number): number {
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return total;
}

/** The checksum of words that add up to `total`. */
export function checksum(total: number): number {
  return ~fold(total) & 0xffff;
}
