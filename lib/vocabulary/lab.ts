/**
 * What the lab says.
 *
 * @module
 */
import * as v from "valibot";
import { count, flag, measured, text } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

/** Fields of `lab.run`: what one run of a scenario measured. */
export interface LabRunFields {
  /** Whether all was as it should be. */
  ok: boolean;
  /** What the client did: `download`, `upload`, `echo`, `chat`, `connections`. */
  workload: string;
  /** What failed: `host`, `process`, `hang`, `planned`, or `none`. */
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

/** The events of the lab and the fields of each. */
export interface LabEvents {
  /** One run of a lab scenario. */
  "lab.run": LabRunFields;
  /** The end of a lab scenario. */
  "lab.result": LabResultFields;
  /** The lab did something. */
  "lab.mark": LabMarkFields;
}

const labRun = {
  ok: flag("Whether all was as it should be"),
  workload: text("What the client did: download, upload, echo, chat, connections"),
  failure: text("What failed: host, process, hang, planned, or none"),
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

/** The events of the lab and their schemas. */
export const labEvents: Descriptions<LabEvents> = {
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
