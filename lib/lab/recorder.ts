/**
 * Where a scenario's events go: its own, and those of the commands that run in the lab.
 *
 * @module
 */

import { formatTime, nowMicros } from "../clock.ts";
import { Emitter, type EventFields, type EventType } from "../event.ts";
import type { NdjsonWriter } from "../ndjson.ts";

/** Writes each event to several writers. */
export class Recorder {
  readonly #writers: readonly NdjsonWriter[];
  readonly #emitters: readonly Emitter[];

  /** Writes to all of `writers`. */
  constructor(writers: readonly NdjsonWriter[]) {
    this.#writers = writers;
    this.#emitters = writers.map((writer) => new Emitter("lab", writer));
  }

  /** Passes on a line of another command. */
  raw(line: string): void {
    for (const writer of this.#writers) writer.raw(line);
  }

  /** Writes an event of the lab, of now unless `fields` has a time. */
  emit<T extends EventType>(
    type: T,
    fields: EventFields[T] & { time?: string } & Record<string, unknown>,
  ): void {
    const time = fields.time ?? formatTime(nowMicros());
    for (const emitter of this.#emitters) emitter.emit(type, Object.assign({}, fields, { time }));
  }
}
