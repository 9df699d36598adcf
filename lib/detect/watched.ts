/**
 * The targets of a detector as the events show them.
 *
 * @module
 */
import { formatTime, nowMicros } from "../clock.ts";
import type { Emitter } from "../event.ts";
import type { Prober } from "../probe/prober.ts";
import { Target, type TargetReport } from "./target.ts";

/** Takes events: the output, or what stands before it. */
export type EventSink = Pick<Emitter, "emit">;

/** Settings of a {@linkcode Watched}. */
export interface WatchedOptions {
  /** What the events call it. */
  name: string;
  /** How long a failed target must be good before it has recovered, microseconds. */
  holdDown: number;
  /** Whether late signals are reported. */
  suspects: boolean;
  /** Where the events go. */
  sink: EventSink;
  /** Monotonic time, microseconds. */
  clock: () => number;
}

/** One watched host. */
export class Watched {
  /** What the events call it. */
  readonly name: string;
  /** Its signals together. */
  readonly target: Target;
  /** Its probes. */
  readonly probers: Prober[] = [];
  readonly #options: WatchedOptions;

  /** Has no signals yet. */
  constructor(options: WatchedOptions) {
    const { name, holdDown, suspects } = options;
    this.#options = options;
    this.name = name;
    this.target = new Target({ holdDown, suspects, report: (...said) => this.#report(...said) });
  }

  #report(report: TargetReport, now: number): void {
    const { sink, clock } = this.#options;
    const target = this.name;
    // The wall clock is asked once, so that equal times stay equal.
    const offset = nowMicros() - clock();
    const wall = (time: number): string => formatTime(time + offset);
    const last_seen = "lastSeen" in report && report.lastSeen !== undefined
      ? wall(report.lastSeen)
      : undefined;
    switch (report.type) {
      case "up":
        sink.emit("up", { target });
        break;
      case "suspect":
        sink.emit("suspect", { target, last_seen });
        break;
      case "failed": {
        const { level, cause, lastGood, flaps } = report;
        const evidence = this.target.signals.map((signal) => signal.evidence(wall));
        const detection_ms = lastGood === undefined ? undefined : millis(now - lastGood);
        sink.emit("failed", { target, level, cause, evidence, last_seen, detection_ms, flaps });
        break;
      }
      case "recovered": {
        const { after, since, flaps } = report;
        sink.emit("recovered", { target, after, lasted_ms: millis(now - since), flaps });
        break;
      }
    }
  }
}

/** Microseconds as milliseconds, to three digits. */
export function millis(micros: number): number {
  return Math.round(micros) / 1000;
}
