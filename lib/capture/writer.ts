/**
 * Writing of captured frames as pcapng, beside the capture.
 *
 * @module
 */
import { type BlockOutput, type OutputCounters, STATISTICS_SIZE } from "./block_output.ts";
import { FileSeries, type SeriesCounters, type SeriesOptions } from "./file_series.ts";
import { PacketBatch, packetSize, Stamp } from "./packet_batch.ts";

/** The largest part of a frame that is kept, in bytes: libpcap's MAXIMUM_SNAPLEN, which readers expect. */
export const MAX_SNAPLEN = 262_144;

/** A batch is written once it has so many bytes. Each write is handed to a thread, which costs as much as 200 frames. */
const BATCH = 1 << 20;
/** How many bytes of batches may wait for a slow output. */
const MAX_WAITING = 32 << 20;
/** After this time at most, what is in a batch is written to a file; in milliseconds. */
const FLUSH_INTERVAL = 100;

/** Settings of {@linkcode CaptureWriter}. */
export interface WriterSettings {
  /** Only so many bytes of a frame are written. */
  snaplen: number;
  /** A batch is written once it has so many bytes. */
  batch: number;
  /** After this time at most, what is in a batch is written; in milliseconds. */
  interval: number;
  /** Told that the output is too slow, and that it has caught up. */
  warn: (message: string) => void;
  /** What to say then; the second gets the number of frames that were lost. */
  words: { slow: string; caughtUp: (lost: number) => string };
}

const FILE_WORDS = {
  slow: "The disk is too slow for the capture files: frames are not written at present",
  caughtUp: (lost: number) =>
    `The disk has caught up with the capture; ${lost} frames are in no file`,
};

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
 * Takes frames and writes them in the background, whole blocks, many at once and several times a second at least. A slow
 * output costs frames in it, which are counted, and nothing else.
 */
export class CaptureWriter<C extends OutputCounters = SeriesCounters> implements AsyncDisposable {
  /** Takes a frame; its memory may change as soon as this returns. */
  readonly receive: FrameSink;
  readonly #output: BlockOutput & { readonly counters: C };
  readonly #settings: WriterSettings;
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
  /** What was lost when the output became too slow, while it is. */
  #lostBefore: number | undefined;

  /** Writes to `output`, which it closes with itself. */
  constructor(output: BlockOutput & { readonly counters: C }, settings: WriterSettings) {
    this.#output = output;
    this.#settings = settings;
    this.#batch = this.#take();
    this.#timer = setInterval(() => this.#flush(), settings.interval);
    this.receive = (memory, at, captured, length, seconds, nanos) => {
      this.#received++;
      const batch = this.#batch;
      if (batch === undefined) return this.#lose();
      batch.add(memory, at, Math.min(captured, settings.snaplen), length, seconds, nanos);
      if (batch.length >= settings.batch) this.#submit(batch);
    };
  }

  /**
   * Begins the first file of a series.
   *
   * @throws {Failure} where that cannot be
   */
  static async open(options: SeriesOptions): Promise<CaptureWriter> {
    const snaplen = Math.min(options.interface.snaplen, MAX_SNAPLEN);
    const cut = { ...options, interface: { ...options.interface, snaplen } };
    const series = await FileSeries.open(cut);
    const batch = Math.min(BATCH, (options.rotateSize ?? Infinity) / 4);
    const { warn } = options;
    const interval = FLUSH_INTERVAL;
    return new CaptureWriter(series, { snaplen, batch, interval, warn, words: FILE_WORDS });
  }

  /** What was written and what was not, since the start. */
  get counters(): Readonly<C> {
    return this.#output.counters;
  }

  /** How many frames were received. */
  get received(): number {
    return this.#received;
  }

  /** Writes what is left, and closes the output. Nothing may be received afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#writing;
    this.#flush();
    await this.#writing;
    await this.#output.close();
  }

  /** The same as {@linkcode CaptureWriter.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Writes what there is, unless a write is under way: a slow output is not given small batches. */
  #flush(): void {
    const batch = this.#batch;
    if (this.#writing !== undefined) return;
    if (batch !== undefined && batch.length > 0) this.#submit(batch);
    else if (this.#output.isRotationDue(performance.now())) this.#writing = this.#write();
  }

  #submit(batch: PacketBatch): void {
    this.#full.push(batch);
    this.#batch = this.#take();
    this.#writing ??= this.#write();
  }

  /** An empty batch, or undefined where there may be no more. */
  #take(): PacketBatch | undefined {
    const free = this.#free.pop();
    const full = this.#batches * this.#settings.batch >= MAX_WAITING;
    if (free !== undefined || full) return free;
    this.#batches++;
    const capacity = this.#settings.batch + packetSize(this.#settings.snaplen) + STATISTICS_SIZE;
    return new PacketBatch(capacity, this.#stamp);
  }

  async #write(): Promise<void> {
    await this.#output.rotateIfDue();
    while (this.#full.length > 0) {
      const batch = this.#full.shift()!;
      await this.#output.write(batch);
      batch.clear();
      this.#free.push(batch);
      this.#batch ??= this.#take();
    }
    this.#writing = undefined;
    this.#reportCaughtUp();
  }

  #lose(): void {
    const { counters } = this.#output;
    if (this.#lostBefore === undefined) {
      this.#lostBefore = counters.lost;
      this.#settings.warn(this.#settings.words.slow);
    }
    counters.lost++;
  }

  #reportCaughtUp(): void {
    if (this.#lostBefore === undefined) return;
    const lost = this.counters.lost - this.#lostBefore;
    this.#lostBefore = undefined;
    this.#settings.warn(this.#settings.words.caughtUp(lost));
  }
}
