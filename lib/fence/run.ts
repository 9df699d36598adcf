/**
 * `fence`: waits for the event, or the request, and silences the primary.
 *
 * @module
 */
import { join } from "node:path";
import { SystemError } from "../../ffi/errno.ts";
import { runRealtimeAlone } from "../../ffi/scheduler.ts";
import { formatMac, formatService, type Service } from "../address.ts";
import { formatTime, nowMicros } from "../clock.ts";
import { requireSocketPath, serveControl } from "../control.ts";
import { Emitter, type Event, parseEvent } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { resolveMac } from "../mirror/neighbour.ts";
import { repeat } from "../program/repeat.ts";
import { NdjsonWriter } from "../ndjson.ts";
import { passThrough } from "../pipeline.ts";
import { StatsTimer } from "../program/events.ts";
import { requireEthernet } from "../program/instance.ts";
import { isLockTaken, makeRunDir, removeRecord, takeLock } from "../program/run_dir.ts";
import { requireHandled } from "../program/services.ts";
import { asksFor, concerns } from "../takeover/trigger.ts";
import type { FencedFields } from "../vocabulary/fence.ts";
import { Fence } from "./device.ts";
import { Fencing } from "./fencing.ts";
import { askFence } from "./ask.ts";
import { ServiceNeighbours } from "./neighbours.ts";
import type { PowerFence } from "./power.ts";
import {
  FENCE,
  FENCE_SOCKET,
  readFenceRecord,
  requireSameFence,
  type RunningCommand,
  writeFenceRecord,
} from "./record.ts";

/** Between two looks at whether the program is still in its place, in milliseconds. */
const LOOK = 250;

/** What a fence silences, and what belongs to it. */
export interface FenceTask {
  /** The gateway's interface to the primary. */
  interface: string;
  /** The primary's MAC or IP address. */
  primary: string;
  /** The backup's MAC or IP address, for the gateway's neighbour entries; undefined leaves them alone. */
  backup: string | undefined;
  /** The services; TCP only. */
  services: readonly Service[];
  /** Where lock, record and control socket are. */
  runDir: string;
  /** The command that goes with it; undefined for none. */
  power: PowerFence | undefined;
}

/** Settings of {@linkcode runFence}. */
export interface FenceOptions extends FenceTask {
  /** The type of the event that asks for it; undefined reads no events, and acts on requests alone. */
  on: string | undefined;
  /** The targets of which one must be named; none for any. */
  targets: readonly string[];
  /** End at the first input line that is no event. */
  strict: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
}

/** What {@linkcode runFence} gets from its process. */
export interface FenceStreams {
  /** Events, one a line. */
  input: ReadableStream<Uint8Array>;
  /** Takes the lines that pass through. */
  writer: NdjsonWriter;
  /** Takes this command's own events. */
  emitter: Emitter;
  /** Told about input lines that are no events. */
  warn: (message: string) => void;
  /** Aborted when the command should end. */
  stop: AbortSignal;
}

/**
 * Runs to the end of the input, or until it is stopped. A fence that is up then stays up; one that is not is taken away.
 *
 * @throws {Failure} where a neighbour does not answer, or a fence is up for others
 */
export async function runFence(options: FenceOptions, streams: FenceStreams): Promise<void> {
  const { emitter, stop } = streams;
  requireSocketPath(join(options.runDir, FENCE_SOCKET));
  using placed = await place(options, emitter);
  const { fence, fencing } = placed;
  try {
    const read = (): Record<string, unknown> => ({
      up: fence.up,
      up_ms: Math.round(fence.age),
      ...fence.counters,
    });
    const stats = new StatsTimer(emitter, read, options.stats);
    await rehearse(options.services);
    await using _control = await serveControl(join(options.runDir, FENCE_SOCKET), {
      async *fence() {
        yield { fenced: await fencing.fence() };
      },
      *release() {
        yield { released: fencing.release() ? fencing.services : [] };
      },
      *stats() {
        yield { stats: read() };
      },
    });
    emitter.emit("started", {
      interface: fence.interface,
      services: fencing.services,
      primary: placed.primary,
      backup: placed.backup,
      ...(options.on === undefined ? {} : { on: options.on }),
      exec: options.power?.command,
      exec_required: options.power?.required,
      realtime: runRealtimeAlone(),
      adopted: fence.adopted,
      up: fence.up,
    });
    emitter.emit("fence.ready", { services: fencing.services });
    using _looking = repeat(() => {
      stats.tick();
      keepPlace(fence, emitter);
    }, Math.min(LOOK, (options.stats ?? 1) * 500));
    if (options.on === undefined) await aborted(stop);
    else await act(options.on, options, fencing, streams);
    await fencing.idle();
    stats.emit();
  } finally {
    if (!fence.up) placed.remove();
  }
}

/**
 * Fences once, and leaves the fence up. Where a process has the run directory, it is asked to.
 *
 * @throws {Failure} where the primary is not fenced then
 */
export async function fenceNow(task: FenceTask, emitter: Emitter): Promise<void> {
  if (isLockTaken(task.runDir, FENCE)) {
    const { fenced } = await askFence(task.runDir, "fence");
    emitter.emit("fenced", fenced as FencedFields & Record<string, unknown>);
    return;
  }
  using placed = await place(task, emitter);
  try {
    await placed.fencing.fence();
    await placed.fencing.idle();
  } finally {
    if (!placed.fence.up) placed.remove();
  }
}

/** A fence in its place. */
interface Placed extends Disposable {
  fence: Fence;
  fencing: Fencing;
  primary: string;
  backup: string | undefined;
  /** Takes the program and the record away. */
  remove(): void;
}

/** Puts a fence into its place, not up unless it was. Disposing of it leaves it there. */
async function place(task: FenceTask, emitter: Emitter): Promise<Placed> {
  const { runDir, services } = task;
  requireHandled(services);
  requireEthernet(task.interface);
  makeRunDir(runDir);
  using opened = new DisposableStack();
  opened.use(takeLock(runDir, FENCE));
  const earlier = readFenceRecord(runDir);
  requireSameFence(earlier, task.interface);
  const [mac, backupMac] = await Promise.all([
    resolveMac(task.primary, task.interface),
    task.backup === undefined ? undefined : resolveMac(task.backup, task.interface),
  ]);
  const primary = formatMac(mac);
  const backup = backupMac && formatMac(backupMac);
  requirePrimary(task, primary, backup);
  const note = (program: number, running?: RunningCommand): void =>
    writeFenceRecord(runDir, {
      interface: task.interface,
      services: services.map(formatService),
      program,
      ...(backup === undefined ? {} : { backup }),
      ...(running === undefined ? {} : { running }),
    });
  const setup = { interface: task.interface, primary: mac, services };
  const fence = opened.use(openNoted(runDir, () => Fence.open(setup, earlier?.program, note)));
  if (earlier?.running === "required" && fence.up) undoLeft(fence, services, emitter);
  if (fence.adopted) note(fence.program, fence.up ? earlier?.running : undefined);
  const addresses = services.map(({ address }) => address);
  const neighbours = backupMac && {
    table: opened.use(new ServiceNeighbours(task.interface, addresses)),
    mac: backupMac,
  };
  const { power } = task;
  const fencing = new Fencing({
    ...{ fence, neighbours, services, primary, power, emitter },
    unfinished: fence.up && earlier?.running !== undefined,
    note: (running) => {
      try {
        note(fence.program, running);
      } catch (error) {
        // A full disk must not keep the primary from being silenced.
        const message = `No record of the command: ${
          error instanceof Error ? error.message : error
        }`;
        emitter.emit("warning", { message });
      }
    },
  });
  const kept = opened.move();
  return {
    ...{ fence, fencing, primary, backup },
    remove(): void {
      fence.remove();
      removeRecord(runDir, FENCE);
    },
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/** Takes down what an earlier start put up that was killed before it told anybody: its command was required. */
function undoLeft(fence: Fence, services: readonly Service[], emitter: Emitter): void {
  fence.lower();
  const message = "An earlier start was killed while its command ran, and is undone; " +
    "if the primary has failed, ask for the fence again: t2cp fence --now";
  emitter.emit("warning", { message });
  emitter.emit("fence.released", { services: services.map(formatService) });
}

/** Opens a fence; the record goes again where none is attached. */
function openNoted(runDir: string, open: () => Fence): Fence {
  const had = readFenceRecord(runDir) !== undefined;
  try {
    return open();
  } catch (error) {
    if (!had) removeRecord(runDir, FENCE);
    throw error;
  }
}

/** Refuses to silence this host, or the backup. */
function requirePrimary(task: FenceTask, primary: string, backup: string | undefined): void {
  const own = Deno.networkInterfaces().find(({ name }) => name === task.interface)?.mac;
  if (primary !== own && primary !== backup) return;
  const who = primary === own ? "this host" : "the backup";
  throw new Failure(ExitStatus.USAGE, `"${task.primary}" is ${who}, not the primary`, {
    mend: "name the host that is to be silenced",
  });
}

/** Passes events on; those that ask for the fence pass once it is up. */
async function act(
  on: string,
  { targets, strict, power }: FenceOptions,
  fencing: Fencing,
  { input, writer, warn, stop }: FenceStreams,
): Promise<void> {
  const raise = (event: Event): object | undefined | Promise<object | undefined> => {
    if (!asksFor(event, { on, targets }) || !concerns(event, fencing.services)) return undefined;
    const fenced = fencing.fence();
    if (!(fenced instanceof Promise)) return undefined;
    return fenced.then(() => undefined, (error) => {
      if (!(error instanceof Failure)) throw error;
      return power?.required ? { ...event, fenced: false } : undefined;
    });
  };
  await passThrough(input, writer, {
    onEvent: () => {},
    replace: raise,
    ...{ warn, strict, signal: stop },
  });
}

/** Puts the program back where it is missing, and says so. */
function keepPlace(fence: Fence, emitter: Emitter): void {
  try {
    if (!fence.repair()) return;
    const message = `The program was missing at interface "${fence.interface}", and is back`;
    emitter.emit("warning", { message });
  } catch (error) {
    // The interface has gone again meanwhile; the next look sees.
    if (!(error instanceof SystemError)) throw error;
  }
}

/** Resolves once `signal` is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}

/** How often the code of the event runs before it; enough for V8 to compile it. */
const REHEARSALS = 200;

/** Goes through a made-up event that nobody hears of: code that runs for the first time takes its time. */
async function rehearse(services: readonly Service[]): Promise<void> {
  const writer = new NdjsonWriter({ write: (bytes) => Promise.resolve(bytes.length) });
  const emitter = new Emitter(FENCE, writer);
  const fence = { up: false, raise: () => true, lower: () => true };
  const time = formatTime(nowMicros());
  const line = JSON.stringify({
    ...{ v: 1, type: "failed", time, by: "detect", host: "host", target: "rehearsal" },
    ...{ level: "host", cause: "unplanned", evidence: [], last_seen: time },
  });
  const parts = { fence, neighbours: undefined, services, primary: "", power: undefined, emitter };
  const fencing = new Fencing({ ...parts, unfinished: false, note: () => {} });
  for (let i = 0; i < REHEARSALS; i++) {
    if (typeof parseEvent(line) === "object") fencing.fence();
  }
  await emitter.close();
}
