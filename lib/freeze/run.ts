/**
 * `freeze`: waits for the event, freezes or thaws, and keeps the lease.
 *
 * @module
 */
import { runOrdinary, runRealtime } from "../../ffi/scheduler.ts";
import { pause } from "../clock.ts";
import type { Emitter, Event } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { Mode, modeName } from "../flow/layout.ts";
import type { NdjsonWriter } from "../ndjson.ts";
import { passThrough, rehearseEvents } from "../pipeline.ts";
import { Freezer, RENEWAL } from "./freezer.ts";
import { concerns } from "../takeover/trigger.ts";
import type { Selection } from "./selection.ts";
import { StopWatch } from "./watch.ts";

/** Settings of {@linkcode runFreeze}. */
export interface FreezeOptions {
  /** The shadow's run directory. */
  runDir: string;
  /** The type of the event that asks for it; undefined asks at once, and reads no input. */
  on: string | undefined;
  /** Names of targets whose events count; all unless there are any. */
  targets: readonly string[];
  /** Thaw rather than freeze. */
  thaw: boolean;
  /** For how long at most, in milliseconds. */
  lease: number;
  /** Which flows. */
  selection: Selection;
  /** Acknowledge only what the primary has acknowledged. */
  revocable: boolean;
  /** End at the first input line that is no event. */
  strict: boolean;
}

/** What {@linkcode runFreeze} gets from its process. */
export interface FreezeStreams {
  /** Events, one a line. */
  input: ReadableStream<Uint8Array>;
  /** Takes the lines that pass through. */
  writer: NdjsonWriter;
  /** Takes this command's own events. */
  emitter: Emitter;
  /** Told about input lines that are no events. */
  warn: (message: string) => void;
  /** Aborted when the command should end, even where flows are frozen. */
  interrupted: AbortSignal;
}

/** How long an event has to pass on before it is acted on, in milliseconds. */
const PASSING = 20;
/** How long the clients are watched, in milliseconds, and how often. */
const WATCH = 250;
const LOOK = 25;

/**
 * Runs to the end of the input, and to the end of the freeze.
 *
 * @throws {Failure} where no shadow was started, or without events where nothing can be frozen
 */
export async function runFreeze(options: FreezeOptions, streams: FreezeStreams): Promise<void> {
  using work = new Work(options, streams);
  rehearseEvents();
  streams.emitter.emit("started", {
    interface: work.freezer.interface,
    services: work.freezer.services,
    mode: modeName(work.freezer.mode),
    thaw: options.thaw,
    // What passes through must not wait for a processor, or the takeover would.
    realtime: runRealtime(),
    ...(options.on === undefined ? {} : { on: options.on }),
  });
  if (options.on === undefined) {
    await work.act();
  } else {
    await passThrough(streams.input, streams.writer, {
      onEvent: (event) => work.onEvent(event),
      warn: streams.warn,
      strict: options.strict,
      // A reader of the output that has gone must not keep the clients frozen, nor from being so.
      signal: streams.interrupted,
    });
  }
  await work.idle();
}

/** What is done at the events. */
class Work implements Disposable {
  freezer: Freezer;
  readonly #options: FreezeOptions;
  readonly #streams: FreezeStreams;
  #running: Promise<void> | undefined;
  #recovered = new AbortController();

  constructor(options: FreezeOptions, streams: FreezeStreams) {
    this.#options = options;
    this.#streams = streams;
    this.freezer = Freezer.prepare(options.runDir);
  }

  /** Acts on what the event says. */
  onEvent(event: Event): void {
    const { on, targets } = this.#options;
    const { target } = event;
    // What names none is about the service: active.
    if (targets.length > 0 && target !== undefined && !targets.includes(target as string)) return;
    if (event.type === "recovered") this.#recovered.abort();
    if (event.type !== on || this.#running !== undefined) return;
    if (!concerns(event, this.freezer.services)) return;
    this.#recovered = new AbortController();
    this.#running = this.act().catch((error) => {
      // A pipeline that ends here would not take over.
      const message = error instanceof Failure ? error.line : String(error);
      this.#streams.emitter.emit("warning", { message });
    }).finally(() => this.#running = undefined);
  }

  /** Freezes or thaws, to its end. */
  async act(): Promise<void> {
    const trigger = performance.now();
    if (this.#options.on !== undefined) await this.#letPass();
    if (!this.freezer.isCurrent()) {
      // The shadow was cleared and started anew since.
      const next = Freezer.prepare(this.#options.runDir);
      this.freezer[Symbol.dispose]();
      this.freezer = next;
    }
    if (this.#options.thaw) await this.#thaw(this.#options.on ?? "asked");
    else await this.#freeze(trigger);
  }

  /** Those who act on the event come first, unless they do not read. */
  async #letPass(): Promise<void> {
    const late = new AbortController();
    const passed = this.#streams.writer.flush().catch(() => {}).finally(() => late.abort());
    await Promise.race([passed, pause(PASSING, late.signal)]);
  }

  /** Waits for what is under way. */
  async idle(): Promise<void> {
    await this.#running;
  }

  [Symbol.dispose](): void {
    this.freezer[Symbol.dispose]();
  }

  async #freeze(trigger: number): Promise<void> {
    const { lease, on } = this.#options;
    const { emitter, interrupted } = this.#streams;
    await this.freezer.whenFree(interrupted);
    const flows = this.freezer.freeze(this.#options);
    const took = Math.round((performance.now() - trigger) * 1000) / 1000;
    // From here on the servers need the processors more.
    runOrdinary();
    if (this.freezer.mode !== Mode.SHADOW && on === undefined) {
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        "This host has taken over; there is nothing to freeze",
        {
          mend: "freeze before a takeover, not after it",
        },
      );
    }
    const end = AbortSignal.any([interrupted, this.#recovered.signal]);
    emitter.emit("frozen", { flows, lease_ms: lease, took_ms: took });
    this.#reportUnsent();
    if (flows > 0) await this.#watch(flows, end);
    while (flows > 0 && !end.aborted && this.freezer.renew()) await pause(RENEWAL, end);
    // Who has taken over, or thawed them, has told the clients.
    if (flows === 0 || this.freezer.mode !== Mode.SHADOW || this.freezer.isThawed) return;
    if (interrupted.aborted) await this.#thaw("stopped");
    else if (end.aborted) await this.#thaw("recovered");
    else await this.#thaw("lease");
  }

  /** Tells how many clients obey, unless the freeze is over before that shows. */
  async #watch(flows: number, end: AbortSignal): Promise<void> {
    const watch = new StopWatch();
    const start = performance.now();
    while (this.freezer.renew() && !end.aborted) {
      const now = performance.now();
      watch.look(this.freezer.frozen(), now);
      if (now - start >= WATCH) {
        const stopped = watch.stopped(now);
        return this.#streams.emitter.emit("frozen.stopped", { flows, stopped });
      }
      await pause(LOOK, end);
    }
  }

  async #thaw(reason: string): Promise<void> {
    const { flows, done } = this.freezer.thaw(this.#options.selection);
    this.#streams.emitter.emit("thawed", { flows, reason });
    await done;
    this.#reportUnsent();
  }

  #reportUnsent(): void {
    const { unsent } = this.freezer;
    if (unsent === 0) return;
    this.freezer.unsent = 0;
    const message = `${unsent} frames could not be sent on "${this.freezer.interface}"`;
    this.#streams.emitter.emit("warning", { message });
  }
}
