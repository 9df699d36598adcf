/**
 * A capture that is written as one stream, for a reader that follows it.
 *
 * @module
 */
import { nowMicros } from "../clock.ts";
import { outputError, type Sink, writeAll } from "../ndjson.ts";
import { type BlockOutput, type OutputCounters, STATISTICS_INTERVAL } from "./block_output.ts";
import {
  interfaceDescription,
  type InterfaceInfo,
  type InterfaceStatistics,
  interfaceStatistics,
  sectionHeader,
  type SectionInfo,
} from "./blocks.ts";
import type { PacketBatch } from "./packet_batch.ts";

/** Settings of {@linkcode StreamOutput}. */
export interface StreamOptions {
  /** What the stream says of its origin. */
  section: SectionInfo;
  /** What it says of the interface. */
  interface: InterfaceInfo;
  /** Counters for the statistics blocks. */
  statistics: () => InterfaceStatistics;
}

/** A pcapng on a pipe. Its statistics tell the reader what it does not get. */
export class StreamOutput implements BlockOutput {
  /** What was written and what was not. */
  readonly counters: OutputCounters = { frames: 0, bytes: 0, lost: 0 };
  readonly #sink: Sink;
  readonly #options: StreamOptions;
  readonly #started = nowMicros();
  readonly #broken = new AbortController();
  #begun = false;
  #statisticsAt = performance.now();

  /** Writes to `sink`, which nobody else may write to. */
  constructor(sink: Sink, options: StreamOptions) {
    this.#sink = sink;
    this.#options = options;
  }

  /** Aborted as soon as the sink fails; the reason is {@linkcode outputError}'s. */
  get signal(): AbortSignal {
    return this.#broken.signal;
  }

  /** The header is due before the first frame, so that the reader knows at once what it reads. */
  isRotationDue(): boolean {
    return !this.#begun;
  }

  /** Writes the header, once. */
  async rotateIfDue(): Promise<void> {
    if (this.#begun) return;
    this.#begun = true;
    const { section, interface: info } = this.#options;
    await this.#write(sectionHeader(section));
    await this.#write(interfaceDescription(info));
  }

  /** Writes the blocks of `batch`. */
  async write(batch: PacketBatch): Promise<void> {
    await this.rotateIfDue();
    const now = performance.now();
    if (now - this.#statisticsAt >= STATISTICS_INTERVAL) {
      this.#statisticsAt = now;
      batch.append(this.#statistics());
    }
    const written = await this.#write(batch.bytes.subarray(0, batch.length));
    this.counters[written ? "frames" : "lost"] += batch.frames;
  }

  /** Writes the last statistics. */
  async close(): Promise<void> {
    await this.rotateIfDue();
    await this.#write(this.#statistics());
  }

  async #write(bytes: Uint8Array): Promise<boolean> {
    if (this.signal.aborted) return false;
    try {
      await writeAll(this.#sink, bytes);
    } catch (error) {
      this.#broken.abort(outputError(error));
      return false;
    }
    this.counters.bytes += bytes.length;
    return true;
  }

  #statistics(): Uint8Array {
    return interfaceStatistics(this.#options.statistics(), this.#started, nowMicros());
  }
}
