/**
 * `t2cp replay CAPTURE --to …`: its flags.
 *
 * @module
 */
import {
  type Mapping,
  parseCapturedEndpoint,
  parseMapping,
  parsePartialEndpoint,
  type PartialEndpoint,
} from "../../lib/replay/targets.ts";
import { parsePositive, parseSize, wholeNumber } from "../common/flags.ts";

/** What the flags of the player say. */
export interface PlayFlags {
  /** The live server. */
  to?: PartialEndpoint;
  /** Live servers for captured ones. */
  map?: readonly Mapping[];
  /** How much faster than captured. */
  speed?: number;
  /** As fast as possible. */
  topSpeed: boolean;
  /** The longest pause, in seconds. */
  idleCap?: number;
  /** Connections at once. */
  concurrency?: number;
  /** How often the capture is played. */
  loop?: number;
  /** How many conversations, at most. */
  limit?: number;
  /** Only these clients. */
  client?: readonly PartialEndpoint[];
  /** Only these conversations. */
  flow?: readonly number[];
  /** The longest wait, in seconds. */
  wait?: number;
  /** How long an answer that lacks bytes is silent before it has ended, in seconds. */
  settle?: number;
  /** How late a message may be, in seconds. */
  maxLag?: number;
  /** What may differ. */
  mask?: readonly string[];
  /** Learn from two runs what may differ. */
  learnMask: boolean;
  /** Bytes too many. */
  excess?: number;
  /** Memory for what waits to be played, in bytes. */
  readAhead?: number;
}

/**
 * The flags of the player.
 *
 * @ignore
 */
export const playFlags = {
  to: {
    kind: "parsed",
    parse: parsePartialEndpoint,
    brief: "Play the conversations to this live server; without a port, to the captured ones",
    placeholder: "HOST:PORT",
    optional: true,
  },
  map: {
    kind: "parsed",
    parse: parseMapping,
    brief: "Another live server for captured ADDRESS, ADDRESS:PORT or :PORT; may be repeated",
    placeholder: "FROM=TO",
    variadic: true,
    optional: true,
  },
  speed: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Play so many times as fast as captured; 1 unless given",
    placeholder: "N",
    optional: true,
  },
  topSpeed: {
    kind: "boolean",
    brief: "Play as fast as the server answers",
    default: false,
    withNegated: false,
  },
  idleCap: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Shorten longer pauses of the capture to so many seconds",
    placeholder: "SECONDS",
    optional: true,
  },
  concurrency: {
    kind: "parsed",
    parse: wholeNumber(1, 1_000_000),
    brief: "Conversations at once, at most; 10000 unless given",
    placeholder: "N",
    optional: true,
  },
  loop: {
    kind: "parsed",
    parse: wholeNumber(1, 1_000_000_000),
    brief: "Play the capture so many times; once unless given",
    placeholder: "N",
    optional: true,
  },
  limit: {
    kind: "parsed",
    parse: wholeNumber(1, 1_000_000_000_000),
    brief: "Play so many conversations, at most",
    placeholder: "N",
    optional: true,
  },
  client: {
    kind: "parsed",
    parse: parseCapturedEndpoint,
    brief: "Play only conversations of this captured client; may be repeated",
    placeholder: "ADDRESS[:PORT]",
    variadic: true,
    optional: true,
  },
  flow: {
    kind: "parsed",
    parse: wholeNumber(0, 1_000_000_000_000),
    brief: "Play only the conversation of this number, as --analyse counts; may be repeated",
    placeholder: "N",
    variadic: true,
    optional: true,
  },
  wait: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Longest wait for a connection, an answer, or the server's reading; 10 unless given",
    placeholder: "SECONDS",
    optional: true,
  },
  settle: {
    kind: "parsed",
    parse: parsePositive,
    brief: "An answer that lacks bytes has ended after such a silence; 1 unless given",
    placeholder: "SECONDS",
    optional: true,
  },
  maxLag: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Skip a conversation that gets so many seconds late, as live traffic may",
    placeholder: "SECONDS",
    optional: true,
  },
  mask: {
    kind: "parsed",
    parse: String,
    brief: "What may differ in a line of an answer, or a preset such as @http; may be repeated",
    placeholder: "REGEX",
    variadic: true,
    optional: true,
  },
  learnMask: {
    kind: "boolean",
    brief: "Play twice, and mask what differs between the two runs; implies --mask @http",
    default: false,
    withNegated: false,
  },
  excess: {
    kind: "parsed",
    parse: parseSize(0, 2 ** 40),
    brief: "Give a server up that says so much more than captured; 16M unless given",
    placeholder: "SIZE",
    optional: true,
  },
  readAhead: {
    kind: "parsed",
    parse: parseSize(1 << 16, 2 ** 40),
    brief: "Memory for what was read and not yet played; 64M unless given",
    placeholder: "SIZE",
    optional: true,
  },
} as const;
