/**
 * `guard`: hides the crash tail of the service's processes, and reports their death at once.
 *
 * @module
 */
import { Poller } from "../../ffi/poller.ts";
import { RingBuffer } from "../../ffi/ring_buffer.ts";
import { runRealtimeAlone } from "../../ffi/scheduler.ts";
import { formatService, type Service } from "../address.ts";
import type { Emitter } from "../event.ts";
import { AttachmentGuard } from "../program/attachment_guard.ts";
import { StatsTimer } from "../program/events.ts";
import { Instance, requireInterface } from "../program/instance.ts";
import {
  makeRunDir,
  readRecord,
  removeRecord,
  requireSameInterface,
  takeLock,
  writeRecord,
} from "../program/run_dir.ts";
import { requireHandled } from "../program/services.ts";
import { type GuardEvent, readGuardEvent } from "./layout.ts";
import { MainProcesses, type ProcessSources, type UnitAsker } from "./processes.ts";
import { attachProbes, configure, guardKind, readGuardCounters } from "./programs.ts";
import { type OnWorker, Verdict } from "./verdict.ts";

/** Longest wait for records, in microseconds; a stop waits no longer. */
const WAIT = 250_000;
/** How often a process is looked for that takes the place of one that has ended, in milliseconds. */
const RENEW = 500;

/** Settings of {@linkcode runGuard}. */
export interface GuardOptions extends ProcessSources {
  /** The interface to the clients. */
  readonly interface: string;
  /** What is guarded; TCP only. */
  readonly services: readonly Service[];
  /** Where pins, lock and record are. */
  readonly runDir: string;
  /** The name by which `failed` calls this host. */
  readonly target: string;
  /** What the death of a process means that is no main process. */
  readonly onWorker: OnWorker;
  /** How long flows are held where no takeover follows, in seconds. */
  readonly release: number;
  /** The control group with the server's processes; the root of all unless given. */
  readonly controlGroup?: string;
  /** Seconds between `stats` events. */
  readonly stats?: number;
  /** Asks systemd for units' main processes. */
  readonly askUnit: UnitAsker;
}

/**
 * Runs until `stop` is aborted, and detaches then. What a killed one left attached goes on hiding, for `release` seconds
 * a flow at most, and is adopted.
 *
 * @throws {Failure} where a process does not live, or another guard is in the way
 */
export async function runGuard(
  options: GuardOptions,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  const { runDir, services } = options;
  requireHandled(services);
  requireInterface(options.interface);
  requireSameInterface(runDir, "guard", options.interface);
  makeRunDir(runDir);
  using _lock = takeLock(runDir, "guard");
  const reclaim = readRecord(runDir, "guard") !== undefined;
  const record = { interface: options.interface, services: services.map(formatService) };
  writeRecord(runDir, "guard", record);
  let cleared = false;
  try {
    using instance = Instance.open(
      guardKind,
      runDir,
      options.interface,
      reclaim,
      (opened) => configure(opened, services, options.interface, options.release * 1000),
    );
    try {
      using ring = new RingBuffer(instance.map("events"));
      using mains = new MainProcesses(options, instance.map("watched"), options.askUnit);
      using _probes = attachProbes(instance, runDir, options.controlGroup);
      await mains.start();
      emitter.emit("started", {
        ...record,
        target: options.target,
        pids: mains.pids,
        release_s: options.release,
        on_worker: options.onWorker,
        realtime: runRealtimeAlone(),
        adopted: instance.adopted,
      });
      await watch(instance, ring, mains, options, emitter, stop);
    } finally {
      instance.clear();
      cleared = true;
    }
  } finally {
    if (cleared || !reclaim) removeRecord(runDir, "guard");
  }
}

/** Waits for the programs' records and the processes' ends, and acts on them. */
async function watch(
  instance: Instance,
  ring: RingBuffer,
  mains: MainProcesses,
  options: GuardOptions,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  const verdict = new Verdict(options, mains, emitter);
  const attachment = new AttachmentGuard(instance, emitter);
  const stats = new StatsTimer(emitter, () => readGuardCounters(instance), options.stats);
  let renewal = performance.now();
  while (!stop.aborted) {
    // The processes differ from time to time.
    const poller = new Poller([ring.fd, ...mains.descriptors]);
    const known = mains.pids.join();
    const wake = (): void => poller.wake();
    stop.addEventListener("abort", wake);
    try {
      while (!stop.aborted && mains.pids.join() === known) {
        await poller.wait(Math.min(WAIT, verdict.due() * 1000, stats.due() * 1000));
        const events: GuardEvent[] = [];
        ring.drain((record) => {
          const event = readGuardEvent(record);
          if (event !== undefined) events.push(event);
        });
        for (const event of events) verdict.take(event);
        for (const pid of mains.ended()) verdict.lost(pid);
        verdict.tick();
        stats.tick();
        attachment.look();
        if (performance.now() < renewal || mains.complete) continue;
        renewal = performance.now() + RENEW;
        await mains.renew();
      }
    } finally {
      stop.removeEventListener("abort", wake);
      await poller.close();
    }
  }
  stats.emit();
}
