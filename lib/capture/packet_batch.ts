/**
 * Frames as pcapng has them, gathered in memory until they are written together.
 *
 * @module
 */
import { BLOCK_OVERHEAD, BlockType, ENHANCED_PACKET_HEADER } from "./pcapng.ts";

/** What an Enhanced Packet Block without options adds to its frame, in bytes. */
const PACKET_OVERHEAD = BLOCK_OVERHEAD + ENHANCED_PACKET_HEADER;

/** Up to here, copying words takes no longer than making a view to copy from, and allocates nothing. */
const SHORT_FRAME = 256;
/** Bytes of a word. */
const WORD = 8;

/** Bytes that `captured` bytes of a frame take in a batch. */
export function packetSize(captured: number): number {
  return PACKET_OVERHEAD + (captured + 3 & ~3);
}

/** A buffer of whole blocks, in little-endian byte order. */
export class PacketBatch {
  /** The blocks: the first `length` bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How many bytes there are. */
  length = 0;
  /** How many frames there are. */
  frames = 0;
  readonly #view: DataView<ArrayBuffer>;
  readonly #stamp: Stamp;

  /** `capacity` is in bytes. Batches that take turns share a `stamp`. */
  constructor(capacity: number, stamp: Stamp) {
    // Words are copied whole, and may reach beyond the last block.
    this.bytes = new Uint8Array(capacity + WORD);
    this.#view = new DataView(this.bytes.buffer);
    this.#stamp = stamp;
  }

  /**
   * Adds a frame of interface 0 as an Enhanced Packet Block: `captured` bytes of `memory` from `from` on. The caller
   * made sure of the room.
   */
  add(
    memory: DataView,
    from: number,
    captured: number,
    length: number,
    seconds: number,
    nanos: number,
  ): void {
    const view = this.#view;
    const at = this.length;
    const size = packetSize(captured);
    const stamp = this.#stamp;
    stamp.set(seconds, nanos);
    view.setUint32(at, BlockType.ENHANCED_PACKET, true);
    view.setUint32(at + 4, size, true);
    view.setUint32(at + 8, 0, true);
    view.setUint32(at + 12, stamp.high, true);
    view.setUint32(at + 16, stamp.low, true);
    view.setUint32(at + 20, captured, true);
    view.setUint32(at + 24, length, true);
    this.#copy(memory, from, captured, at + 28);
    // What stands behind the frame is of another one; the padding is to be zero.
    view.setUint32(at + 28 + captured, 0, true);
    view.setUint32(at + size - 4, size, true);
    this.length = at + size;
    this.frames++;
  }

  /** Adds a block that is no frame. The caller made sure of the room. */
  append(block: Uint8Array): void {
    this.bytes.set(block, this.length);
    this.length += block.length;
  }

  /** Forgets all blocks. */
  clear(): void {
    this.length = 0;
    this.frames = 0;
  }

  #copy(memory: DataView, from: number, captured: number, to: number): void {
    if (captured > SHORT_FRAME || from + captured + WORD > memory.byteLength) {
      this.bytes.set(new Uint8Array(memory.buffer, memory.byteOffset + from, captured), to);
      return;
    }
    const view = this.#view;
    for (let i = 0; i < captured; i += WORD) {
      view.setBigUint64(to + i, memory.getBigUint64(from + i, true), true);
    }
  }
}

/** A time as pcapng has it, in two halves. Batches that take turns share one. */
export class Stamp {
  /** The upper half of the time in nanoseconds since the Unix epoch. */
  high = 0;
  /** The lower half. */
  low = 0;
  #second = -1;
  #secondHigh = 0;
  #secondLow = 0;

  /** Sets the time; only a new second costs an arithmetic of 64 bits. */
  set(seconds: number, nanos: number): void {
    if (seconds !== this.#second) {
      const stamp = BigInt.asUintN(64, BigInt(seconds) * 1_000_000_000n);
      this.#second = seconds;
      this.#secondHigh = Number(stamp >> 32n);
      this.#secondLow = Number(stamp & 0xffff_ffffn);
    }
    const low = this.#secondLow + nanos;
    const carry = low > 0xffff_ffff;
    this.low = carry ? low - 0x1_0000_0000 : low;
    this.high = carry ? this.#secondHigh + 1 : this.#secondHigh;
  }
}
