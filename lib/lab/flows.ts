/**
 * What the flows of one client did: their common progress, and each one's waits and end.
 *
 * @module
 */

import { maximum, Progress, quantile, toMillis } from "./measure.ts";
import type { Arrival, FlowEnd, Report } from "./program/protocol.ts";

/** How a set of durations is spread, in milliseconds; null where there are none. */
export interface Spread {
  /** The median. */
  p50: number | null;
  /** The 99th percentile. */
  p99: number | null;
  /** The longest. */
  max: number | null;
}

/** How durations in microseconds are spread. */
export function spread(durations: readonly number[]): Spread {
  const millis = (value: number | null) => toMillis(value ?? undefined);
  return {
    p50: millis(quantile(durations, 0.5)),
    p99: millis(quantile(durations, 0.99)),
    max: millis(maximum(durations)),
  };
}

/** Gathers what a client program reports. */
export class Flows {
  /** Every arrival of any flow. */
  readonly progress: Progress = new Progress();
  readonly #arrivals: Arrival[] = [];
  readonly #ends: FlowEnd[] = [];

  /** Takes in the next report; arrivals come in order of time. */
  take(report: Report): void {
    if ("ended" in report) {
      this.#ends.push(report);
      return;
    }
    this.progress.add(report.time, report.bytes);
    this.#arrivals.push(report);
  }

  /** How many flows have ended, rightly or not. */
  get ended(): number {
    return this.#ends.length;
  }

  /** How many of them had a problem. */
  get failures(): number {
    return this.#ends.filter(({ problem }) => problem !== undefined).length;
  }

  /** Undefined, or how many flows had a problem, and what the first one's was. */
  problem(): string | undefined {
    const first = this.#ends.find(({ problem }) => problem !== undefined);
    if (first === undefined) return undefined;
    return `${this.failures} of ${this.ended} flows failed, flow ${first.flow}: ${first.problem}`;
  }

  /** How long each flow took from its connect to its end, in microseconds. */
  durations(): number[] {
    return this.#ends.map(({ begun, ended }) => ended - begun);
  }

  /** How long each arrival was waited for since it was asked for, in microseconds. */
  latencies(): number[] {
    return this.#arrivals.flatMap(({ time, asked }) => asked === undefined ? [] : [time - asked]);
  }

  /**
   * For each flow with an arrival at or after `trigger`: how long it waited for the first one, in
   * microseconds, since the trigger, or since it asked where it did so later.
   */
  waits(trigger: number): number[] {
    const waits = new Map<number, number>();
    for (const { flow, time, asked } of this.#arrivals) {
      if (time < trigger || waits.has(flow)) continue;
      waits.set(flow, time - Math.max(trigger, asked ?? trigger));
    }
    return [...waits.values()];
  }
}
