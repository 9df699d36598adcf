/**
 * Where batches of captured frames go.
 *
 * @module
 */
import type { PacketBatch } from "./packet_batch.ts";

/** The largest statistics block, in bytes; a batch that is written has room for one. */
export const STATISTICS_SIZE = 256;

/** How often there is a statistics block while frames come, in milliseconds. */
export const STATISTICS_INTERVAL = 1000;

/** What was written and what was not, since the start. */
export interface OutputCounters {
  /** Frames that were written. */
  frames: number;
  /** Bytes that were written. */
  bytes: number;
  /** Frames that were not, because the output was full, broken or too slow. */
  lost: number;
}

/** Files, or a stream. */
export interface BlockOutput {
  /** What was written; whoever has to leave frames out counts them here. */
  readonly counters: OutputCounters;
  /** Whether the next part is to be begun at `now`, by performance.now(), though nothing is to be written. */
  isRotationDue(now: number): boolean;
  /** Begins the next part if it is due. */
  rotateIfDue(): Promise<void>;
  /** Writes the blocks of `batch`, adding statistics from time to time. What cannot be written is counted. */
  write(batch: PacketBatch): Promise<void>;
  /** Writes what belongs at the end. */
  close(): Promise<void>;
}
