/**
 * What the fence says.
 *
 * @module
 */
import * as v from "valibot";
import { count, flag, millis, numbers, text, texts } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

/** Fields of `fence.ready` and `fence.released`. */
export interface FenceServicesFields {
  /** The services, as `address:port`. */
  services: string[];
}

/** Fields of `fenced`. */
export interface FencedFields extends FenceServicesFields {
  /** True where the fence was up already; absent otherwise. */
  already?: boolean;
  /** From the event, or the request, to the last step, in milliseconds. */
  took_ms: number;
  /** When each step ended, in milliseconds since then, by the step's name. */
  steps: Record<string, number>;
}

/** Fields of `fence.exec`. */
export interface FenceExecFields {
  /** Whether the command ended in time and with status 0. */
  ok: boolean;
  /** Its exit status; absent where it had none. */
  status?: number;
  /** The signal that ended it. */
  signal?: string;
  /** Whether it took too long, and was ended by force. */
  timeout: boolean;
  /** The first line that it printed; absent where it printed nothing. */
  output?: string;
  /** How long it took, in milliseconds. */
  took_ms: number;
}

/** The events of the fence and the fields of each. */
export interface FenceEvents {
  /** A fence is in place, and not up yet. */
  "fence.ready": FenceServicesFields;
  /** The primary is silenced. */
  "fenced": FencedFields;
  /** The fence is down again. */
  "fence.released": FenceServicesFields;
  /** The command that goes with the fence has ended. */
  "fence.exec": FenceExecFields;
}

const services = { services: texts("The services, address:port") };

/** The events of the fence and their schemas. */
export const fenceEvents: Descriptions<FenceEvents> = {
  "fence.ready": essential(
    "A fence is in place: fenced will come before what asks for it",
    services,
  ),
  "fenced": essential("The primary is silenced: nothing of the services gets past the gateway", {
    ...services,
    already: v.optional(flag("True where it was silenced before; absent otherwise")),
    took_ms: millis("From the event, or the request, to the last step"),
    steps: numbers("When each step ended, in milliseconds since then, by its name"),
  }),
  "fence.released": essential("The fence is down: the primary may speak again", services),
  "fence.exec": essential("The command that goes with the fence has ended", {
    ok: flag("Whether it ended in time and with status 0"),
    status: v.optional(count("Its exit status; absent where it had none")),
    signal: v.optional(text("The signal that ended it")),
    timeout: flag("Whether it took too long, and was ended by force"),
    output: v.optional(text("The first line that it printed")),
    took_ms: millis("How long it took"),
  }),
};
