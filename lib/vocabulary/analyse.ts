/**
 * What the analysis of a capture says.
 *
 * @module
 */
import * as v from "valibot";
import type { Ending, Handshake, NoteKind, Role, RolesBy } from "../conversation/conversation.ts";
import { choice, count, flag, instant, millis, numbers, sequence, text, texts } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

const roles: Role[] = ["client", "server"];
const rolesBy: RolesBy[] = ["syn", "service", "port", "first"];
const handshakes: Handshake[] = ["whole", "partial", "none"];
const endings: Ending[] = ["fin", "reset", "timeout", "capture", "reused", "evicted"];
const kinds: (NoteKind | "missing")[] = [
  "missing",
  "retransmission",
  "out_of_order",
  "diverged",
  "keep_alive",
  "window_probe",
  "urgent",
  "zero_window",
  "window_open",
  "reset",
  "reset_ignored",
  "outside",
  "before",
];

/** Fields that name a conversation. */
export interface ConversationFields {
  /** Its number in the capture, from 0. */
  flow: number;
  /** The client's end, `address:port`. */
  client: string;
  /** The server's end, `address:port`. */
  server: string;
}

/** Fields of `analyse.flow`. */
export interface AnalyseFlowFields extends ConversationFields {
  /** What tells client from server. */
  roles_by: RolesBy;
  /** When the first segment was captured. */
  began: string;
  /** From the first segment to the last, in milliseconds. */
  lasted_ms: number;
  /** What of the handshake was captured. */
  handshake: Handshake;
  /** From the client's SYN to its acknowledgement of the server's, in milliseconds. */
  handshake_ms?: number;
  /** How it ended. */
  ended: Ending;
  /** Who sent the reset that ended it. */
  reset_by?: Role;
  /** The client's initial sequence number. */
  client_isn?: number;
  /** The server's initial sequence number. */
  server_isn?: number;
  /** Maximum segment size in the client's SYN. */
  client_mss?: number;
  /** Maximum segment size in the server's SYN. */
  server_mss?: number;
  /** Window scale in the client's SYN. */
  client_wscale?: number;
  /** Window scale in the server's SYN. */
  server_wscale?: number;
  /** Further options of the client's SYN. */
  client_options?: string[];
  /** Further options of the server's SYN. */
  server_options?: string[];
  /** What the client has sent, by name. */
  client_sent: Record<string, number>;
  /** What the server has sent, by name. */
  server_sent: Record<string, number>;
}

/** Fields of `analyse.note`. */
export interface AnalyseNoteFields extends ConversationFields {
  /** Who sent the segment, or should have. */
  from: Role;
  /** What is remarkable. */
  kind: NoteKind | "missing";
  /** Sequence number of the first byte that it is about. */
  seq: number;
  /** How many bytes it is about. */
  bytes: number;
}

/** Fields of `analyse.result`. */
export interface AnalyseResultFields {
  /** The capture file. */
  capture: string;
  /** Whether it was read to its end. */
  complete: boolean;
  /** How many conversations there were. */
  flows: number;
  /** How many frames there were. */
  frames: number;
  /** Bytes of payload, each counted once. */
  bytes: number;
  /** Bytes that the capture lacks. */
  missing_bytes: number;
  /** Everything that was counted, by name. */
  totals: Record<string, number>;
}

/** The events of the analysis and the fields of each. */
export interface AnalyseEvents {
  /** A conversation of the capture. */
  "analyse.flow": AnalyseFlowFields;
  /** Something remarkable in a conversation. */
  "analyse.note": AnalyseNoteFields;
  /** The whole capture. */
  "analyse.result": AnalyseResultFields;
}

const conversation = {
  flow: count("Its number in the capture, from 0"),
  client: text("The client's end, address:port, IPv6 in brackets"),
  server: text("The server's end, address:port, IPv6 in brackets"),
};
const mss = "Maximum segment size in the SYN of the";
const wscale = "Window scale in the SYN of the";
const options = "Further options in the SYN of the";
const isn = "Initial sequence number of the";

/** The events of the analysis and their schemas. */
export const analyseEvents: Descriptions<AnalyseEvents> = {
  "analyse.flow": essential("A conversation of the capture, once it has ended", {
    ...conversation,
    roles_by: choice(rolesBy, "What tells client from server: syn, service, port or first"),
    began: instant("When the first segment was captured"),
    lasted_ms: millis("From the first segment to the last"),
    handshake: choice(handshakes, "What of the handshake was captured: whole, partial or none"),
    handshake_ms: v.optional(
      millis("From the client's SYN to its acknowledgement of the server's"),
    ),
    ended: choice(endings, "How it ended: fin, reset, timeout, capture, reused or evicted"),
    reset_by: v.optional(choice(roles, "Who sent the reset that ended it")),
    client_isn: v.optional(sequence(`${isn} client`)),
    server_isn: v.optional(sequence(`${isn} server`)),
    client_mss: v.optional(count(`${mss} client`)),
    server_mss: v.optional(count(`${mss} server`)),
    client_wscale: v.optional(count(`${wscale} client`)),
    server_wscale: v.optional(count(`${wscale} server`)),
    client_options: v.optional(texts(`${options} client`)),
    server_options: v.optional(texts(`${options} server`)),
    client_sent: numbers("What the client has sent: segments, bytes and what is remarkable"),
    server_sent: numbers("What the server has sent: segments, bytes and what is remarkable"),
  }),
  "analyse.note": essential("Something remarkable in a conversation", {
    ...conversation,
    from: choice(roles, "Who sent the segment, or should have: client or server"),
    kind: choice(kinds, "What is remarkable"),
    seq: sequence("Sequence number of the first byte that it is about"),
    bytes: count("How many bytes it is about"),
  }),
  "analyse.result": essential("The whole capture, at its end", {
    capture: text("The capture file"),
    complete: flag("Whether it was read to its end"),
    flows: count("How many conversations there were"),
    frames: count("How many frames there were"),
    bytes: count("Bytes of payload, each counted once"),
    missing_bytes: count("Bytes that the capture lacks"),
    totals: numbers("Everything that was counted, by name"),
  }),
};
