/**
 * Copying and comparing bytes of captured frames.
 *
 * @module
 */

/** From this length on, the engine's own copy is faster than a loop, though it needs a view of the source. */
const LOOP = 384;

/** Copies `length` bytes of `source`, from `from` on, to `to` of `target`; `view` is the same memory as `target`. */
export function copyBytes(
  source: DataView,
  from: number,
  target: Uint8Array,
  view: DataView,
  to: number,
  length: number,
): void {
  if (length >= LOOP) {
    target.set(new Uint8Array(source.buffer, source.byteOffset + from, length), to);
    return;
  }
  const words = length & ~7;
  let i = 0;
  for (; i < words; i += 8) view.setBigUint64(to + i, source.getBigUint64(from + i, true), true);
  for (; i < length; i++) view.setUint8(to + i, source.getUint8(from + i));
}

/** The offset of the first of `length` bytes that differs between `source` and `view`; -1 where none does. */
export function firstDifference(
  source: DataView,
  from: number,
  view: DataView,
  at: number,
  length: number,
): number {
  const words = length & ~3;
  let i = 0;
  while (i < words && source.getInt32(from + i, true) === view.getInt32(at + i, true)) i += 4;
  while (i < length && source.getUint8(from + i) === view.getUint8(at + i)) i++;
  return i < length ? i : -1;
}
