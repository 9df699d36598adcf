/**
 * `guard`: hides the crash tail of the service's processes, and reports their death at once.
 *
 * @module
 */
import { join } from "node:path";
import { Poller } from "../../ffi/poller.ts";
import { RingBuffer } from "../../ffi/ring_buffer.ts";
import { runRealtime } from "../../ffi/scheduler.ts";
import { formatService, type Service } from "../address.ts";
import { requireSocketPath, serveControl } from "../control.ts";
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
import { readGuardEvent } from "./layout.ts";
import { MainProcesses, type ProcessSources, type UnitAsker } from "./processes.ts";
import { attachProbes, configure, guardKind, readGuardCounters } from "./programs.ts";
import { Release } from "./release.ts";
import { type OnWorker, rehearse, Verdict } from "./verdict.ts";

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
  requireSocketPath(join(runDir, GUARD_SOCKET));
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
      await rehearse(options);
      warnOfOlder(readGuardCounters(instance)["older_refused"]!, emitter);
      emitter.emit("started", {
        ...record,
        target: options.target,
        pids: mains.pids,
        release_s: options.release,
        on_worker: options.onWorker,
        realtime: runRealtime(),
        adopted: instance.adopted,
      });
      using release = new Release({
        flows: instance.map("flows"),
        states: instance.map("services"),
        interface: options.interface,
        services,
        bound: options.release * 1000,
      });
      await watch({ instance, ring, mains, release }, options, emitter, stop);
    } finally {
      instance.clear();
      cleared = true;
    }
  } finally {
    if (cleared || !reclaim) removeRecord(runDir, "guard");
  }
}

/** Connections that the kernel does not let the programs guard: their clients see a crash. */
function warnOfOlder(count: number, emitter: Emitter): void {
  if (count === 0) return;
  emitter.emit("warning", {
    message:
      `${count} connections and listeners are older than the guard, which Linux guards from 6.12 on`,
    counter: "older_refused",
    count,
  });
}

/** Name of the control socket in the run directory. */
export const GUARD_SOCKET = "guard.sock";

/** What {@linkcode watch} looks at. */
interface Watched {
  instance: Instance;
  ring: RingBuffer;
  mains: MainProcesses;
  release: Release;
}

/** Waits for the programs' records and the processes' ends, and acts on them. */
async function watch(
  { instance, ring, mains, release }: Watched,
  options: GuardOptions,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  const verdict = new Verdict(options, mains, emitter);
  const attachment = new AttachmentGuard(instance, emitter);
  const read = (): Record<string, number> => ({
    ...readGuardCounters(instance),
    ...release.counts,
  });
  const stats = new StatsTimer(emitter, read, options.stats);
  await using _control = await serveControl(join(options.runDir, GUARD_SOCKET), {
    *stats() {
      yield { stats: read() };
    },
    *flows() {
      for (const flow of release.flows()) yield { flow };
    },
  });
  let renewal = performance.now();
  const look = async (): Promise<void> => {
    ring.drain((record) => {
      const event = readGuardEvent(record);
      if (event === undefined) return;
      verdict.take(event);
      release.begin();
    });
    for (const pid of mains.ended()) verdict.lost(pid);
    for (const pid of verdict.tick()) release.letGo(pid);
    release.tick();
    if (verdict.failed && release.idle && release.listening && mains.complete) verdict.recover();
    stats.tick();
    attachment.look();
    if (mains.complete || performance.now() < renewal) return;
    renewal = performance.now() + RENEW;
    await mains.renew();
  };
  /** A stop waits for what is held, since nobody would let go of it. */
  let told = false;
  const mayStop = (): boolean => {
    if (!stop.aborted || release.pending === 0) return stop.aborted;
    if (told) return false;
    told = true;
    emitter.emit("warning", {
      message:
        `${release.pending} connections are held; they are let go, or taken over, before the end`,
      counter: "held",
      count: release.pending,
    });
    return false;
  };
  while (!mayStop()) {
    // The processes differ from time to time.
    const known = mains.pids.join();
    const poller = new Poller([ring.fd, ...mains.descriptors]);
    const wake = (): void => poller.wake();
    stop.addEventListener("abort", wake);
    try {
      while (!mayStop() && mains.pids.join() === known) {
        const due = Math.min(verdict.due(), release.due(), stats.due());
        await poller.wait(Math.min(WAIT, due * 1000));
        await look();
      }
    } finally {
      stop.removeEventListener("abort", wake);
      await poller.close();
    }
  }
  await release.end();
  stats.emit();
}
