/**
 * `record --read`: the recorder on a capture file instead of an interface.
 *
 * @module
 */
import { formatService, type Service } from "../address.ts";
import { FrameFilters } from "../capture/frame_filters.ts";
import { openCapture } from "../capture/open.ts";
import type { CaptureReader } from "../capture/reader.ts";
import { formatTime } from "../clock.ts";
import type { Emitter } from "../event.ts";
import { LinkType } from "../packet/link.ts";
import { StatsTimer } from "../program/events.ts";
import { requireHandled } from "../program/services.ts";
import { Recorder } from "./recorder.ts";
import { flowEvents } from "./report.ts";

/** Settings of {@linkcode runOffline}. */
export interface OfflineOptions {
  /** The capture file, or `-` for standard input. */
  file: string;
  /** Whose traffic is looked at; TCP only. */
  services: readonly Service[];
  /** Bytes of memory in all. */
  budget: number;
  /** Bytes kept of one flow. */
  window: number;
  /** A filter that frames have to pass too, in pcap-filter(7)'s language; empty for none. */
  filter: string;
  /** Report opened and closed flows. */
  flows: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
}

/** Behind this second of the Unix epoch, RFC 3339 has no words. */
const YEAR_10000 = 253_402_300_800;
/** The recorder's clock has 32 bits. */
const LAST_SECOND = 2 ** 31 - 1;
/** Pause while the reader of the output does not keep up, in milliseconds. */
const PAUSE = 5;

/**
 * Gives a capture file's frames to a recorder, in the time of the capture, and ends with its ledger. Nothing is served,
 * and no replica acknowledges.
 *
 * @throws {BadCapture} where the file is broken, after all that comes before has been looked at
 * @throws {Failure} where the file cannot be read, or the filter is none
 */
export async function runOffline(
  options: OfflineOptions,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  requireHandled(options.services);
  using filters = new FrameFilters(
    options.filter,
    (message) => emitter.emit("warning", { message }),
  );
  using capture = await openCapture(options.file);
  const { reader } = capture;
  const recorder = new Recorder({
    services: options.services,
    budget: options.budget,
    window: options.window,
    link: LinkType.ETHERNET,
    reserve: (bytes) => new ArrayBuffer(bytes),
    seed: crypto.getRandomValues(new Int32Array(1))[0]!,
  }, flowEvents(emitter, options.flows, () => timeOf(reader)));
  const stats = new StatsTimer(emitter, () => ({
    flows: recorder.table.size,
    frames: reader.frames,
    filtered: filters.refused,
    ...recorder.ledger.fields,
  }), options.stats);
  emitter.emit("started", {
    read: options.file,
    services: options.services.map(formatService),
    budget: options.budget,
    window: options.window,
  });
  let first: number | undefined;
  let second = 0;
  const look = (): void => {
    first ??= reader.seconds;
    const now = Math.min(Math.max(reader.seconds - first, 0), LAST_SECOND);
    if (now !== second) recorder.tick(second = now);
    if (!filters.take(reader)) return;
    recorder.link = reader.linkType;
    recorder.take(reader.view, reader.offset, reader.captured, reader.length);
  };
  try {
    while (!stop.aborted && await untilStopped(reader.fill(), stop)) {
      while (!stop.aborted && reader.next()) {
        look();
        // Nobody is in a hurry: no event is to be left out.
        while (emitter.full && !stop.aborted) await pause();
      }
      recorder.tick(second);
      stats.tick();
    }
  } finally {
    recorder.tick(second);
    stats.emit();
  }
}

/** The time of the present frame, where it can be written. */
function timeOf({ seconds, nanos }: CaptureReader): { time?: string } {
  if (seconds < 0 || seconds >= YEAR_10000) return {};
  return { time: formatTime(seconds * 1e6 + Math.floor(nanos / 1000)) };
}

/** What `filling` gives, or false at `stop`: standard input may keep a reader waiting for ever. */
async function untilStopped(filling: Promise<boolean>, stop: AbortSignal): Promise<boolean> {
  const stopped = Promise.withResolvers<boolean>();
  const end = (): void => stopped.resolve(false);
  stop.addEventListener("abort", end);
  try {
    return await Promise.race([filling, stopped.promise]);
  } finally {
    stop.removeEventListener("abort", end);
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE));
}
