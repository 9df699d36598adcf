/**
 * Writing of captured frames to pcapng files, beside the capture.
 *
 * @module
 */
import {
  FileSeries,
  type SeriesCounters,
  type SeriesOptions,
  STATISTICS_SIZE,
} from "./file_series.ts";
import { PacketBatch, packetSize, Stamp } from "./packet_batch.ts";

/** The largest part of a frame that is kept, in bytes: libpcap's MAXIMUM_SNAPLEN, which readers expect. */
export const MAX_SNAPLEN = 262_144;

/** A batch is written once it has so many bytes. Each write is handed to a thread, which costs as much as 200 frames. */
const BATCH = 1 << 20;
/** How many bytes of batches may wait for a slow disk. */
const MAX_WAITING = 32 << 20;
/** After this time at most, what is in a batch is written; in milliseconds. */
const FLUSH_INTERVAL = 100;

/**
 * Takes one frame: `captured` of its bytes stand in `memory` from `at` on, and on the wire it had `length`. `seconds`
 * since the Unix epoch and `nanos` below a second are its time.
 */
export type FrameSink = (
  memory: DataView,
  at: number,
  captured: number,
  length: number,
  seconds: number,
  nanos: number,
) => void;

/**
 * Takes frames and writes them in the background, whole blocks, many at once and at least ten times a second. A slow
 * disk costs frames in the files, which are counted, and nothing else.
 */
export class CaptureWriter implements AsyncDisposable {
  /** Takes a frame; its memory may change as soon as this returns. */
  readonly receive: FrameSink;
  readonly #series: FileSeries;
  readonly #warn: (message: string) => void;
  readonly #snaplen: number;
  readonly #batchSize: number;
  readonly #stamp = new Stamp();
  readonly #timer: ReturnType<typeof setInterval>;
  /** The batch that takes frames; undefined while every batch waits to be written. */
  #batch: PacketBatch | undefined;
  readonly #full: PacketBatch[] = [];
  readonly #free: PacketBatch[] = [];
  #batches = 0;
  #writing: Promise<void> | undefined;
  #received = 0;
  #closed = false;
  /** What was lost when the disk became too slow, while it is. */
  #lostBefore: number | undefined;

  private constructor(series: FileSeries, options: SeriesOptions) {
    this.#series = series;
    this.#warn = options.warn;
    this.#snaplen = options.interface.snaplen;
    this.#batchSize = Math.min(BATCH, (options.rotateSize ?? Infinity) / 4);
    this.#batch = this.#take();
    this.#timer = setInterval(() => this.#flush(), FLUSH_INTERVAL);
    this.receive = (memory, at, captured, length, seconds, nanos) => {
      this.#received++;
      const batch = this.#batch;
      if (batch === undefined) return this.#lose();
      batch.add(memory, at, Math.min(captured, this.#snaplen), length, seconds, nanos);
      if (batch.length >= this.#batchSize) this.#submit(batch);
    };
  }

  /**
   * Begins the first file.
   *
   * @throws {Failure} where that cannot be
   */
  static async open(options: SeriesOptions): Promise<CaptureWriter> {
    const snaplen = Math.min(options.interface.snaplen, MAX_SNAPLEN);
    const cut = { ...options, interface: { ...options.interface, snaplen } };
    return new CaptureWriter(await FileSeries.open(cut), cut);
  }

  /** What was written and what was not, since the start. */
  get counters(): Readonly<SeriesCounters> {
    return this.#series.counters;
  }

  /** How many frames were received. */
  get received(): number {
    return this.#received;
  }

  /** Writes what is left, and ends the last file. Nothing may be received afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#writing;
    this.#flush();
    await this.#writing;
    await this.#series.close();
  }

  /** The same as {@linkcode CaptureWriter.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Writes what there is, unless a write is under way: a slow disk is not given small batches. */
  #flush(): void {
    const batch = this.#batch;
    if (this.#writing !== undefined) return;
    if (batch !== undefined && batch.length > 0) this.#submit(batch);
    else if (this.#series.isRotationDue(performance.now())) this.#writing = this.#write();
  }

  #submit(batch: PacketBatch): void {
    this.#full.push(batch);
    this.#batch = this.#take();
    this.#writing ??= this.#write();
  }

  /** An empty batch, or undefined where there may be no more. */
  #take(): PacketBatch | undefined {
    const free = this.#free.pop();
    const full = this.#batches * this.#batchSize >= MAX_WAITING;
    if (free !== undefined || full) return free;
    this.#batches++;
    const capacity = this.#batchSize + packetSize(this.#snaplen) + STATISTICS_SIZE;
    return new PacketBatch(capacity, this.#stamp);
  }

  async #write(): Promise<void> {
    await this.#series.rotateIfDue();
    while (this.#full.length > 0) {
      const batch = this.#full.shift()!;
      await this.#series.write(batch);
      batch.clear();
      this.#free.push(batch);
      this.#batch ??= this.#take();
    }
    this.#writing = undefined;
    this.#reportCaughtUp();
  }

  #lose(): void {
    const { counters } = this.#series;
    if (this.#lostBefore === undefined) {
      this.#lostBefore = counters.lost;
      this.#warn("The disk is too slow for the capture files: frames are not written at present");
    }
    counters.lost++;
  }

  #reportCaughtUp(): void {
    if (this.#lostBefore === undefined) return;
    const lost = this.counters.lost - this.#lostBefore;
    this.#lostBefore = undefined;
    this.#warn(`The disk has caught up with the capture; ${lost} frames are in no file`);
  }
}
