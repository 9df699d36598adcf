/**
 * A series of capture files in a directory: one is written at a time, and the next one begins where it gets too large or
 * too old, or cannot be written.
 *
 * @module
 */
import { join } from "node:path";
import { nowMicros } from "../clock.ts";
import { ExitStatus, Failure } from "../failure.ts";
import {
  interfaceDescription,
  type InterfaceInfo,
  type InterfaceStatistics,
  interfaceStatistics,
  sectionHeader,
  type SectionInfo,
} from "./blocks.ts";
import {
  type BlockOutput,
  type OutputCounters,
  STATISTICS_INTERVAL,
  STATISTICS_SIZE,
} from "./block_output.ts";
import { FileNames, newestFile, removeOldest } from "./file_ring.ts";
import { mendFile } from "./mend.ts";
import { OutputFile } from "./output_file.ts";
import type { PacketBatch } from "./packet_batch.ts";
import { type HookBounds, RotateHook } from "./rotate_hook.ts";

/** The smallest bound of a file's size that is allowed: a batch of frames must fit. */
export const MIN_ROTATE_SIZE = 1 << 20;

/** How long after a failure the next try is made, in milliseconds: twice as long each time, up to the last. */
const RETRY = { first: 1000, last: 30_000 };

/** Settings of {@linkcode FileSeries}. */
export interface SeriesOptions {
  /** Where the files go; it is made where it does not exist. */
  directory: string;
  /** A file ends before it has more bytes than this; at least {@linkcode MIN_ROTATE_SIZE}. */
  rotateSize?: number;
  /** A file ends so many milliseconds after its first frame was written. */
  rotateTime?: number;
  /** The oldest files are removed where there are more than this, the present one included; at least 2. */
  keep?: number;
  /** A shell command that is run for each finished file. */
  rotateExec?: string;
  /** Bounds of these commands, where they are others than usual. */
  hookBounds?: Partial<HookBounds>;
  /** What the files say of their origin. */
  section: SectionInfo;
  /** What the files say of the interface. */
  interface: InterfaceInfo;
  /** Counters for the statistics blocks. */
  statistics: () => InterfaceStatistics;
  /** Told what is wrong while the writing goes on. */
  warn: (message: string) => void;
}

/** What was written and what was not, since the start. */
export interface SeriesCounters extends OutputCounters {
  /** Files that were begun. */
  files: number;
}

/** The files of one run. A disk that fails costs frames, which are counted, and nothing else. */
export class FileSeries implements BlockOutput {
  /** What was written and what was not. */
  readonly counters: SeriesCounters = { files: 0, frames: 0, bytes: 0, lost: 0 };
  readonly #options: SeriesOptions;
  readonly #header: Uint8Array;
  readonly #hook: RotateHook | undefined;
  readonly #lock: Deno.FsFile;
  readonly #names = new FileNames();
  readonly #started = nowMicros();
  readonly #closing = new AbortController();
  #mending: Promise<void> | undefined;
  #file: OutputFile | undefined;
  /** When the present file got its first frame; this and all that follow by performance.now(). */
  #firstFrameAt = Infinity;
  #statisticsAt = -Infinity;
  #removes = true;
  #retryAt = 0;
  #retryDelay = RETRY.first;
  #failedAt = -Infinity;
  /** What {@linkcode SeriesCounters.lost} was when writing began to fail, while it does. */
  #lostBefore: number | undefined;

  private constructor(options: SeriesOptions, lock: Deno.FsFile) {
    this.#options = options;
    this.#lock = lock;
    const section = sectionHeader(options.section);
    this.#header = Uint8Array.of(...section, ...interfaceDescription(options.interface));
    const { rotateExec, warn, hookBounds } = options;
    if (rotateExec !== undefined) this.#hook = new RotateHook(rotateExec, warn, hookBounds);
  }

  /**
   * Begins the first file.
   *
   * @throws {Failure} where that cannot be, or another process writes to the directory
   */
  static async open(options: SeriesOptions): Promise<FileSeries> {
    const { directory } = options;
    let lock: Deno.FsFile | undefined;
    try {
      await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
      lock = await Deno.open(directory);
      if (!await lock.tryLock(true)) {
        throw new Failure(
          ExitStatus.TEMPORARY,
          `Another process writes capture files to "${directory}"`,
          { mend: "name another directory" },
        );
      }
      const series = new FileSeries(options, lock);
      const old = await newestFile(directory);
      if (old !== undefined) series.#mending = series.#mend(join(directory, old));
      series.#file = await series.#create();
      return series;
    } catch (error) {
      lock?.close();
      throw error instanceof Failure ? error : openFailure(directory, error);
    }
  }

  /** Whether the present file is too old at `now`, by performance.now(). */
  isRotationDue(now: number): boolean {
    return now - this.#firstFrameAt >= (this.#options.rotateTime ?? Infinity);
  }

  /** Ends the present file if it is too old. */
  async rotateIfDue(): Promise<void> {
    if (this.isRotationDue(performance.now())) await this.#rotate();
  }

  /** Writes the blocks of `batch`, adding statistics from time to time. What cannot be written is counted. */
  async write(batch: PacketBatch): Promise<void> {
    await this.rotateIfDue();
    const size = this.#file?.size ?? 0;
    const limit = this.#options.rotateSize ?? Infinity;
    if (size + batch.length + 2 * STATISTICS_SIZE > limit) await this.#rotate();
    try {
      this.#file ??= await this.#retry();
      if (this.#file === undefined) {
        this.counters.lost += batch.frames;
        return;
      }
      this.#addStatistics(batch);
      await this.#file.append(batch.bytes.subarray(0, batch.length), batch.frames);
    } catch (error) {
      this.counters.lost += batch.frames;
      await this.#fail(error);
      return;
    }
    this.counters.frames += batch.frames;
    this.counters.bytes += batch.length;
    if (this.#firstFrameAt === Infinity) this.#firstFrameAt = performance.now();
    this.#reportRecovery();
  }

  /** Ends the last file, and waits for the commands of the finished ones, within their bounds. */
  async close(): Promise<void> {
    await this.#finish();
    await this.#hook?.close();
    this.#closing.abort();
    await this.#mending;
    this.#lock.close();
  }

  /** Mends what a killed process has left. A large file takes its time, for which nobody waits. */
  async #mend(path: string): Promise<void> {
    const { warn } = this.#options;
    try {
      const bytes = await mendFile(path, this.#closing.signal);
      if (bytes > 0) {
        warn(`Capture file "${path}" ended in half a block: ${bytes} bytes are removed`);
      }
    } catch (error) {
      warn(`Capture file "${path}" cannot be checked: ${reasonOf(error)}`);
    }
  }

  async #create(): Promise<OutputFile> {
    const { directory } = this.#options;
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
    const name = this.#names.next(nowMicros());
    const file = await OutputFile.create(directory, name, this.#header);
    this.counters.files++;
    this.counters.bytes += this.#header.length;
    this.#firstFrameAt = Infinity;
    return file;
  }

  /** A new file after a failure, if it is time to try again. */
  async #retry(): Promise<OutputFile | undefined> {
    return performance.now() < this.#retryAt ? undefined : await this.#create();
  }

  /** Ends the present file and begins the next one. */
  async #rotate(): Promise<void> {
    if (this.#file === undefined) return;
    await this.#finish();
    try {
      this.#file = await this.#create();
    } catch (error) {
      return await this.#fail(error);
    }
    await this.#removeOldest(this.#file.path);
  }

  /** That an old file cannot be removed is no reason to stop writing; it is said once. */
  async #removeOldest(current: string): Promise<void> {
    const { keep, directory, warn } = this.#options;
    if (keep === undefined) return;
    try {
      await removeOldest(directory, keep, current);
      this.#removes = true;
    } catch (error) {
      if (this.#removes) warn(`Old capture files cannot be removed: ${reasonOf(error)}`);
      this.#removes = false;
    }
  }

  async #finish(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    this.#firstFrameAt = Infinity;
    const block = this.#statistics();
    try {
      await file.append(block, 0);
      this.counters.bytes += block.length;
    } catch {
      // A full disk; the file is whole without it.
    }
    file.close();
    this.#hook?.run(file.path);
  }

  #addStatistics(batch: PacketBatch): void {
    const now = performance.now();
    if (now - this.#statisticsAt < STATISTICS_INTERVAL) return;
    this.#statisticsAt = now;
    batch.append(this.#statistics());
  }

  #statistics(): Uint8Array {
    return interfaceStatistics(this.#options.statistics(), this.#started, nowMicros());
  }

  /** Gives the present file up for a while. */
  async #fail(error: unknown): Promise<void> {
    const now = performance.now();
    // Where it works for a moment only, the tries become rarer all the same.
    if (now - this.#failedAt > 2 * RETRY.last) this.#retryDelay = RETRY.first;
    this.#failedAt = now;
    this.#retryAt = now + this.#retryDelay;
    this.#retryDelay = Math.min(2 * this.#retryDelay, RETRY.last);
    if (this.#lostBefore === undefined) {
      this.#lostBefore = this.counters.lost;
      const { directory, warn } = this.#options;
      warn(`Cannot write capture files to "${directory}" at present: ${reasonOf(error)}`);
    }
    if (this.#file?.frames === 0) {
      await this.#file.discard();
      this.#file = undefined;
    }
    await this.#finish();
  }

  #reportRecovery(): void {
    if (this.#lostBefore === undefined) return;
    const lost = this.counters.lost - this.#lostBefore;
    this.#lostBefore = undefined;
    const { directory, warn } = this.#options;
    warn(`Capture files are written to "${directory}" again; ${lost} frames are in none`);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function openFailure(directory: string, error: unknown): Failure {
  const denied = error instanceof Deno.errors.PermissionDenied;
  return new Failure(
    denied ? ExitStatus.NO_PERMISSION : ExitStatus.OS,
    `Cannot write capture files to "${directory}": ${reasonOf(error)}`,
    { mend: "name another directory", cause: error },
  );
}
