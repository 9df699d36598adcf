/**
 * Conversations of TCP as a capture shows them: who talked to whom, and what a reader of the reassembled bytes is told.
 *
 * @module
 */
import { formatEndpoint } from "../address.ts";
import type { SynOptions } from "./syn_options.ts";

/** Which end of a conversation: the client opened it. */
export type Role = "client" | "server";

/**
 * How much of the three-way handshake the capture has: both SYN and their acknowledgement, only some of that, or
 * nothing, as where the capture began later.
 */
export type Handshake = "whole" | "partial" | "none";

/**
 * What tells the client from the server: a SYN; else the services that the user has named; else the ports, of which the
 * well-known or lower one is the server's; else who spoke first.
 */
export type RolesBy = "syn" | "service" | "port" | "first";

/**
 * How a conversation ended: by FIN of both sides; by a reset; by silence for longer than the tracker waits; with the
 * capture; by a new one between the same ends; or it had to make room for others.
 */
export type Ending = "fin" | "reset" | "timeout" | "capture" | "reused" | "evicted";

/** What can be noted of a segment, beside its bytes. */
export type NoteKind =
  /** Bytes that were there already, and no new ones. */
  | "retransmission"
  /** Bytes that came after later ones. */
  | "out_of_order"
  /** Bytes that differ from those that are held back under the same numbers. The first ones count. */
  | "diverged"
  /** A probe of an idle connection, with one old byte or none (RFC 9293 section 3.8.4). */
  | "keep_alive"
  /** A probe of a closed window, with one old byte or none (RFC 9293 section 3.8.6.1). */
  | "window_probe"
  /** Urgent data; its bytes are in the stream, as everybody reads them today (RFC 6093). */
  | "urgent"
  /** The side's receive window closed. */
  | "zero_window"
  /** The side's receive window opened again. */
  | "window_open"
  /** A reset. */
  | "reset"
  /** A reset whose sequence number is outside the window: its receiver ignores it (RFC 5961). */
  | "reset_ignored"
  /** Bytes or an end further ahead than any window reaches, or behind the side's end. They are left out. */
  | "outside"
  /** Bytes from before the first that the capture has of this side. They are left out. */
  | "before";

/** What was seen of one side's segments. All are totals since the conversation began. */
export class SideCounts {
  /** Segments. */
  segments = 0;
  /** Bytes of payload, each counted once. */
  bytes = 0;
  /** Bytes that the capture lacks. */
  missing_bytes = 0;
  /** How many runs of bytes the capture lacks. */
  gaps = 0;
  /** Segments with bytes that were there already, and no new ones. */
  retransmissions = 0;
  /** Bytes that were there already. */
  repeated_bytes = 0;
  /** Segments whose bytes came after later ones. */
  out_of_order = 0;
  /** Segments that had other bytes than are held back under the same numbers. */
  diverged = 0;
  /** Acknowledgements that say the same again while data is under way. */
  duplicate_acks = 0;
  /** Probes of an idle connection. */
  keep_alives = 0;
  /** Probes of the other side's closed window. */
  window_probes = 0;
  /** How often the side closed its receive window. */
  zero_windows = 0;
  /** Segments with urgent data. */
  urgent = 0;
  /** Resets. */
  resets = 0;
  /** Segments that were left out: before the first byte, behind the end, or further ahead than any window reaches. */
  left_out = 0;
}

/** One end of a conversation, and what it has sent. */
export class Side {
  /** Which end it is. */
  role: Role;
  /** Its address; IPv6 without brackets. */
  readonly address: string;
  /** Its port. */
  readonly port: number;
  /** The initial sequence number; undefined where its SYN was not captured. */
  isn: number | undefined;
  /** Sequence number of the first byte that is told; undefined where nothing was seen of its stream. */
  first: number | undefined;
  /** The options of its SYN; undefined where that was not captured. */
  options: SynOptions | undefined;
  /** Whether its FIN was seen. */
  finished = false;
  /** Totals. */
  readonly counts: SideCounts = new SideCounts();

  /** The end at `address` and `port`. */
  constructor(role: Role, address: string, port: number) {
    this.role = role;
    this.address = address;
    this.port = port;
  }

  /** `address:port`, as events name an end. */
  get endpoint(): string {
    return formatEndpoint(this.address, this.port);
  }
}

/**
 * One connection. Times are in microseconds since the Unix epoch, as the capture has them. An object is the same from
 * the sink's first call for the conversation to the last, and its fields are up to date in each.
 */
export class Conversation {
  /** Number in the capture, from 0, in the order of first segments. */
  readonly number: number;
  /** The end that opened the connection. */
  client: Side;
  /** The end that was asked. */
  server: Side;
  /** What says so. */
  rolesBy: RolesBy;
  /** Time of the first segment. */
  readonly begin: number;
  /** Time of the last segment so far. */
  end: number;
  /** What of the handshake was captured. */
  handshake: Handshake = "none";
  /** From the client's SYN to its acknowledgement of the server's, in microseconds, where both were captured. */
  handshakeMicros: number | undefined;

  /** A conversation whose first segment came at `begin`. */
  constructor(number: number, client: Side, server: Side, rolesBy: RolesBy, begin: number) {
    this.number = number;
    this.client = client;
    this.server = server;
    this.rolesBy = rolesBy;
    this.begin = begin;
    this.end = begin;
  }
}

/**
 * Is told of all conversations of a capture while it is read; several are open at a time. For one conversation the
 * calls come in the order of cause and effect: bytes of a side come after those of the other side that they
 * acknowledge. Else the order is the capture's. `from` is always `conversation.client` or `conversation.server`.
 */
export interface ConversationSink {
  /** A conversation begins: with its SYN, or with the first that is to be told of it. */
  open(conversation: Conversation): void;
  /**
   * The next `length` bytes of a side, captured at `time` (microseconds since the Unix epoch): they stand in `memory`
   * from `at` on, until this call returns. Who wants to keep them, copies them. Each byte of a stream comes once.
   */
  data(
    conversation: Conversation,
    from: Side,
    memory: Uint8Array,
    at: number,
    length: number,
    time: number,
  ): void;
  /** The next `length` bytes of a side, at least 1, are not in the capture. */
  missing(conversation: Conversation, from: Side, length: number, time: number): void;
  /** A side's stream has ended, with its FIN; the other may go on. */
  finish(conversation: Conversation, from: Side, time: number): void;
  /**
   * Something about a segment of `from` is remarkable: sequence number `seq` and `length` say which bytes; `length` may
   * be 0. Notes come when the segment is read; they do not wait for bytes that are missing.
   */
  note?(
    conversation: Conversation,
    from: Side,
    kind: NoteKind,
    seq: number,
    length: number,
    time: number,
  ): void;
  /** The conversation is over, and nothing more is told of it. `by` is the side that sent the reset. */
  close(conversation: Conversation, how: Ending, time: number, by?: Side): void;
  /** Whether the sink can take no more for now. What it returns is waited for before the next frame is read. */
  busy?(): Promise<void> | undefined;
}
