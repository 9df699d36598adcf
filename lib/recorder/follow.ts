/**
 * `record --follow`: writes what it captures to standard output, as it comes.
 *
 * @module
 */
import type { FrameReceiver } from "../../ffi/capture.ts";
import { formatMac, formatService } from "../address.ts";
import { StreamOutput } from "../capture/stream_output.ts";
import { CaptureWriter, MAX_SNAPLEN } from "../capture/writer.ts";
import type { Emitter } from "../event.ts";
import { resolveMac } from "../mirror/neighbour.ts";
import type { Sink } from "../ndjson.ts";
import { StatsTimer } from "../program/events.ts";
import { requireInterface } from "../program/instance.ts";
import { requireHandled } from "../program/services.ts";
import { originInfo } from "./capture_files.ts";
import { drain, pump } from "./intake.ts";
import { type LiveOptions, LossWatch, openServiceCapture, reportDown } from "./live.ts";

/** How often the counters are looked at, in milliseconds. */
const LOOK = 100;
/** How many bytes are written at once, where there are so many. */
const BATCH = 1 << 18;
/** How long a frame waits for others at most, in milliseconds; a write costs as much as 200 frames. */
const INTERVAL = 4;
/** How long a reader that does not read has at the end, in milliseconds. */
const LAST_WORDS = 1000;

/** Settings of {@linkcode runFollow}. */
export interface FollowOptions extends Omit<LiveOptions, "except" | "serverSnaplen"> {
  /** The backup's MAC or IP address: frames for it are `mirror`'s copies. */
  backup?: string;
  /** The program that the capture names, with its version. */
  application: string;
  /** Seconds between `stats` events. */
  stats?: number;
}

/**
 * Runs until `stop` is aborted. Where the reader of `sink` is too slow, frames are left out and counted, in the capture's
 * own statistics, too.
 *
 * @throws {Failure} where the interface cannot be captured on
 * @throws {ReaderGone} where the reader of `sink` has gone
 */
export async function runFollow(
  options: FollowOptions,
  sink: Sink,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  requireHandled(options.services);
  requireInterface(options.interface);
  const backup = options.backup === undefined
    ? undefined
    : formatMac(await resolveMac(options.backup, options.interface));
  using capture = openServiceCapture({ ...options, except: backup, serverSnaplen: MAX_SNAPLEN });
  const output: StreamOutput = new StreamOutput(sink, {
    ...originInfo(options, capture.link, MAX_SNAPLEN, options.application),
    statistics() {
      const { frames, lost } = output.counters;
      const stats = capture.stats();
      return { ...stats, dropped: stats.dropped + lost, delivered: frames };
    },
  });
  const writer = new CaptureWriter(output, {
    snaplen: MAX_SNAPLEN,
    batch: BATCH,
    interval: INTERVAL,
    warn: (message) => emitter.emit("warning", { message }),
    words: {
      slow: "The capture's reader is too slow: frames are left out at present",
      caughtUp: (lost) => `The capture's reader has caught up; it did not get ${lost} frames`,
    },
  });
  const read = (): Record<string, unknown> => {
    const { received, dropped } = capture.stats();
    const { frames, bytes, lost } = output.counters;
    return {
      ...{ received, kernel_dropped: dropped },
      ...{ written_frames: frames, written_bytes: bytes, unwritten_frames: lost },
    };
  };
  const stats = new StatsTimer(emitter, read, options.stats);
  const losses = new LossWatch(emitter, options.interface);
  emitter.emit("started", {
    interface: options.interface,
    services: options.services.map(formatService),
    ...(backup === undefined ? {} : { backup }),
    buffer: options.buffer,
  });
  let next = 0;
  const look = (): void => {
    const now = performance.now();
    if (now < next) return;
    next = now + LOOK;
    stats.tick();
    losses.look(capture.dropped, now);
    if (capture.wentDown()) reportDown(options.interface, emitter);
  };
  const receive: FrameReceiver = writer.receive;
  const ended = AbortSignal.any([stop, output.signal]);
  try {
    // The reader waits for every frame, so that rests are short.
    const rests = { hurried: () => true, idle: () => false };
    await pump(capture, receive, look, rests, ended);
    drain(capture, receive, options.buffer / 64);
  } finally {
    await within(writer.close(), LAST_WORDS);
    stats.emit();
  }
  output.signal.throwIfAborted();
}

async function within(closed: Promise<void>, millis: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, millis);
  try {
    await Promise.race([closed, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
