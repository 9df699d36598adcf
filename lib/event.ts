/**
 * The event vocabulary: what the commands tell each other and the user, one JSON object a line.
 * This file is its only source; `t2cp schema` prints it.
 *
 * @module
 */
import * as v from "valibot";
import { formatTime, nowMicros } from "./clock.ts";
import {
  choice,
  count,
  flag,
  instant,
  list,
  measured,
  millis,
  numbers,
  sequence,
  text,
  texts,
} from "./field.ts";
import type { NdjsonWriter } from "./ndjson.ts";

/** What every event has. Unknown types and fields pass through every command untouched. */
export interface Event {
  /** Version of the vocabulary. */
  v: 1;
  /** Name of the event's type, one of {@linkcode EventType} or a later one. */
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

/** Fields of the events about a failure detector's target. */
export interface TargetFields {
  /** Name of the watched host. */
  target: string;
}

/** Fields of `suspect`. */
export interface SuspectFields extends TargetFields {
  /** When the target was last heard; absent where the traffic of its clients raised the suspicion. */
  last_seen?: string;
  /** What the traffic of its clients showed: `unanswered` or `resets`; absent where a heartbeat is late. */
  reason?: string;
  /** The service whose traffic it was, `address:port`. */
  server?: string;
  /** Since when its clients wait for an answer. */
  since?: string;
  /** How many resets there were, or how many of the looked-at connections wait. */
  count?: number;
}

/** One signal that a `failed` rests on; further fields say what it showed. */
export interface Evidence {
  /** Where it comes from: `bfd`. */
  signal: string;
  /** When it was last good; absent where it never was. */
  last?: string;
  /** What it showed, in the signal's own words. */
  [detail: string]: unknown;
}

/** Fields of `failed`. */
export interface FailedFields extends TargetFields {
  /** What failed: the whole host, or the application alone. */
  level: "host" | "application";
  /** Whether someone announced it. */
  cause: "planned" | "unplanned";
  /** What the decision rests on: each signal, and when it was last good. */
  evidence: readonly Evidence[];
  /** When the target was last heard; absent where it never was. */
  last_seen?: string;
}

/** Fields of `active`. */
export interface ActiveFields {
  /** When the event came that asked for it. */
  trigger?: string;
  /** The services that the backup answers for. */
  services?: string[];
  /** How many flows were taken over. */
  flows: number;
  /** How many of them have a replica that lacks bytes still; it gets them soon, or the flow is reset. */
  flows_behind?: number;
  /** How many flows had lost their replica, and are reset. */
  flows_lost?: number;
  /** From the trigger to the last step, in milliseconds. */
  took_ms: number;
  /** When each step ended, in milliseconds since the trigger, by the step's name. */
  steps: Record<string, number>;
}

/** Fields of the events about one flow. */
export interface FlowFields {
  /** The client's end, `address:port`. */
  client: string;
  /** The service's end, `address:port`. */
  server: string;
}

/** Fields of `flow.close`. */
export interface FlowCloseFields extends FlowFields {
  /** How it ended, for a person. */
  reason: string;
}

/** Fields of `flow.unprotected`. */
export interface FlowUnprotectedFields extends FlowFields {
  /** Why the flow has no replica, for a person. */
  reason: string;
}

/** Fields of `gap`. */
export interface GapFields extends FlowFields {
  /** Sequence number of the first missing byte. */
  from: number;
  /** Sequence number behind the last missing byte. */
  to: number;
}

/** Fields of `lag`. */
export interface LagFields extends FlowFields {
  /** How many bytes the replica acknowledges less than the primary. */
  bytes: number;
}

/** Fields of `healed`. */
export interface HealedFields extends GapFields {
  /** How many bytes were given to the replica. */
  bytes: number;
  /** From the gap, or where none was reported, from when it was seen, to the replica's acknowledgement, in milliseconds. */
  took_ms: number;
}

/** Fields of `diverged`. */
export interface DivergedFields extends FlowFields {
  /** Sequence number of the first byte that differs. */
  offset: number;
}

/** Fields of `warning`. */
export interface WarningFields {
  /** What is wrong, for a person. */
  message: string;
}

/** Fields of `process.exit`. */
export interface ProcessExitFields {
  /** Its number. */
  pid: number;
  /** Its name, cut to 15 bytes. */
  name: string;
  /** How it ended: `status 1`, `signal 9`, `unknown`. */
  ended: string;
  /** Whether it is a process that was named as a main process of the service. */
  main: boolean;
  /** Whether it ended against its will. */
  crashed: boolean;
}

/** Fields of `lab.run`: what one run of a scenario measured. */
export interface LabRunFields {
  /** Whether all was as it should be. */
  ok: boolean;
  /** What the client did: `download`, `upload`, `echo`, `chat`, `connections`. */
  workload: string;
  /** What failed: `host`, `process`, `hang`, or `none`. */
  failure: string;
  /** What served it: `nginx`, `socat`, `python`, `threaded`, `deno`. */
  server?: string;
  /** FIN and RST segments that the client got before its own; absent where nobody looked. */
  early_ends?: number;
  /** Whether exactly what was sent arrived. */
  sha256_equal: boolean;
  /** The longest time without a new byte at the client, in milliseconds. */
  stall_ms: number | null;
  /** From the failure to the `failed` event, in milliseconds. */
  detect_ms: number | null;
  /** From the takeover's trigger to the first new byte at the client, in milliseconds. */
  takeover_ms: number | null;
  /** Bytes of content that the client moved. */
  bytes: number;
}

/** Fields of `lab.result`: the only run, or the medians of several. */
export interface LabResultFields extends LabRunFields {
  /** How many runs there were. */
  runs?: number;
  /** The longest stall of all runs, in milliseconds. */
  stall_ms_max?: number | null;
  /** The slowest detection of all runs, in milliseconds. */
  detect_ms_max?: number | null;
  /** The slowest takeover of all runs, in milliseconds. */
  takeover_ms_max?: number | null;
}

/** Fields of `lab.mark`. */
export interface LabMarkFields {
  /** What the lab did at this moment. */
  what: string;
}

/** The known types and the fields of each. */
export interface EventFields {
  /** A long-running command is in place and works from now on. */
  "started": object;
  /** The target answers, for the first time. */
  "up": TargetFields;
  /** The target is late. */
  "suspect": SuspectFields;
  /** The target has failed. */
  "failed": FailedFields;
  /** The target answers again. */
  "recovered": TargetFields;
  /** The backup has taken over. */
  "active": ActiveFields;
  /** A flow has its replica. */
  "flow.open": FlowFields;
  /** A flow has ended. */
  "flow.close": FlowCloseFields;
  /** A flow has no replica. */
  "flow.unprotected": FlowUnprotectedFields;
  /** The tap missed bytes that the primary has acknowledged. */
  "gap": GapFields;
  /** A replica has been behind its primary for long. */
  "lag": LagFields;
  /** A replica has got the bytes that it lacked. */
  "healed": HealedFields;
  /** A client has sent other bytes under numbers that it had used before. */
  "diverged": DivergedFields;
  /** A process of the service has ended. */
  "process.exit": ProcessExitFields;
  /** Counters of the command. */
  "stats": object;
  /** Something is not as it should be, and the command goes on. */
  "warning": WarningFields;
  /** One run of a lab scenario. */
  "lab.run": LabRunFields;
  /** The end of a lab scenario. */
  "lab.result": LabResultFields;
  /** The lab did something. */
  "lab.mark": LabMarkFields;
}

/** The types that this version knows. */
export type EventType = keyof EventFields;

/** An event of the known type `T`. */
export type EventOf<T extends EventType> = Event & { type: T } & EventFields[T];

/** One row of the vocabulary, for a type with the fields `T`. */
export interface EventDescription<T = object> {
  /** What the event says, one sentence. */
  readonly description: string;
  /** The writer may drop it while its reader is too slow. */
  readonly droppable: boolean;
  /**
   * The type's own fields; each schema carries its description.
   *
   * @ignore
   */
  readonly fields: v.ObjectEntries & { readonly [K in keyof T]-?: v.GenericSchema<T[K]> };
}

const target = { target: text("Name of the watched host") };
const lastSeen = instant("When the target was last heard");
const flow = {
  client: text("The client's end, address:port, IPv6 in brackets"),
  server: text("The service's end, address:port, IPv6 in brackets"),
};
const labRun = {
  ok: flag("Whether all was as it should be"),
  workload: text("What the client did: download, upload, echo, chat, connections"),
  failure: text("What failed: host, process, hang, or none"),
  server: v.optional(text("What served it: nginx, socat, python, threaded, deno")),
  early_ends: v.optional(
    count("FIN and RST segments that the client got before its own; absent where nobody looked"),
  ),
  sha256_equal: flag("Whether exactly what was sent arrived"),
  stall_ms: measured("The longest time without a new byte at the client"),
  detect_ms: measured("From the failure to the failed event"),
  takeover_ms: measured("From the takeover's trigger to the first new byte at the client"),
  bytes: count("Bytes of content that the client moved"),
};

/** A type of which every event must reach the reader. */
function essential<F>(description: string, fields: F) {
  return { description, droppable: false, fields };
}

/** A type of which events may be dropped while the reader is too slow. */
function droppable<F>(description: string, fields: F) {
  return { description, droppable: true, fields };
}

/** Every known type: its meaning and its fields. */
export const vocabulary: { readonly [T in EventType]: EventDescription<EventFields[T]> } = {
  "started": essential("A long-running command is in place and works from now on", {}),
  "up": essential("The target answers, for the first time", target),
  "suspect": essential("The target is late; it has not failed yet", {
    ...target,
    last_seen: v.optional(lastSeen),
    reason: v.optional(text("What the traffic of its clients showed: unanswered or resets")),
    server: v.optional(text("The service whose traffic it was, address:port")),
    since: v.optional(instant("Since when its clients wait for an answer")),
    count: v.optional(count("How many resets there were, or how many connections wait")),
  }),
  "failed": essential("The target has failed", {
    ...target,
    level: choice(["host", "application"], "What failed: the whole host, or the application"),
    cause: choice(["planned", "unplanned"], "Whether someone announced it"),
    evidence: list("What the decision rests on: each signal, and when it was last good", {
      signal: text("Where it comes from: bfd, a kind of probe, or vote"),
      last: v.optional(instant("When it was last good; absent where it never was")),
    }),
    last_seen: v.optional(lastSeen),
  }),
  "recovered": essential("The target answers again after it was late or had failed", target),
  "active": essential("The backup has taken over and answers the clients", {
    trigger: v.optional(instant("When the event came that asked for it")),
    services: v.optional(texts("The services that the backup answers for")),
    flows: count("How many flows were taken over"),
    flows_behind: v.optional(count("How many of them have a replica that lacks bytes still")),
    flows_lost: v.optional(count("How many flows had lost their replica, and are reset")),
    took_ms: millis("From the trigger to the last step"),
    steps: numbers("When each step ended, in milliseconds since the trigger, by its name"),
  }),
  "flow.open": droppable("A flow has its replica", flow),
  "flow.close": droppable("A flow has ended, and its replica with it", {
    ...flow,
    reason: text("How it ended, for a person"),
  }),
  "flow.unprotected": essential("A flow has no replica, or one that may lack bytes of the client", {
    ...flow,
    reason: text("Why, for a person"),
  }),
  "gap": essential("The tap missed bytes of the client that the primary has acknowledged", {
    ...flow,
    from: sequence("Sequence number of the first missing byte"),
    to: sequence("Sequence number behind the last missing byte"),
  }),
  "lag": essential("A replica has acknowledged less than its primary for long", {
    ...flow,
    bytes: count("How much less"),
  }),
  "healed": essential("A replica has got the bytes that it lacked, and acknowledged them", {
    ...flow,
    from: sequence("Sequence number of the first byte"),
    to: sequence("Sequence number behind the last byte"),
    bytes: count("How many bytes were given to the replica"),
    took_ms: millis("From the gap, or else from when it was seen, to the acknowledgement"),
  }),
  "diverged": essential("A client has sent other bytes under numbers that it had used before", {
    ...flow,
    offset: sequence("Sequence number of the first byte that differs"),
  }),
  "process.exit": essential("A process of the service has ended", {
    pid: count("Its number"),
    name: text("Its name, cut to 15 bytes"),
    ended: text("How it ended: status 1, signal 9, unknown"),
    main: flag("Whether it was named as a main process of the service"),
    crashed: flag("Whether it ended against its will"),
  }),
  "stats": droppable("Counters of the command; which ones is its own affair", {}),
  "warning": essential("Something is not as it should be, and the command goes on", {
    message: text("What is wrong, for a person"),
  }),
  "lab.run": essential("One run of a lab scenario", labRun),
  "lab.result": essential("The end of a lab scenario: its only run, or the medians of several", {
    ...labRun,
    runs: v.optional(count("How many runs there were")),
    stall_ms_max: v.optional(measured("The longest stall of all runs")),
    detect_ms_max: v.optional(measured("The slowest detection of all runs")),
    takeover_ms_max: v.optional(measured("The slowest takeover of all runs")),
  }),
  "lab.mark": essential(
    "The lab did something at this moment, such as cutting the primary's link",
    { what: text("What it did") },
  ),
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

  /** Whether the reader of the output is so slow that droppable events get lost. */
  get full(): boolean {
    return this.#writer.full;
  }

  /** Reports what had to be dropped, then flushes and closes the writer. */
  async close(): Promise<void> {
    this.#reportDropped();
    await this.#writer.close();
  }

  #write(type: EventType, fields: Record<string, unknown>): void {
    const { time, ...rest } = fields;
    const event = {
      v: 1,
      type,
      time: time ?? formatTime(nowMicros()),
      by: this.#by,
      host: this.#host,
      ...rest,
    };
    this.#writer.write(event, { droppable: vocabulary[type].droppable });
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
