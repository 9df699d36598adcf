/**
 * One probe: when it asks, and what it makes of the answers.
 *
 * @module
 */
import { within } from "../clock.ts";
import type { Attempt, ProbeCounters } from "./attempt.ts";
import type { Rhythm } from "./spec.ts";

/** What a probe has found out. */
export type ProbeState =
  /** It has not been good yet. */
  | "waiting"
  /** The last attempt was good. */
  | "good"
  /** It was good, and the last attempts failed, fewer than `fall`. */
  | "failing"
  /** `fall` attempts in a row failed; it stays so until `rise` are good. */
  | "dead";

/** Settings of a {@linkcode Prober}. */
export interface ProberOptions {
  /** When to ask, and how to judge. */
  rhythm: Rhythm;
  /** Asks. */
  attempt: Attempt;
  /** Monotonic time, microseconds. */
  clock: () => number;
  /** Uniform random numbers, 0 <= r < 1: probes that began together need not go on together. */
  random: () => number;
  /** Called after each attempt; the timer may have moved. */
  concluded: (now: number) => void;
}

/** While a suspicion is looked into, attempts begin at least so many microseconds apart. */
const HURRY_INTERVAL = 10_000;

/** The longest that the end of an attempt is waited for when all stops, in milliseconds. */
const MAX_CLOSE = 1000;

/** What an attempt comes to that does not end although its time is up. */
const STUCK = "The attempt before has not ended yet";

/** Asks again and again. Times are microseconds of one monotonic clock. */
export class Prober {
  /** What it has counted. */
  readonly counters: ProbeCounters = {
    sent: 0,
    ok: 0,
    failed: 0,
    timeouts: 0,
    killed: 0,
    discarded_bytes: 0,
  };
  /** What it has found out. */
  state: ProbeState = "waiting";
  /** When an attempt last went well, undefined where none did. */
  lastGood: number | undefined;
  /** Why the last attempt failed, undefined where it was good. */
  reason: string | undefined;
  /** How many attempts in a row have failed. */
  failures = 0;
  readonly #options: ProberOptions;
  #successes = 0;
  #beginAt: number;
  #lastBegin = -Infinity;
  /** The attempt whose result is waited for. */
  #current: { controller: AbortController; timeoutAt: number } | undefined;
  /** The attempt that has not ended yet, whether or not its result is waited for. */
  #pending: Promise<void> | undefined;
  /** A suspicion is being looked into. */
  #hurrying = false;
  #closed = false;

  /** Begins the first attempt at the first {@linkcode Prober.tick} from `now` on. */
  constructor(options: ProberOptions, now: number) {
    this.#options = options;
    this.#beginAt = now;
  }

  /** When {@linkcode Prober.tick} has something to do. */
  nextDeadline(): number {
    if (this.#closed) return Infinity;
    return this.#current?.timeoutAt ?? this.#beginAt;
  }

  /** Ends the attempt whose time is up, and begins the next one where it is due. */
  tick(now: number): void {
    if (this.#closed) return;
    if (this.#current !== undefined && now >= this.#current.timeoutAt) {
      this.#abandon(this.#current.controller);
      this.counters.timeouts++;
      const millis = this.#options.rhythm.timeout / 1000;
      this.#conclude(`No answer within ${millis} ms`, now);
    }
    if (this.#current === undefined && now >= this.#beginAt) this.#begin(now);
  }

  /**
   * Asks at once, and after each failure again, until an attempt is good or `fall` have failed. An attempt that is under
   * way counts as the first.
   */
  hurry(now: number): void {
    if (this.state === "dead" || this.state === "waiting") return;
    this.#hurrying = true;
    this.#beginAt = Math.min(this.#beginAt, Math.max(now, this.#lastBegin + HURRY_INTERVAL));
  }

  /**
   * Says that this process did not run for `late` microseconds: the attempt under way gets them in addition, up to its
   * timeout once more.
   */
  excuse(late: number): void {
    const current = this.#current;
    if (current === undefined) return;
    const longest = this.#lastBegin + 2 * this.#options.rhythm.timeout;
    current.timeoutAt = Math.min(current.timeoutAt + late, longest);
  }

  /** Ends what is under way, and waits for its end; not for long, for a process may be beyond the reach of signals. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#current !== undefined) this.#abandon(this.#current.controller);
    if (this.#pending !== undefined) await within(this.#pending, MAX_CLOSE);
  }

  #abandon(controller: AbortController): void {
    this.#current = undefined;
    controller.abort();
  }

  #begin(now: number): void {
    const { rhythm, attempt, clock, random } = this.#options;
    // Probes that began together spread over the interval.
    const first = this.#lastBegin === -Infinity;
    this.#beginAt = now + (first ? random() : 1) * rhythm.interval;
    this.#lastBegin = now;
    this.counters.sent++;
    if (this.#pending !== undefined) {
      this.#conclude(STUCK, now);
      return;
    }
    const controller = new AbortController();
    const current = { controller, timeoutAt: now + rhythm.timeout };
    this.#current = current;
    this.#pending = attempt(controller.signal, this.counters).then((reason) => {
      this.#pending = undefined;
      if (this.#current !== current) return;
      this.#current = undefined;
      this.#conclude(reason, clock());
    });
  }

  #conclude(reason: string | undefined, now: number): void {
    const { rise, fall } = this.#options.rhythm;
    this.reason = reason;
    if (reason === undefined) {
      this.counters.ok++;
      this.#successes++;
      this.failures = 0;
      this.lastGood = now;
      this.#hurrying = false;
      if (this.state !== "dead" || this.#successes >= rise) this.state = "good";
    } else {
      this.counters.failed++;
      this.failures++;
      this.#successes = 0;
      if (this.state === "good") this.state = "failing";
      if (this.state === "failing" && this.failures >= fall) this.state = "dead";
      if (this.state === "dead") this.#hurrying = false;
      if (this.#hurrying) {
        this.#beginAt = Math.min(this.#beginAt, Math.max(now, this.#lastBegin + HURRY_INTERVAL));
      }
    }
    this.#options.concluded(now);
  }
}
