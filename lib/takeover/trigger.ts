/**
 * Which events ask for a takeover, and when they came.
 *
 * @module
 */
import { formatService, parseService } from "../address.ts";
import { nowMicros } from "../clock.ts";
import type { Event } from "../event.ts";

/** The moment at which a takeover was asked for, and what has been done since. */
export interface Trigger {
  /** In microseconds since the epoch. */
  micros: number;
  /** In milliseconds of `performance.now()`. */
  start: number;
  /** When each step ended, in milliseconds since the trigger, by the step's name. */
  steps: Record<string, number>;
}

/** A trigger just now. */
export function triggerNow(): Trigger {
  return { micros: nowMicros(), start: performance.now(), steps: {} };
}

/** Milliseconds since the trigger, with three digits of fraction. */
export function sinceTrigger({ start }: Trigger): number {
  return Math.round((performance.now() - start) * 1000) / 1000;
}

/** Which events ask for a takeover. */
export interface Wanted {
  /** Their type. */
  on: string;
  /** The targets of which one must be named; none for any event. */
  targets: readonly string[];
}

/** Whether `event` asks for a takeover, of whatever services. */
export function asksFor(event: Event, { on, targets }: Wanted): boolean {
  return event.type === on &&
    (targets.length === 0 || targets.includes(event["target"] as string));
}

/** Whether `event` is about one of `services`; one that names none is about all. */
export function concerns(event: Event, services: readonly string[]): boolean {
  const named = [event["services"], event["server"]].filter((field) => field !== undefined);
  return named.length === 0 || servicesIn(named.flat()).some((name) => services.includes(name));
}

/** The services that `field`, of whatever an event has there, names, as {@linkcode formatService} writes them. */
export function servicesIn(field: unknown): string[] {
  if (!Array.isArray(field)) return [];
  return field.flatMap((text) => {
    try {
      return [formatService(parseService(String(text)))];
    } catch {
      return [];
    }
  });
}
