/**
 * `replay --analyse`: what a capture has, conversation by conversation.
 *
 * @module
 */
import { formatTime } from "../clock.ts";
import type { Emitter } from "../event.ts";
import type { AnalyseFlowFields, AnalyseResultFields } from "../vocabulary/analyse.ts";
import type { Conversation, ConversationSink, Ending, NoteKind, Side } from "./conversation.ts";
import { readConversations } from "./read.ts";
import type { KnownServer } from "./roles.ts";
import type { Totals } from "./totals.ts";

/** Settings of {@linkcode runAnalyse}. */
export interface AnalyseOptions {
  /** The capture file, or `-` for standard input. */
  file: string;
  /** Only frames that pass this filter count, in pcap-filter(7)'s language; empty for all. */
  filter: string;
  /** Who is a server, where no SYN was captured. */
  servers: readonly KnownServer[];
  /** Report everything that is remarkable, too. */
  notes: boolean;
}

/** Hears what the analysis finds. `time` is in microseconds since the Unix epoch. */
export interface AnalyseReport {
  /** A conversation has ended. */
  flow(conversation: Conversation, how: Ending, time: number, by?: Side): void;
  /** Something is remarkable in a conversation. */
  note?(
    conversation: Conversation,
    from: Side,
    kind: NoteKind | "missing",
    seq: number,
    length: number,
    time: number,
  ): void;
  /** The capture was read, as far as that is possible. */
  result(result: AnalyseResultFields): void;
  /** A frame or more cannot be looked at. */
  warn(message: string): void;
  /** Whether it can take no more for now; what it returns is waited for. */
  busy(): Promise<void> | undefined;
}

/** Behind this second of the Unix epoch, RFC 3339 has no words. */
const YEAR_10000 = 253_402_300_800;
/** Pause while the reader of the output does not keep up, in milliseconds. */
const PAUSE = 5;

/**
 * Reads a capture and reports its conversations. Where the file is broken, the result comes first.
 *
 * @throws {BadCapture} where the file is broken
 * @throws {Failure} where it cannot be read, or the filter is none
 */
export async function runAnalyse(
  options: AnalyseOptions,
  report: AnalyseReport,
  stop: AbortSignal,
): Promise<void> {
  let totals: Totals | undefined;
  let complete = false;
  const begun = (begun: Totals): void => {
    totals = begun;
  };
  const { file, filter, servers, notes } = options;
  const warn = (message: string): void => report.warn(message);
  try {
    await readConversations(
      { file, filter, servers, warn, begun },
      sinkOf(report, notes),
      stop,
    );
    complete = !stop.aborted;
  } finally {
    if (totals !== undefined) report.result(resultOf(file, complete, totals));
  }
}

function sinkOf(report: AnalyseReport, notes: boolean): ConversationSink {
  const sink: ConversationSink = {
    open() {},
    data() {},
    missing() {},
    finish() {},
    close: (conversation, how, time, by) => report.flow(conversation, how, time, by),
    busy: () => report.busy(),
  };
  if (!notes) return sink;
  return {
    ...sink,
    note: (...args) => report.note?.(...args),
    missing(conversation, from, length, time) {
      const { first = 0, counts } = from;
      const seq = first + counts.bytes + counts.missing_bytes - length >>> 0;
      report.note?.(conversation, from, "missing", seq, length, time);
    },
  };
}

function resultOf(capture: string, complete: boolean, totals: Totals): AnalyseResultFields {
  const { conversations, bytes, missing_bytes, open: _, held: __, ...rest } = totals;
  const { segments, other, fragments, cut, malformed, filtered } = totals;
  return {
    capture,
    complete,
    flows: conversations,
    frames: segments + other + fragments + cut + malformed + filtered,
    bytes,
    missing_bytes,
    totals: rest,
  };
}

/** Reports by events, in the time of the capture. */
export class EventReport implements AnalyseReport {
  readonly #emitter: Emitter;

  /** Gives the events to `emitter`. */
  constructor(emitter: Emitter) {
    this.#emitter = emitter;
  }

  /** Emits `analyse.flow`. */
  flow(conversation: Conversation, how: Ending, time: number, by?: Side): void {
    const fields = flowFields(conversation, how, by);
    this.#emitter.emitAt("analyse.flow", timeOf(time), fields, {
      client_sent: conversation.client.counts,
      server_sent: conversation.server.counts,
    });
  }

  /** Emits `analyse.note`. */
  note(
    { number, client, server }: Conversation,
    from: Side,
    kind: NoteKind | "missing",
    seq: number,
    length: number,
    time: number,
  ): void {
    this.#emitter.emit("analyse.note", {
      time: timeOf(time),
      flow: number,
      client: client.endpoint,
      server: server.endpoint,
      from: from.role,
      kind,
      seq,
      bytes: length,
    });
  }

  /** Emits `analyse.result`. */
  result(result: AnalyseResultFields): void {
    this.#emitter.emit("analyse.result", { ...result });
  }

  /** Emits `warning`. */
  warn(message: string): void {
    this.#emitter.emit("warning", { message });
  }

  /** Waits where the reader of the events is slow: no event is left out. */
  busy(): Promise<void> | undefined {
    if (!this.#emitter.full) return undefined;
    return new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

function flowFields(
  conversation: Conversation,
  how: Ending,
  by?: Side,
): Omit<AnalyseFlowFields, "client_sent" | "server_sent"> {
  const { number, client, server, rolesBy, begin, end, handshake, handshakeMicros } = conversation;
  return {
    flow: number,
    client: client.endpoint,
    server: server.endpoint,
    roles_by: rolesBy,
    began: timeOf(begin) ?? formatTime(0),
    lasted_ms: Math.max(0, end - begin) / 1000,
    handshake,
    handshake_ms: handshakeMicros === undefined ? undefined : handshakeMicros / 1000,
    ended: how,
    reset_by: by?.role,
    client_isn: client.isn,
    server_isn: server.isn,
    client_mss: client.options?.mss,
    server_mss: server.options?.mss,
    client_wscale: client.options?.wscale,
    server_wscale: server.options?.wscale,
    client_options: optionNames(client),
    server_options: optionNames(server),
  };
}

function optionNames({ options }: Side): string[] | undefined {
  if (options === undefined) return undefined;
  const names: string[] = [];
  if (options.sack) names.push("sack");
  if (options.timestamps) names.push("timestamps");
  if (options.fastOpen) names.push("fast_open");
  if (options.multipath) names.push("multipath");
  return names;
}

/** A time of the capture, where it can be written. */
function timeOf(micros: number): string | undefined {
  return micros >= 0 && micros < YEAR_10000 * 1e6 ? formatTime(micros) : undefined;
}
