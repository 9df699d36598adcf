/**
 * `record`: captures on an interface, and serves what the recorder holds.
 *
 * @module
 */
import { runRealtime } from "../../ffi/scheduler.ts";
import { join } from "node:path";
import type { FrameReceiver } from "../../ffi/capture.ts";
import { reserveMemory } from "../../ffi/mapping.ts";
import { formatMac, formatService, type Service } from "../address.ts";
import { requireSocketPath, serveControl } from "../control.ts";
import type { Emitter } from "../event.ts";
import { resolveMac } from "../mirror/neighbour.ts";
import { StatsTimer } from "../program/events.ts";
import { requireInterface } from "../program/instance.ts";
import { makeRunDir, takeLock } from "../program/run_dir.ts";
import { requireHandled } from "../program/services.ts";
import { fileCounters, type FileOptions, openCaptureFiles } from "./capture_files.ts";
import { HEADERS } from "./filter.ts";
import { drain, pump } from "./intake.ts";
import { LossWatch, openServiceCapture, reportDown } from "./live.ts";
import { Recorder } from "./recorder.ts";
import { rehearseRequests } from "./rehearsal.ts";
import { flowEvents } from "./report.ts";
import { requestHandlers } from "./requests.ts";

/** Name of the control socket in the run directory. */
export const RECORD_SOCKET = "record.sock";

/** How often flows and counters are looked at, in milliseconds. */
const LOOK = 100;
/** For this long after a request for bytes, what is captured is taken in without long rests, in milliseconds. */
const HURRY = 2000;

/** Settings of {@linkcode runRecord}. */
export interface RecordOptions {
  /** The interface to capture on. */
  interface: string;
  /** Whose traffic is kept; TCP only. */
  services: readonly Service[];
  /** The backup's MAC or IP address: frames for it are `mirror`'s copies. */
  backup?: string;
  /** Bytes of memory in all, the kernel's ring among them. */
  budget: number;
  /** Bytes kept of one flow. */
  window: number;
  /** Bytes of the kernel's ring. */
  buffer: number;
  /** A filter that frames have to pass too, in pcap-filter(7)'s language; empty for none. */
  filter: string;
  /** Where lock and socket are. */
  runDir: string;
  /** Report opened and closed flows. */
  flows: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
  /** The capture files, if there are to be some. */
  files?: FileOptions;
}

/**
 * Runs until `stop` is aborted.
 *
 * @throws {Failure} where the interface cannot be captured on, or another recorder is in the way
 */
export async function runRecord(
  options: RecordOptions,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  const { runDir } = options;
  requireHandled(options.services);
  requireInterface(options.interface);
  const socket = join(runDir, RECORD_SOCKET);
  requireSocketPath(socket);
  const backup = options.backup === undefined
    ? undefined
    : formatMac(await resolveMac(options.backup, options.interface));
  makeRunDir(runDir);
  using _lock = takeLock(runDir, "record");
  // Files are for later use: with what the services answered.
  const serverSnaplen = Math.max(options.files?.snaplen ?? 0, HEADERS);
  using capture = openServiceCapture({ ...options, except: backup, serverSnaplen });
  const recorder = new Recorder({
    services: options.services,
    budget: options.budget - options.buffer,
    window: options.window,
    link: capture.link,
    reserve: reserveMemory,
    seed: crypto.getRandomValues(new Int32Array(1))[0]!,
  }, flowEvents(emitter, options.flows));
  await using writer = options.files === undefined
    ? undefined
    : await openCaptureFiles(options.files, options, capture, emitter);
  const take: FrameReceiver = (view, at, captured, length) =>
    recorder.take(view, at, captured, length);
  const receive: FrameReceiver = writer === undefined
    ? take
    : (view, at, captured, length, seconds, nanos) => {
      recorder.take(view, at, captured, length);
      writer.receive(view, at, captured, length, seconds, nanos);
    };
  // As much as the ring holds: a flood must not keep a request waiting for its end.
  let hurriedUntil = -Infinity;
  const catchUp = (more: boolean): void => {
    if (more) hurriedUntil = performance.now() + HURRY;
    drain(capture, receive, options.buffer / 64);
  };
  const read = (): Record<string, unknown> => {
    const { received, dropped } = capture.stats();
    return {
      flows: recorder.table.size,
      received,
      kernel_dropped: dropped,
      ...recorder.ledger.fields,
      ...(writer === undefined ? {} : fileCounters(writer)),
      requests: server.stats.requests,
      clients_refused: server.stats.refused,
    };
  };
  await using server = await serveControl(socket, requestHandlers(recorder, catchUp, read));
  const stats = new StatsTimer(emitter, read, options.stats);
  const losses = new LossWatch(emitter, options.interface);
  await rehearseRequests();
  emitter.emit("started", {
    interface: options.interface,
    services: options.services.map(formatService),
    ...(backup === undefined ? {} : { backup }),
    socket,
    budget: options.budget,
    window: options.window,
    buffer: options.buffer,
    // Who waits for bytes here wants to heal a replica before it is needed.
    realtime: runRealtime(),
    ...(options.files === undefined ? {} : { write: options.files.directory }),
  });
  const look = (): void => {
    recorder.tick(performance.now() / 1000);
    stats.tick();
    losses.look(capture.dropped, performance.now());
    if (capture.wentDown()) reportDown(options.interface, emitter);
  };
  let next = 0;
  const each = (): void => {
    const now = performance.now();
    if (now < next) return;
    next = now + LOOK;
    look();
  };
  const rests = {
    hurried: () => performance.now() < hurriedUntil,
    // The capture files have timers of their own.
    idle: () => writer === undefined && emitter.idle,
  };
  await pump(capture, receive, each, rests, stop);
  catchUp(false);
  look();
  await writer?.close();
  stats.emit();
}
