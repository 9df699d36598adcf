/**
 * `replay --heal`: passes every event on, and heals the flows of the shadow on this host.
 *
 * @module
 */
import { join } from "node:path";
import { monotonicMicros, threadMicros } from "../../ffi/clock.ts";
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { Injector } from "../../ffi/libpcap.ts";
import { PacketSocket } from "../../ffi/packet_socket.ts";
import { runRealtime } from "../../ffi/scheduler.ts";
import { pause } from "../clock.ts";
import { requireSocketPath, serveControl } from "../control.ts";
import { type Emitter, type Event, isEvent } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { MARK_INJECTED, Mode, modeName } from "../flow/layout.ts";
import { mtuOf } from "../host/links.ts";
import type { NdjsonWriter } from "../ndjson.ts";
import { passThrough } from "../pipeline.ts";
import { StatsTimer } from "../program/events.ts";
import { openPinnedMaps } from "../program/instance.ts";
import {
  HEALER,
  type InstanceRecord,
  makeRunDir,
  readRecord,
  takeLock,
} from "../program/run_dir.ts";
import { Control, shadowKind } from "../shadow/programs.ts";
import { Healer } from "./healer.ts";
import { Injection } from "./injection.ts";
import { KernelGaps } from "./kernel_gaps.ts";
import { connectTo, RecorderClient } from "./recorder_client.ts";
import { rehearse } from "./rehearsal.ts";

/** Settings of {@linkcode runHeal}. */
export interface HealOptions {
  /** The shadow's run directory. */
  runDir: string;
  /** The recorder's socket. */
  recorder: string;
  /** End at the first input line that is no event. */
  strict: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
}

/** What {@linkcode runHeal} gets from its process. */
export interface HealStreams {
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

/** Between two attempts to find the shadow, in milliseconds. */
const FIND = 50;
/** How long the input may still go on after a stop signal: those before in the pipe have got it too. In milliseconds. */
const LAST_LINES = 1000;
/** How long a healing may still take after the end of the input, in milliseconds. */
const LAST_HEALINGS = 2000;
/** How long the recorder may take for the last acknowledgements, in milliseconds. */
const LAST_ACKNOWLEDGEMENTS = 500;

/**
 * Runs until `stop` is aborted, or to the end of the input and of what is being healed then.
 *
 * @throws {Failure} with status UNAVAILABLE where bytes were lost for good, or no shadow was started
 */
export async function runHeal(options: HealOptions, streams: HealStreams): Promise<void> {
  const { runDir } = options;
  requireSocketPath(join(runDir, `${HEALER}.sock`));
  requireSocketPath(options.recorder);
  makeRunDir(runDir);
  using _lock = takeLock(runDir, HEALER);
  const reading = new AbortController();
  let healer: Healer | undefined;
  let ended = false;
  const passing = passThrough(streams.input, streams.writer, {
    onEvent: (event) => act(healer, event),
    warn: streams.warn,
    strict: options.strict,
    signal: reading.signal,
  }).finally(() => ended = true);
  // Whoever waits for it below hears of its failure.
  passing.catch(() => {});
  const stopReading = (): void => void setTimeout(() => reading.abort(), LAST_LINES).unref();
  streams.stop.addEventListener("abort", stopReading, { once: true });
  try {
    const shadow = await findShadow(runDir, () => ended || streams.stop.aborted);
    if (shadow === undefined) {
      await passing;
      if (streams.stop.aborted) return;
      throw noShadow(runDir);
    }
    await using work = await begin(options, shadow, streams.emitter);
    healer = work.healer;
    await heal(work, streams.stop, () => ended);
    healer = undefined;
    await work.healer.stop(LAST_ACKNOWLEDGEMENTS);
    await passing;
    work.stats.emit();
    requireNothingLost(work.healer);
  } finally {
    reading.abort();
    streams.stop.removeEventListener("abort", stopReading);
    await passing.catch(() => {});
  }
}

function act(healer: Healer | undefined, event: Event): void {
  if (isEvent(event, "gap")) healer?.onGap(event);
  else if (isEvent(event, "lag")) healer?.onLag(event);
}

/** The shadow's maps and record. */
interface Shadow {
  record: InstanceRecord;
  maps: Map<string, BpfMap>;
}

/** Waits for the shadow, which may just be starting; undefined where `given` says that there will be none. */
async function findShadow(runDir: string, given: () => boolean): Promise<Shadow | undefined> {
  while (true) {
    const last = given();
    const record = readRecord(runDir, shadowKind.name);
    const maps = record === undefined ? undefined : openPinnedMaps(shadowKind, runDir);
    if (record !== undefined && maps !== undefined) return { record, maps };
    if (last) return undefined;
    await pause(FIND);
  }
}

function noShadow(runDir: string): Failure {
  return new Failure(
    ExitStatus.UNAVAILABLE,
    `No shadow was started in run directory "${runDir}"`,
    { mend: "start t2cp shadow in front of it, or name its directory with --run-dir" },
  );
}

/** What runs. */
interface Work extends AsyncDisposable {
  healer: Healer;
  gaps: KernelGaps;
  control: Control;
  stats: StatsTimer;
}

async function begin(options: HealOptions, shadow: Shadow, emitter: Emitter): Promise<Work> {
  const { record, maps } = shadow;
  await using opened = new AsyncDisposableStack();
  for (const map of maps.values()) opened.use(map);
  const control = opened.use(new Control(maps.get("control")!));
  const inward = opened.use(new Injector(record.interface, MARK_INJECTED));
  const large = opened.use(new PacketSocket(record.interface, MARK_INJECTED));
  const [recorder, clerk] = [0, 1].map(() =>
    opened.use(new RecorderClient(connectTo(options.recorder)))
  ) as [RecorderClient, RecorderClient];
  const healer = new Healer({
    flows: maps.get("flows")!,
    control,
    injection: new Injection(inward, mtuOf(record.interface), large),
    recorder,
    clerk,
    emitter,
    now: () => performance.now(),
    nowNanos: () => monotonicMicros() * 1000,
    busyMillis: () => threadMicros() / 1000,
  });
  const gaps = opened.use(new KernelGaps(maps.get("gaps")!, (gap) => healer.onKernelGap(gap)));
  warnOfRecorder(recorder, options.recorder, emitter);
  const stats = new StatsTimer(emitter, () => healer.stats(), options.stats);
  opened.use(
    await serveControl(join(options.runDir, `${HEALER}.sock`), {
      *flows() {
        for (const flow of healer.flows()) yield { flow };
      },
      *stats() {
        yield { stats: healer.stats() };
      },
    }),
  );
  await rehearse();
  emitter.emit("started", {
    ...record,
    recorder: options.recorder,
    mode: modeName(control.mode),
    // A replica that is healed late is late for the takeover.
    realtime: runRealtime(),
  });
  const kept = opened.move();
  return { healer, gaps, control, stats, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Says once that the recorder cannot be reached, and again only after it was. */
function warnOfRecorder(recorder: RecorderClient, path: string, emitter: Emitter): void {
  let warned = false;
  recorder.onChange = (connected, why) => {
    if (!connected && !warned) {
      const message = `The recorder at "${path}" cannot be reached, and is tried again: ${why}`;
      emitter.emit("warning", { message });
    }
    warned = !connected;
  };
}

/** Looks again and again, until it should end. */
async function heal(work: Work, stop: AbortSignal, ended: () => boolean): Promise<void> {
  const { healer, gaps, control, stats } = work;
  let until = Infinity;
  while (!stop.aborted) {
    healer.tick();
    gaps.requireRunning();
    stats.tick();
    if (ended()) {
      if (until === Infinity) until = performance.now() + LAST_HEALINGS;
      // After the takeover there is nobody else to do it.
      const needed = healer.working > 0 && performance.now() < until ||
        control.mode === Mode.SETTLING && healer.count > 0;
      if (!needed) return;
    }
    await pause(healer.pause, stop);
  }
}

function requireNothingLost({ lostBytes }: Healer): void {
  if (lostBytes === 0) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `${lostBytes} bytes of the clients are lost for the replicas`,
    { mend: `the "flow.unprotected" events say of which flows, and why` },
  );
}
