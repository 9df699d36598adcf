/**
 * What a replay tells: events, or a table at a terminal.
 *
 * @module
 */
import type { Conversation } from "../conversation/conversation.ts";
import type { Emitter } from "../event.ts";
import type { NdjsonWriter } from "../ndjson.ts";
import { type Column, Table } from "../table.ts";
import type { ReplayFlowFields, ReplayResultFields } from "../vocabulary/replay.ts";
import type { Finished } from "./outcome.ts";

/** Is told of what happens. */
export interface ReplayReport {
  /** It begins. */
  begin(fields: Record<string, unknown>): void;
  /** A conversation is over. */
  flow(fields: ReplayFlowFields): void;
  /** How far it is, several times a second. */
  progress(result: ReplayResultFields, open: number): void;
  /** All is played. */
  result(result: ReplayResultFields): void;
  /** Something is not as it should be. */
  warn(message: string): void;
  /** What to wait for before more is told; undefined where nothing is in the way. */
  busy(): Promise<void> | undefined;
}

/** The fields of `replay.flow` for a conversation that is over; `passes` is how often the capture is played. */
export function flowFields(result: Finished, passes: number): ReplayFlowFields {
  const { script, outcome, reason, sent, received, unmet, end, took, fields } = result;
  const { conversation, target, pass } = script;
  return {
    flow: conversation.number,
    ...(passes > 1 ? { pass } : {}),
    client: conversation.client.endpoint,
    server: conversation.server.endpoint,
    to: target.text,
    outcome,
    ...(reason === undefined ? {} : { reason }),
    ...{ sent, received },
    ...(unmet > 0 ? { unmet } : {}),
    ended: end,
    took_ms: Math.round(took * 1000) / 1000,
    ...fields,
  };
}

/** The fields of `replay.flow` for a conversation of which nothing is played. */
export function skippedFields(
  conversation: Conversation,
  pass: number,
  passes: number,
  reason: string,
): ReplayFlowFields {
  return {
    flow: conversation.number,
    ...(passes > 1 ? { pass } : {}),
    client: conversation.client.endpoint,
    server: conversation.server.endpoint,
    outcome: "skipped",
    reason,
    ...{ sent: 0, received: 0, ended: "open", took_ms: 0 },
  };
}

/** Tells by events. */
export class EventReport implements ReplayReport {
  readonly #emitter: Emitter;
  readonly #writer: NdjsonWriter;
  readonly #interval: number;
  #next: number;

  /** Emits `stats` every `seconds`; never where that is undefined. */
  constructor(emitter: Emitter, writer: NdjsonWriter, seconds: number | undefined) {
    this.#emitter = emitter;
    this.#writer = writer;
    this.#interval = (seconds ?? Infinity) * 1000;
    this.#next = this.#interval;
  }

  begin(fields: Record<string, unknown>): void {
    this.#emitter.emit("started", fields);
  }

  flow(fields: ReplayFlowFields): void {
    this.#emitter.emit("replay.flow", { ...fields });
  }

  progress(result: ReplayResultFields, open: number): void {
    const { took_ms, flows, outcomes, sent, received, messages, counters } = result;
    if (took_ms < this.#next) return;
    this.#next += Math.ceil((took_ms - this.#next + 1) / this.#interval) * this.#interval;
    const fields = { flows, open, ...outcomes, sent, received, messages, ...counters };
    this.#emitter.emit("stats", fields);
  }

  result(result: ReplayResultFields): void {
    this.#emitter.emit("replay.result", { ...result });
  }

  warn(message: string): void {
    this.#emitter.emit("warning", { message });
  }

  busy(): Promise<void> | undefined {
    return this.#emitter.full ? this.#writer.ready() : undefined;
  }
}

const COLUMNS: readonly Column[] = [
  { title: "FLOW", isNumber: true },
  { title: "CLIENT" },
  { title: "SERVER" },
  { title: "OUTCOME" },
  { title: "SENT", isNumber: true },
  { title: "RECEIVED", isNumber: true },
  { title: "SECONDS", isNumber: true },
  { title: "REMARKS" },
];

/** Shows a line that says how far it is, and takes it away. */
export interface ProgressLine {
  /** Shows it, in the place of the one before. */
  show(line: string): void;
  /** Takes it away. */
  clear(): void;
}

/** Tells by a table of the conversations that are not equal, and a line of progress. */
export class TableReport implements ReplayReport {
  readonly #writer: NdjsonWriter;
  readonly #line: ProgressLine;
  readonly #table: Table;
  #rows = 0;
  #last = { at: 0, messages: 0 };

  /** Writes the table to `writer`, and the progress to `line`. */
  constructor(writer: NdjsonWriter, line: ProgressLine) {
    this.#writer = writer;
    this.#line = line;
    this.#table = new Table(COLUMNS, (row) => this.#say(row));
  }

  begin(): void {}

  flow(fields: ReplayFlowFields): void {
    if (fields.outcome === "equal") return;
    this.#rows++;
    this.#table.add([
      String(fields.flow),
      fields.client,
      fields.to ?? fields.server,
      fields.outcome.replaceAll("_", " "),
      String(fields.sent),
      String(fields.received),
      (fields.took_ms / 1000).toFixed(3),
      remarks(fields),
    ]);
  }

  progress({ took_ms, flows, outcomes, messages }: ReplayResultFields, open: number): void {
    const seconds = (took_ms - this.#last.at) / 1000;
    if (seconds < 0.1) return;
    const rate = Math.round((messages - this.#last.messages) / seconds);
    this.#last = { at: took_ms, messages };
    const done = Object.values(outcomes).reduce((sum, number) => sum + number, 0);
    const counts = words(outcomes);
    const parts = [`${done} of ${flows} flows`, ...counts, `${open} open`, `${rate} messages/s`];
    this.#line.show(parts.join(", "));
  }

  result(result: ReplayResultFields): void {
    if (this.#rows > 0) {
      this.#table.end();
      this.#say("");
    }
    const { flows, outcomes, messages, sent, received, took_ms, complete, counters } = result;
    const seconds = took_ms / 1000;
    const parts = [
      ...[`${flows} flows`, ...words(outcomes)],
      ...[`${messages} messages`, `${sent} bytes sent`, `${received} received`],
      `${seconds.toFixed(3)} s, ${Math.round(messages / Math.max(seconds, 0.001))} messages/s`,
      ...words(counters),
      ...(complete ? [] : ["not to the end"]),
    ];
    this.#say(parts.join(", "));
  }

  warn(message: string): void {
    this.#say(message);
  }

  busy(): Promise<void> | undefined {
    return this.#writer.full ? this.#writer.ready() : undefined;
  }

  #say(line: string): void {
    this.#line.clear();
    this.#writer.raw(line);
  }
}

/** Numbers above 0 with their names. */
function words(numbers: Record<string, number>): string[] {
  return Object.entries(numbers).filter(([, number]) => number > 0)
    .map(([name, number]) => `${number} ${name.replaceAll("_", " ")}`);
}

function remarks(fields: ReplayFlowFields): string {
  const { reason, unmet, offset, expected, actual, protocol } = fields;
  const parts = [];
  if (reason !== undefined) parts.push(reason);
  if (protocol !== undefined) parts.push(`${protocol} is encrypted`);
  if (offset !== undefined) {
    parts.push(`at ${offset}: "${shorten(actual ?? "")}" for "${shorten(expected ?? "")}"`);
  }
  if (unmet !== undefined) parts.push(`${unmet} answers unfinished`);
  return parts.join(", ");
}

function shorten(text: string): string {
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}
