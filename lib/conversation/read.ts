/**
 * Reading of the conversations of a capture file.
 *
 * @module
 */
import { openCapture } from "../capture/open.ts";
import { FrameFilters } from "../capture/frame_filters.ts";
import type { ConversationSink } from "./conversation.ts";
import type { Totals } from "./totals.ts";
import { Tracker, type TrackerOptions } from "./tracker.ts";

/** Settings of {@linkcode readConversations}. */
export interface ReadOptions extends TrackerOptions {
  /** The capture file, or `-` for standard input. */
  file: string;
  /** Only frames that pass this filter count, in pcap-filter(7)'s language; empty for all. */
  filter?: string;
  /** Is told once of each link type that cannot be read. */
  warn: (message: string) => void;
  /** Gets the totals before reading begins; they are up to date at any time. */
  begun?: (totals: Totals) => void;
}

/**
 * Tells `sink` of all conversations of a capture file, as far as it can be read, in the order of {@linkcode
 * ConversationSink}, and waits where the sink is busy. Memory depends on the conversations that are open at once, not on
 * the size of the file. Ends early at `stop`.
 *
 * @throws {BadCapture} where the file is broken, after all conversations up to there were told and closed
 * @throws {Failure} where the file cannot be read, or the filter is none
 */
export async function readConversations(
  options: ReadOptions,
  sink: ConversationSink,
  stop: AbortSignal,
): Promise<Totals> {
  using filters = new FrameFilters(options.filter ?? "", options.warn);
  using capture = await openCapture(options.file);
  const { reader } = capture;
  const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  const tracker = new Tracker(sink, { ...options, seed });
  // Asking the signal itself for each frame takes longer than the frame.
  let stopped = stop.aborted;
  const end = (): void => void (stopped = true);
  stop.addEventListener("abort", end);
  options.begun?.(tracker.totals);
  // A function of its own, for V8 compiles a loop within an asynchronous one again and again.
  const takeFrames = (): Promise<void> | undefined => {
    while (!stopped && reader.next()) {
      tracker.totals.lost = reader.lost;
      if (filters.take(reader)) {
        const time = reader.seconds * 1e6 + Math.floor(reader.nanos / 1000);
        const { view, offset, captured, length, linkType } = reader;
        tracker.take(view, offset, captured, length, linkType, time);
      } else {
        tracker.refuse();
      }
      const busy = sink.busy?.();
      if (busy !== undefined) return busy;
    }
    return undefined;
  };
  try {
    while (!stopped && (reader.fillNow() || await untilStopped(reader.fill(), stop))) {
      for (let busy = takeFrames(); busy !== undefined; busy = takeFrames()) {
        await untilStopped(busy, stop);
      }
    }
  } finally {
    stop.removeEventListener("abort", end);
    tracker.totals.lost = reader.lost;
    tracker.end();
  }
  return tracker.totals;
}

/** What `doing` gives, or false at `stop`: standard input may keep a reader waiting for ever. */
async function untilStopped(doing: Promise<boolean | void>, stop: AbortSignal): Promise<boolean> {
  const stopped = Promise.withResolvers<boolean>();
  const end = (): void => stopped.resolve(false);
  stop.addEventListener("abort", end);
  if (stop.aborted) end();
  try {
    return await Promise.race([doing, stopped.promise]) !== false;
  } finally {
    stop.removeEventListener("abort", end);
  }
}
