/**
 * What is said of captured conversations that are played to a live server.
 *
 * @module
 */
import * as v from "valibot";
import { choice, count, flag, millis, numbers, text } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

/** What may come of a conversation, in the order of the report. */
export const outcomes = [
  "equal",
  "differs",
  "shorter",
  "longer",
  "opaque",
  "refused",
  "reset",
  "timed_out",
  "skipped",
] as const;
const ends = ["fin", "reset", "open"] as const;

/** One of {@linkcode outcomes}. */
export type Outcome = typeof outcomes[number];

/** How the live server has ended its side: by FIN, by a reset, or not at all. */
export type LiveEnd = "fin" | "reset" | "open";

/** Fields of `replay.flow`. */
export interface ReplayFlowFields {
  /** The conversation's number in the capture, from 0. */
  flow: number;
  /** Which time the capture is played, from 1; absent where it is played once. */
  pass?: number;
  /** The captured client's end, `address:port`. */
  client: string;
  /** The captured server's end, `address:port`. */
  server: string;
  /** The live server's, `address:port`; absent where none was named. */
  to?: string;
  /** What came of it. */
  outcome: Outcome;
  /** Why, for a person. */
  reason?: string;
  /** Bytes that were sent. */
  sent: number;
  /** Bytes that were received. */
  received: number;
  /** Answers that lacked bytes when the client went on. */
  unmet?: number;
  /** How the live server has ended its side. */
  ended: LiveEnd;
  /** From the begin of the connection to its end, in milliseconds. */
  took_ms: number;
  /** Answers that were compared. */
  answers?: number;
  /** Answers that differ. */
  answers_differing?: number;
  /** Lines that are equal by masks only. */
  masked?: number;
  /** Captured bytes that were not compared. */
  uncompared_bytes?: number;
  /** The protocol whose encryption hides what is said. */
  protocol?: string;
  /** Where the answers part, in bytes of what the captured server says. */
  offset?: number;
  /** The same in what the live one says, where the number is another. */
  live_offset?: number;
  /** What stands in front of it, as text. */
  before?: string;
  /** What was captured there. */
  expected?: string;
  /** What came instead. */
  actual?: string;
  /** `before` in hexadecimal digits. */
  before_hex?: string;
  /** `expected` in hexadecimal digits. */
  expected_hex?: string;
  /** `actual` in hexadecimal digits. */
  actual_hex?: string;
}

/** Fields of `replay.result`. */
export interface ReplayResultFields {
  /** The capture file. */
  capture: string;
  /** Whether it was read and played to its end. */
  complete: boolean;
  /** How many conversations were to be played. */
  flows: number;
  /** How many of them came to each outcome, by its name. */
  outcomes: Record<string, number>;
  /** Bytes that were sent. */
  sent: number;
  /** Bytes that were received. */
  received: number;
  /** Messages of clients that were sent, each followed by an answer or the end. */
  messages: number;
  /** From the begin to the end, in milliseconds. */
  took_ms: number;
  /** What else was counted, by name. */
  counters: Record<string, number>;
}

/** The events of a replay and the fields of each. */
export interface ReplayEvents {
  /** A conversation was played, or skipped. */
  "replay.flow": ReplayFlowFields;
  /** All is played. */
  "replay.result": ReplayResultFields;
}

/** The events of a replay and their schemas. */
export const replayEvents: Descriptions<ReplayEvents> = {
  "replay.flow": essential("A captured conversation was played to a live server, or skipped", {
    flow: count("Its number in the capture, from 0"),
    pass: v.optional(count("Which time the capture is played, from 1")),
    client: text("The captured client's end, address:port, IPv6 in brackets"),
    server: text("The captured server's end, address:port, IPv6 in brackets"),
    to: v.optional(text("The live server's end; absent where none was named")),
    outcome: choice(
      outcomes,
      "equal, differs, shorter, longer, opaque, refused, reset, timed_out or skipped",
    ),
    reason: v.optional(text("Why, for a person")),
    sent: count("Bytes that were sent"),
    received: count("Bytes that were received"),
    unmet: v.optional(count("Answers that lacked bytes when the client went on")),
    ended: choice(ends, "How the live server has ended its side: fin, reset or open"),
    took_ms: millis("From the begin of the connection to its end"),
    answers: v.optional(count("Answers that were compared")),
    answers_differing: v.optional(count("Answers that differ")),
    masked: v.optional(count("Lines that are equal by masks only")),
    uncompared_bytes: v.optional(count("Captured bytes that were not compared")),
    protocol: v.optional(text("The protocol whose encryption hides what is said: tls or ssh")),
    offset: v.optional(count("Where the answers part, in bytes of what the captured server says")),
    live_offset: v.optional(count("The same of the live server, where the number is another")),
    before: v.optional(text("What stands in front of it")),
    expected: v.optional(text("What was captured there")),
    actual: v.optional(text("What came instead")),
    before_hex: v.optional(text("The field before in hexadecimal digits")),
    expected_hex: v.optional(text("The field expected in hexadecimal digits")),
    actual_hex: v.optional(text("The field actual in hexadecimal digits")),
  }),
  "replay.result": essential("A replay has ended", {
    capture: text("The capture file"),
    complete: flag("Whether it was read and played to its end"),
    flows: count("How many conversations were to be played"),
    outcomes: numbers("How many of them came to each outcome, by its name"),
    sent: count("Bytes that were sent"),
    received: count("Bytes that were received"),
    messages: count("Messages of clients that were sent, each after an answer or the begin"),
    took_ms: millis("From the begin to the end"),
    counters: numbers("What else was counted, by name"),
  }),
};
