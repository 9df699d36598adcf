/**
 * What all signals of one target come to together: up, suspect, failed, recovered.
 *
 * The target has failed as soon as one signal says so, and has recovered once all of them have been good for the
 * hold-down. That is right under the fail-stop assumption: what is not heard does not work either.
 *
 * @module
 */
import type { Evidence } from "../vocabulary/detector.ts";

/** One source of knowledge about a target: a BFD session or a probe. */
export interface Signal {
  /** What it speaks of: the host's heartbeat, or the application. */
  readonly level: "host" | "application";
  /** `unknown` until it was good once; such a signal counts for nothing. */
  readonly health: "unknown" | "good" | "late" | "bad";
  /** Whether someone announced that it goes bad. */
  readonly planned: boolean;
  /** When it was last good, microseconds of the detector's clock; undefined where it never was. */
  readonly lastGood: number | undefined;
  /** What the events say of it; `wall` makes an event's time of the detector's. */
  evidence(wall: (time: number) => string): Evidence;
}

/** What there is to say. Times are those of the detector's clock, microseconds. */
export type TargetReport =
  /** The first signal is good for the first time. */
  | { type: "up" }
  /** A signal is late; none is bad. */
  | { type: "suspect"; lastSeen: number | undefined }
  /** A signal is bad. A second report of one failure says that the host has failed, not the application alone. */
  | {
    type: "failed";
    level: "host" | "application";
    cause: "planned" | "unplanned";
    lastSeen: number | undefined;
    /** When the signal that decided was last good. */
    lastGood: number | undefined;
    flaps: number;
  }
  /** All signals are good again, after one was late or bad since `since`. */
  | { type: "recovered"; after: "suspect" | "failed"; since: number; flaps: number };

/** Settings of a {@linkcode Target}. */
export interface TargetOptions {
  /** How long all signals must have been good before a failed target has recovered, microseconds. */
  holdDown: number;
  /** Whether late signals are reported. */
  suspects: boolean;
  /** Told what there is to say. */
  report: (report: TargetReport, now: number) => void;
}

/** One target. Times are microseconds of one monotonic clock. */
export class Target {
  /** Its signals; add them before the first {@linkcode Target.update}. */
  readonly signals: Signal[] = [];
  /** How often it failed although all its signals had been good again since it failed before. */
  flaps = 0;
  readonly #options: TargetOptions;
  #state: "waiting" | "up" | "suspect" | "failed" = "waiting";
  /** When the state began. */
  #since = 0;
  /** While failed: at which level, and since when all signals are good. */
  #level: "host" | "application" = "application";
  #goodSince: number | undefined;
  #hasFailed = false;

  /** Knows nothing yet. */
  constructor(options: TargetOptions) {
    this.#options = options;
  }

  /** What was reported last. */
  get state(): "waiting" | "up" | "suspect" | "failed" {
    return this.#state;
  }

  /** When {@linkcode Target.tick} has something to do. */
  nextDeadline(): number {
    return this.#goodSince === undefined ? Infinity : this.#goodSince + this.#options.holdDown;
  }

  /** Says that the hold-down has passed, where it has. */
  tick(now: number): void {
    if (now >= this.nextDeadline()) this.#recover(now);
  }

  /** Looks at all signals again, after one has changed. */
  update(now: number): void {
    if (this.#state === "waiting") {
      if (!this.signals.some(({ health }) => health !== "unknown")) return;
      this.#enter("up", now);
      this.#options.report({ type: "up" }, now);
    }
    const bad = this.signals.filter(({ health }) => health === "bad");
    if (bad.length > 0) this.#fail(bad, now);
    else if (this.#state !== "failed") this.#watch(now);
    else if (this.signals.some(({ health }) => health === "late")) this.#goodSince = undefined;
    else {
      this.#goodSince ??= now;
      this.tick(now);
    }
  }

  /** No failure is ever held back. */
  #fail(bad: readonly Signal[], now: number): void {
    const host = bad.find(({ level }) => level === "host");
    const decided = host ?? bad[0]!;
    if (this.#state === "failed") {
      if (this.#goodSince !== undefined) this.flaps++;
      this.#goodSince = undefined;
      if (host === undefined || this.#level === "host") return;
    } else {
      if (this.#hasFailed) this.flaps++;
      this.#hasFailed = true;
      this.#enter("failed", now);
    }
    this.#level = decided.level;
    this.#options.report({
      type: "failed",
      level: decided.level,
      cause: decided.planned ? "planned" : "unplanned",
      lastSeen: this.#lastSeen(),
      lastGood: decided.lastGood,
      flaps: this.flaps,
    }, now);
  }

  #watch(now: number): void {
    const late = this.signals.some(({ health }) => health === "late");
    if (late && this.#state === "up" && this.#options.suspects) {
      this.#enter("suspect", now);
      this.#options.report({ type: "suspect", lastSeen: this.#lastSeen() }, now);
    } else if (!late && this.#state === "suspect") {
      this.#recover(now);
    }
  }

  #recover(now: number): void {
    const after = this.#state === "suspect" ? "suspect" : "failed";
    const since = this.#since;
    this.#goodSince = undefined;
    this.#enter("up", now);
    this.#options.report({ type: "recovered", after, since, flaps: this.flaps }, now);
  }

  #enter(state: "up" | "suspect" | "failed", now: number): void {
    this.#state = state;
    this.#since = now;
  }

  #lastSeen(): number | undefined {
    const times = this.signals.flatMap(({ lastGood }) => lastGood ?? []);
    return times.length === 0 ? undefined : Math.max(...times);
  }
}
