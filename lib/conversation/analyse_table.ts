/**
 * The analysis of a capture as a table, for a person at a terminal.
 *
 * @module
 */
import type { NdjsonWriter } from "../ndjson.ts";
import { type Column, Table } from "../table.ts";
import type { AnalyseResultFields } from "../vocabulary/analyse.ts";
import type { AnalyseReport } from "./analyse.ts";
import type { Conversation, Ending, NoteKind, Side, SideCounts } from "./conversation.ts";

const number = (title: string): Column => ({ title, isNumber: true });
const COLUMNS: readonly Column[] = [
  number("FLOW"),
  { title: "CLIENT" },
  { title: "SERVER" },
  { title: "HANDSHAKE" },
  { title: "ENDED" },
  number("SECONDS"),
  number("SENT"),
  number("RECEIVED"),
  number("MISSING"),
  number("RETRANS"),
  number("ZERO WIN"),
  { title: "REMARKS" },
];

/** What else is remarkable: each count that has no column of its own, with its words. */
const REMARKS: readonly (readonly [keyof SideCounts, string])[] = [
  ["gaps", "gaps"],
  ["diverged", "diverged"],
  ["out_of_order", "out of order"],
  ["duplicate_acks", "duplicate acks"],
  ["keep_alives", "keep-alives"],
  ["window_probes", "window probes"],
  ["urgent", "urgent"],
  ["resets", "resets"],
  ["left_out", "left out"],
];

/** Writes a row for each conversation, and the totals below. */
export class TableReport implements AnalyseReport {
  readonly #writer: NdjsonWriter;
  readonly #table: Table;

  /** Gives its lines to `writer`. */
  constructor(writer: NdjsonWriter) {
    this.#writer = writer;
    this.#table = new Table(COLUMNS, (line) => writer.raw(line));
  }

  /** Adds a row. */
  flow(conversation: Conversation, how: Ending, _time: number, by?: Side): void {
    const { client, server, handshake, handshakeMicros, begin, end } = conversation;
    const sum = (name: keyof SideCounts): number => client.counts[name] + server.counts[name];
    const took = handshakeMicros === undefined ? "" : ` ${(handshakeMicros / 1000).toFixed(1)} ms`;
    this.#table.add([
      String(conversation.number),
      client.endpoint,
      server.endpoint,
      `${handshake}${took}`,
      by === undefined ? how : `${how} by ${by.role}`,
      (Math.max(0, end - begin) / 1e6).toFixed(3),
      String(client.counts.bytes),
      String(server.counts.bytes),
      String(sum("missing_bytes")),
      String(sum("retransmissions")),
      String(sum("zero_windows")),
      this.#remarks(conversation, sum),
    ]);
  }

  /** Writes a line; the table stands below the notes of its first rows. */
  note(
    conversation: Conversation,
    from: Side,
    kind: NoteKind | "missing",
    seq: number,
    length: number,
    time: number,
  ): void {
    const at = ((time - conversation.begin) / 1e6).toFixed(6);
    const what = kind.replaceAll("_", " ");
    const bytes = length === 0 ? "" : `, ${length} bytes`;
    this.#writer.raw(
      `flow ${conversation.number} + ${at} s  ${from.role}: ${what}, seq ${seq}${bytes}`,
    );
  }

  /** Writes the totals. */
  result(result: AnalyseResultFields): void {
    this.#table.end();
    const { flows, frames, bytes, missing_bytes, complete, totals } = result;
    const words = [
      `${flows} flows`,
      `${frames} frames`,
      `${bytes} bytes`,
      `${missing_bytes} bytes missing`,
    ];
    const rest = Object.entries(totals)
      .filter(([name, value]) => value > 0 && name !== "segments" && name !== "held_max")
      .map(([name, value]) => `${value} ${name.replaceAll("_", " ")}`);
    const cut = complete ? [] : ["not read to the end"];
    this.#writer.raw(["", [...words, ...rest, ...cut].join(", ")].join("\n"));
  }

  /** Writes a line. */
  warn(message: string): void {
    this.#writer.raw(message);
  }

  /** Waits for the terminal. */
  busy(): Promise<void> | undefined {
    return this.#writer.full ? this.#writer.ready() : undefined;
  }

  #remarks({ rolesBy }: Conversation, sum: (name: keyof SideCounts) => number): string {
    const counted = REMARKS.filter(([name]) => sum(name) > 0)
      .map(([name, words]) => `${sum(name)} ${words}`);
    if (rolesBy === "port" || rolesBy === "first") counted.unshift(`roles by ${rolesBy}`);
    return counted.join(", ");
  }
}
