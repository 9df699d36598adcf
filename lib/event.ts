/**
 * Events: what the commands tell each other and the user, one JSON object a line. Which types
 * there are is said in `lib/vocabulary/`, a file for each subject; `t2cp schema` prints it.
 *
 * @module
 */
import * as v from "valibot";
import { formatTime, nowMicros } from "./clock.ts";
import { instant, text } from "./field.ts";
import type { NdjsonWriter } from "./ndjson.ts";
import { type AnalyseEvents, analyseEvents } from "./vocabulary/analyse.ts";
import { type ClaimEvents, claimEvents } from "./vocabulary/claim.ts";
import { type CommandEvents, commandEvents } from "./vocabulary/command.ts";
import type { Descriptions } from "./vocabulary/description.ts";
import { type DetectorEvents, detectorEvents } from "./vocabulary/detector.ts";
import { type FenceEvents, fenceEvents } from "./vocabulary/fence.ts";
import { type FlowEvents, flowEvents } from "./vocabulary/flow.ts";
import { type LabEvents, labEvents } from "./vocabulary/lab.ts";
import { type ReplayEvents, replayEvents } from "./vocabulary/replay.ts";
import { type TakeoverEvents, takeoverEvents } from "./vocabulary/takeover.ts";

/** What every event has. Unknown types and fields pass through every command untouched. */
export interface Event {
  /** Version of the vocabulary. */
  v: 1;
  /** Name of the event's type, one of `EventType` or a later one. */
  type: string;
  /** When it happened: RFC 3339, UTC, microseconds. */
  time: string;
  /** The command that says so: `shadow`, `lab`. */
  by: string;
  /** Name of the host that it runs on. */
  host: string;
  /** A field of the type, or one that this version does not know. */
  [field: string]: unknown;
}

/** The known types and the fields of each. */
export interface EventFields
  extends
    CommandEvents,
    DetectorEvents,
    FenceEvents,
    FlowEvents,
    TakeoverEvents,
    ClaimEvents,
    AnalyseEvents,
    ReplayEvents,
    LabEvents {}

/** The types that this version knows. */
export type EventType = keyof EventFields;

/** An event of the known type `T`. */
export type EventOf<T extends EventType> = Event & { type: T } & EventFields[T];

/** Every known type: its meaning and its fields. */
export const vocabulary: Descriptions<EventFields> = {
  ...commandEvents,
  ...detectorEvents,
  ...fenceEvents,
  ...takeoverEvents,
  ...claimEvents,
  ...flowEvents,
  ...analyseEvents,
  ...replayEvents,
  ...labEvents,
};

/**
 * The fields that every event has.
 *
 * @ignore
 */
export const commonFields: v.ObjectEntries = {
  v: v.pipe(v.literal(1), v.description("Version of the vocabulary")),
  type: text("Name of the event's type"),
  time: instant("When it happened: RFC 3339, UTC, microseconds"),
  by: text("The command that says so"),
  host: text("Name of the host that the command runs on"),
};

const commonSchema = v.looseObject(commonFields);
const typeSchemas = new Map<string, v.GenericSchema>();

function schemaOf(type: string): v.GenericSchema | undefined {
  if (!Object.hasOwn(vocabulary, type)) return undefined;
  let schema = typeSchemas.get(type);
  if (schema === undefined) {
    schema = v.looseObject(vocabulary[type as EventType].fields);
    typeSchemas.set(type, schema);
  }
  return schema;
}

/**
 * Reads one line. The result is the event, known type or not, with all its fields; or, as a
 * string, the reason why the line is none: `it is not JSON`.
 */
export function parseEvent(line: string): Event | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return "it is not JSON";
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return "it is not a JSON object";
  }
  const common = v.safeParse(commonSchema, value, { abortEarly: true });
  if (!common.success) return reason(common.issues[0]);
  const event = value as Event;
  const schema = schemaOf(event.type);
  if (schema !== undefined) {
    const own = v.safeParse(schema, value, { abortEarly: true });
    if (!own.success) return `${reason(own.issues[0])} in event "${event.type}"`;
  }
  return event;
}

function reason(issue: v.BaseIssue<unknown>): string {
  const field = `field "${v.getDotPath(issue) ?? ""}"`;
  if (issue.input === undefined) return `${field} is missing`;
  const got = JSON.stringify(issue.input);
  const shown = got.length > 60 ? `${got.slice(0, 60)}…` : got;
  // A schema knows what it expects; a check in its pipe says so as its message.
  return `${field} is ${shown}, not ${issue.kind === "schema" ? issue.expected : issue.message}`;
}

/** Whether an event of `type` may be dropped while the reader of the output is too slow. */
export function isDroppable(type: string): boolean {
  return Object.hasOwn(vocabulary, type) && vocabulary[type as EventType].droppable;
}

/** Whether `event` is of the known type `type`; its fields were checked when it was parsed. */
export function isEvent<T extends EventType>(event: Event, type: T): event is EventOf<T> {
  return event.type === type;
}

/** Makes a command's own events and writes them. */
export class Emitter {
  readonly #by: string;
  readonly #host: string;
  readonly #writer: NdjsonWriter;
  #reported = 0;

  /** `by` is the command's name; `host` is this host's name unless given. */
  constructor(by: string, writer: NdjsonWriter, host: string = Deno.hostname()) {
    this.#by = by;
    this.#host = host;
    this.#writer = writer;
  }

  /**
   * Queues an event; `v`, `time`, `by` and `host` are added. Give `time` where it was not just now.
   * Fields beyond the type's own are allowed.
   */
  emit<T extends EventType>(
    type: T,
    fields: EventFields[T] & { time?: string } & Record<string, unknown>,
  ): void {
    this.#reportDropped();
    this.#write(type, fields);
  }

  /**
   * Queues an event as {@linkcode Emitter.emit} does, in a third of its time: for events that come by the thousand. It
   * happened at `time`, or just now. `nested` has the fields that are objects: within another one, V8 takes twice as
   * long for them. None of the fields is one that every event has.
   */
  emitAt<T extends EventType, N extends keyof EventFields[T] & string>(
    type: T,
    time: string | undefined,
    fields: Omit<EventFields[T], N>,
    nested: Readonly<Record<N, object>>,
  ): void {
    this.#reportDropped();
    let text = JSON.stringify(this.#common(type, time)).slice(0, -1);
    const flat = JSON.stringify(fields).slice(1, -1);
    if (flat !== "") text += `,${flat}`;
    for (const name in nested) text += `,"${name}":${JSON.stringify(nested[name])}`;
    this.#writer.raw(`${text}}\n`, { droppable: vocabulary[type].droppable });
  }

  /** Whether the reader of the output is so slow that droppable events get lost. */
  get full(): boolean {
    return this.#writer.full;
  }

  /** Whether all events are written. */
  get idle(): boolean {
    return this.#writer.idle;
  }

  /** Reports what had to be dropped, then flushes and closes the writer. */
  async close(): Promise<void> {
    this.#reportDropped();
    await this.#writer.close();
  }

  #write(type: EventType, fields: Record<string, unknown>): void {
    const { time, ...rest }: { time?: string } = fields;
    const event = { ...this.#common(type, time), ...rest };
    this.#writer.write(event, { droppable: vocabulary[type].droppable });
  }

  /** What every event has. */
  #common(type: EventType, time: string | undefined): Event {
    return { v: 1, type, time: time ?? formatTime(nowMicros()), by: this.#by, host: this.#host };
  }

  #reportDropped(): void {
    const dropped = this.#writer.dropped - this.#reported;
    if (dropped === 0 || this.#writer.full) return;
    this.#reported += dropped;
    this.#write("warning", {
      message: `${dropped} events were dropped because the reader of the output was too slow`,
      dropped,
    });
  }
}
