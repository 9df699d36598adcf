/**
 * What a takeover knows of the fences in front of it: which services they guard, and which they have fenced.
 *
 * @module
 */
import type { Event } from "../event.ts";
import { servicesIn } from "./trigger.ts";

/** For which services a takeover waits: those of fences that have shown themselves, all, or none. */
export type FenceRule = "auto" | "require" | "none";

/** Reads the events of fences. Times are in milliseconds of one monotonic clock. */
export class Fences {
  readonly #rule: FenceRule;
  readonly #timeout: number;
  readonly #ready = new Set<string>();
  readonly #fenced = new Map<string, number>();

  /** An event `fenced` counts for `timeout` milliseconds. */
  constructor(rule: FenceRule, timeout: number) {
    this.#rule = rule;
    this.#timeout = timeout;
  }

  /** Takes note of an event that has come at `now`. */
  take(event: Event, now: number): void {
    if (this.#rule === "none") return;
    if (event.type === "fence.ready") {
      for (const service of servicesIn(event["services"])) this.#ready.add(service);
    } else if (event.type === "fenced") {
      for (const service of servicesIn(event["services"])) this.#fenced.set(service, now);
    } else if (event.type === "fence.released") {
      for (const service of servicesIn(event["services"])) this.#fenced.delete(service);
    }
  }

  /** The services among `services` that are still to be fenced at `now`. */
  missing(services: readonly string[], now: number): string[] {
    if (this.#rule === "none") return [];
    const waited = this.#rule === "require"
      ? services
      : services.filter((service) => this.#ready.has(service));
    return waited.filter((service) => {
      const fenced = this.#fenced.get(service);
      return fenced === undefined || now - fenced > this.#timeout;
    });
  }
}
