/**
 * Frames as pcapng has them, gathered in memory until they are written together.
 *
 * @module
 */
import { BLOCK_OVERHEAD, BlockType, ENHANCED_PACKET_HEADER } from "./pcapng.ts";

/** What an Enhanced Packet Block without options adds to its frame, in bytes. */
const PACKET_OVERHEAD = BLOCK_OVERHEAD + ENHANCED_PACKET_HEADER;

/** Up to here, a view of the frame is kept for the next frame of the same length. */
const KEPT_VIEW = 10_000;

/** Bytes that `captured` bytes of a frame take in a batch. */
export function packetSize(captured: number): number {
  return PACKET_OVERHEAD + (captured + 3 & ~3);
}

/** A buffer of whole blocks, in little-endian byte order. Adding a frame allocates nothing. */
export class PacketBatch {
  /** The blocks: the first `length` bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How many bytes there are. */
  length = 0;
  /** How many frames there are. */
  frames = 0;
  readonly #view: DataView<ArrayBuffer>;
  readonly #memory: FrameMemory;

  /** `capacity` is in bytes. Batches that take turns share a `memory`. */
  constructor(capacity: number, memory: FrameMemory) {
    this.bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.bytes.buffer);
    this.#memory = memory;
  }

  /** Whether `size` bytes more would fit. */
  hasRoom(size: number): boolean {
    return this.length + size <= this.bytes.length;
  }

  /** Adds a frame of interface 0 as an Enhanced Packet Block. The caller made sure of the room. */
  add(
    frame: DataView,
    captured: number,
    length: number,
    seconds: number,
    nanos: number,
  ): void {
    const view = this.#view;
    const at = this.length;
    const size = packetSize(captured);
    const memory = this.#memory;
    memory.setTime(seconds, nanos);
    view.setUint32(at, BlockType.ENHANCED_PACKET, true);
    view.setUint32(at + 4, size, true);
    view.setUint32(at + 8, 0, true);
    view.setUint32(at + 12, memory.high, true);
    view.setUint32(at + 16, memory.low, true);
    view.setUint32(at + 20, captured, true);
    view.setUint32(at + 24, length, true);
    this.bytes.set(memory.viewOf(frame, captured), at + 28);
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
}

/** What batches that take turns remember from frame to frame. */
export class FrameMemory {
  /** The upper half of the time in nanoseconds since the Unix epoch. */
  high = 0;
  /** The lower half. */
  low = 0;
  #second = -1;
  #secondHigh = 0;
  #secondLow = 0;
  #frame: DataView | undefined;
  #views: Uint8Array[] = [];

  /** Makes the halves of a time; only a new second costs an arithmetic of 64 bits. */
  setTime(seconds: number, nanos: number): void {
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

  /** The first `length` bytes of `frame`. */
  viewOf(frame: DataView, length: number): Uint8Array {
    if (length > KEPT_VIEW) return bytesOf(frame, length);
    if (this.#frame !== frame) {
      this.#frame = frame;
      this.#views = [];
    }
    return this.#views[length] ??= bytesOf(frame, length);
  }
}

function bytesOf(frame: DataView, length: number): Uint8Array {
  return new Uint8Array(frame.buffer, frame.byteOffset, length);
}
