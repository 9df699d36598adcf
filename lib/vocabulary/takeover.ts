/**
 * What the commands of a takeover say.
 *
 * @module
 */
import * as v from "valibot";
import { count, flag, instant, millis, numbers, texts } from "../field.ts";
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

/** The events of a takeover and the fields of each. */
export interface TakeoverEvents {
  /** The backup has taken over. */
  "active": ActiveFields;
}

/** The events of a takeover and their schemas. */
export const takeoverEvents: Descriptions<TakeoverEvents> = {
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
