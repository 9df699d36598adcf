/**
 * What the end of a process means for the service.
 *
 * @module
 */
import { monotonicMicros } from "../../ffi/clock.ts";
import { formatTime, nowMicros } from "../clock.ts";
import { Emitter } from "../event.ts";
import { NdjsonWriter } from "../ndjson.ts";
import type { GuardEvent } from "./layout.ts";
import { describeExit, isCrash } from "./processes.ts";

/** What the death of a process means that is no main process: the service has failed, or its flows are let go. */
export type OnWorker = "fail" | "release";

/**
 * How long the flows of a dead worker wait for the main process to die as well, in milliseconds: who kills a whole
 * service does not do it at one stroke.
 */
const GRACE = 50;
/** Ends of processes that are remembered, so that each is told once. */
const MAX_REMEMBERED = 1024;

/** The main processes, as far as a verdict asks. */
export interface Mains {
  /** Whether the user has named any. */
  readonly named: boolean;
  /** Whether all of them live. */
  readonly complete: boolean;
  /** Forgets one that has ended; false where it is none. */
  remove(pid: number): boolean;
  /** The numbers of those that live. */
  readonly pids: readonly number[];
}

/** Settings of a {@linkcode Verdict}. */
export interface VerdictOptions {
  /** The name by which `failed` calls this host. */
  readonly target: string;
  /** What the death of a process means that is no main process. */
  readonly onWorker: OnWorker;
}

/** Takes what the programs report, and emits `failed`, `recovered` and `process.exit`. */
export class Verdict {
  readonly #options: VerdictOptions;
  readonly #mains: Mains;
  readonly #emitter: Emitter;
  readonly #waiting: { event: GuardEvent; until: number }[] = [];
  /** When processes started to be told of, by number: the same number comes again only much later. */
  readonly #told = new Set<number>();
  #failed = false;

  /** Asks `mains`, and reports to `emitter`. */
  constructor(options: VerdictOptions, mains: Mains, emitter: Emitter) {
    this.#options = options;
    this.#mains = mains;
    this.#emitter = emitter;
  }

  /** Whether `failed` has been said, and `recovered` not since. */
  get failed(): boolean {
    return this.#failed;
  }

  /** In how many milliseconds {@linkcode Verdict.tick} has something to do. */
  due(now: number = performance.now()): number {
    const first = this.#waiting[0];
    return first === undefined ? Infinity : Math.max(0, first.until - now);
  }

  /** Takes a record of the programs. */
  take(event: GuardEvent, now: number = performance.now()): void {
    if (event.type === "listen") {
      this.#told.clear();
      return;
    }
    const main = this.#mains.pids.includes(event.pid);
    if (event.type === "exit") this.#mains.remove(event.pid);
    if (this.#told.has(event.pid)) return;
    if (!isCrash(event.exitCode)) {
      this.#tell(event, main);
    } else if (main || this.#options.onWorker === "fail" || !this.#mains.complete) {
      this.#fail(event, main);
    } else {
      this.#waiting.push({ event, until: now + GRACE });
    }
  }

  /** Takes the end of main process `pid` of which the programs have not told. */
  lost(pid: number): void {
    this.#mains.remove(pid);
    if (this.#told.has(pid)) return;
    const ns = monotonicMicros() * 1000;
    this.#fail({ type: "exit", pid, ns, exitCode: -1, name: "" }, true);
  }

  /** Decides about the workers whose time has come. Returns the processes whose flows are to be let go. */
  tick(now: number = performance.now()): number[] {
    const released: number[] = [];
    while (this.#waiting.length > 0) {
      const { event, until } = this.#waiting[0]!;
      if (this.#mains.complete && now < until) break;
      this.#waiting.shift();
      if (this.#mains.complete) {
        this.#tell(event, false);
        released.push(event.pid);
      } else {
        this.#fail(event, false);
      }
    }
    return released;
  }

  /** The service works again. */
  recover(): void {
    if (!this.#failed) return;
    this.#failed = false;
    this.#emitter.emit("recovered", { target: this.#options.target });
  }

  #fail(event: GuardEvent, main: boolean): void {
    if (!this.#failed) {
      this.#failed = true;
      const last = timeOf(event);
      const { target } = this.#options;
      this.#emitter.emit("failed", {
        target,
        level: "application",
        cause: "unplanned",
        evidence: [{
          signal: event.type === "crash" ? "socket" : "process",
          last,
          ...describe(event),
        }],
        last_seen: last,
      });
    }
    this.#tell(event, main);
  }

  #tell(event: GuardEvent, main: boolean): void {
    if (this.#told.size >= MAX_REMEMBERED) this.#told.clear();
    this.#told.add(event.pid);
    const crashed = isCrash(event.exitCode);
    this.#emitter.emit("process.exit", {
      time: timeOf(event),
      ...describe(event),
      main,
      crashed,
    });
  }
}

/** How often {@linkcode rehearse} goes through a failure. */
const REHEARSALS = 50;

/** Goes through failures that nobody hears of: code that runs for the first time takes its time. */
export async function rehearse(options: VerdictOptions): Promise<void> {
  const writer = new NdjsonWriter({ write: (bytes) => Promise.resolve(bytes.length) });
  const emitter = new Emitter("guard", writer);
  const mains: Mains = { named: false, complete: true, pids: [], remove: () => false };
  for (let pid = 1; pid <= REHEARSALS; pid++) {
    const verdict = new Verdict({ ...options, onWorker: "fail" }, mains, emitter);
    verdict.take({ type: "crash", pid, ns: monotonicMicros() * 1000, exitCode: 9, name: "" });
    verdict.tick();
  }
  await emitter.close();
}

/** The wall-clock time of an event. */
function timeOf(event: GuardEvent): string {
  return formatTime(nowMicros() - monotonicMicros() + event.ns / 1000);
}

function describe(event: GuardEvent): { pid: number; name: string; ended: string } {
  const { pid, name, exitCode } = event;
  return { pid, name, ended: exitCode < 0 ? "unknown" : describeExit(exitCode) };
}
