/**
 * The order of sequence numbers: 32 bits that wrap, RFC 9293 section 3.4.
 *
 * @module
 */

/** Is sequence number `a` later than `b`? They lie less than 2^31 apart, and may be signed or unsigned. */
export function after(a: number, b: number): boolean {
  return ((b - a) | 0) < 0;
}

/** The later of two sequence numbers. */
export function later(a: number, b: number): number {
  return after(a, b) ? a : b;
}

/** The earlier of two sequence numbers. */
export function earlier(a: number, b: number): number {
  return after(a, b) ? b : a;
}
