/**
 * What a failure detector says.
 *
 * @module
 */
import * as v from "valibot";
import { choice, count, flag, instant, list, text } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

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
  /** False where a fence that must be up before a takeover could not be put up; absent otherwise. */
  fenced?: boolean;
}

/** The events of a failure detector and the fields of each. */
export interface DetectorEvents {
  /** The target answers, for the first time. */
  "up": TargetFields;
  /** The target is late. */
  "suspect": SuspectFields;
  /** The target has failed. */
  "failed": FailedFields;
  /** The target answers again. */
  "recovered": TargetFields;
}

const target = { target: text("Name of the watched host") };
const lastSeen = instant("When the target was last heard");

/** The events of a failure detector and their schemas. */
export const detectorEvents: Descriptions<DetectorEvents> = {
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
    fenced: v.optional(flag("False where a fence that must be up could not be; absent otherwise")),
  }),
  "recovered": essential("The target answers again after it was late or had failed", target),
};
