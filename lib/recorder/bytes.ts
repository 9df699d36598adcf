/**
 * Copying and comparing bytes of captured frames without allocation.
 *
 * @module
 */

/** From this length on, a view and the engine's own copy are faster than a loop. */
const LOOP = 96;
const VIEWS = 256;

/**
 * Bytes to read from: a captured frame. libpcap gives its frames at few addresses, and segments of a bulk transfer
 * have the same place and length in theirs, so that a view of one serves for the next.
 */
export class Source {
  /** What is read, from offset 0 on. */
  frame: DataView = new DataView(new ArrayBuffer(0));
  readonly #views: (Uint8Array | undefined)[] = new Array(VIEWS).fill(undefined);

  /** `length` bytes from `at` on. */
  bytes(at: number, length: number): Uint8Array {
    const { frame } = this;
    const from = frame.byteOffset + at;
    const index = (Math.imul(from, 31) ^ Math.imul(length, 0x9e3779b1) >>> 20) & VIEWS - 1;
    let view = this.#views[index];
    if (
      view === undefined || view.length !== length || view.byteOffset !== from ||
      view.buffer !== frame.buffer
    ) {
      view = new Uint8Array(frame.buffer, from, length);
      this.#views[index] = view;
    }
    return view;
  }
}

/** Copies `length` bytes of `source`, from `from` on, to `to` of `target`; `view` is the same memory as `target`. */
export function copyBytes(
  source: Source,
  from: number,
  target: Uint8Array,
  view: DataView,
  to: number,
  length: number,
): void {
  if (length >= LOOP) {
    target.set(source.bytes(from, length), to);
    return;
  }
  const { frame } = source;
  const words = length & ~3;
  let i = 0;
  for (; i < words; i += 4) view.setInt32(to + i, frame.getInt32(from + i));
  for (; i < length; i++) view.setUint8(to + i, frame.getUint8(from + i));
}

/** The offset of the first of `length` bytes that differs between `source` and `view`; -1 where none does. */
export function firstDifference(
  source: Source,
  from: number,
  view: DataView,
  at: number,
  length: number,
): number {
  const { frame } = source;
  const words = length & ~3;
  let i = 0;
  while (i < words && frame.getInt32(from + i) === view.getInt32(at + i)) i += 4;
  while (i < length && frame.getUint8(from + i) === view.getUint8(at + i)) i++;
  return i < length ? i : -1;
}
