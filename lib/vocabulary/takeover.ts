/**
 * What the commands of a takeover say.
 *
 * @module
 */
import * as v from "valibot";
import { count, flag, instant, millis, numbers, text, texts } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

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
  /** True where the backup had taken over before, and was only asked again; absent otherwise. */
  already?: boolean;
  /** The service addresses of which a neighbour is seen to send to this host already. */
  claimed?: string[];
  /** From the trigger to the last step, in milliseconds. */
  took_ms: number;
  /** When each step ended, in milliseconds since the trigger, by the step's name. */
  steps: Record<string, number>;
}

/** Fields of `frozen`. */
export interface FrozenFields {
  /** How many flows are frozen. */
  flows: number;
  /** How long at most, in milliseconds. */
  lease_ms: number;
  /** From the trigger until every client had been told, in milliseconds. */
  took_ms: number;
}

/** Fields of `frozen.stopped`. */
export interface FrozenStoppedFields {
  /** How many flows are frozen. */
  flows: number;
  /** How many of them send nothing new. */
  stopped: number;
}

/** Fields of `thawed`. */
export interface ThawedFields {
  /** How many flows were frozen. */
  flows: number;
  /** Why: the type of an event, such as `active` or `recovered`; `asked`, `lease`, `stopped`. */
  reason: string;
}

/** The events of a takeover and the fields of each. */
export interface TakeoverEvents {
  /** The clients of flows are told that the window is closed. */
  "frozen": FrozenFields;
  /** How many of these clients obey. */
  "frozen.stopped": FrozenStoppedFields;
  /** They are told that it is open again. */
  "thawed": ThawedFields;
  /** The backup has taken over. */
  "active": ActiveFields;
}

/** The events of a takeover and their schemas. */
export const takeoverEvents: Descriptions<TakeoverEvents> = {
  "frozen": essential("The clients of some flows are told that the window is closed", {
    flows: count("How many flows are frozen"),
    lease_ms: millis("How long at most"),
    took_ms: millis("From the trigger until every client had been told"),
  }),
  "frozen.stopped": essential("The clients of frozen flows were watched for a while", {
    flows: count("How many flows are frozen"),
    stopped: count("How many of them send nothing new"),
  }),
  "thawed": essential("The clients of frozen flows are told that the window is open again", {
    flows: count("How many flows were frozen"),
    reason: text("Why: the type of an event, such as active; or asked, lease or stopped"),
  }),
  "active": essential("The backup has taken over and answers the clients", {
    trigger: v.optional(instant("When the event came that asked for it")),
    services: v.optional(texts("The services that the backup answers for")),
    flows: count("How many flows were taken over"),
    flows_behind: v.optional(count("How many of them have a replica that lacks bytes still")),
    flows_lost: v.optional(count("How many flows had lost their replica, and are reset")),
    already: v.optional(flag("True where the backup had taken over before; absent otherwise")),
    claimed: v.optional(texts("Addresses that the neighbours are seen to send to here already")),
    took_ms: millis("From the trigger to the last step"),
    steps: numbers("When each step ended, in milliseconds since the trigger, by its name"),
  }),
};
