/**
 * What is said of one flow.
 *
 * @module
 */
import { count, millis, sequence, text } from "../field.ts";
import { type Descriptions, droppable, essential } from "./description.ts";

/** Fields of the events about one flow. */
export interface FlowFields {
  /** The client's end, `address:port`. */
  client: string;
  /** The service's end, `address:port`. */
  server: string;
}

/** Fields of `flow.close`. */
export interface FlowCloseFields extends FlowFields {
  /** How it ended, for a person. */
  reason: string;
}

/** Fields of `flow.unprotected`. */
export interface FlowUnprotectedFields extends FlowFields {
  /** Why the flow has no replica, for a person. */
  reason: string;
}

/** Fields of `gap`. */
export interface GapFields extends FlowFields {
  /** Sequence number of the first missing byte. */
  from: number;
  /** Sequence number behind the last missing byte. */
  to: number;
}

/** Fields of `lag`. */
export interface LagFields extends FlowFields {
  /** How many bytes the replica acknowledges less than the primary. */
  bytes: number;
}

/** Fields of `healed`. */
export interface HealedFields extends GapFields {
  /** How many bytes were given to the replica. */
  bytes: number;
  /** From the gap, or where none was reported, from when it was seen, to the replica's acknowledgement, in milliseconds. */
  took_ms: number;
}

/** Fields of `diverged`. */
export interface DivergedFields extends FlowFields {
  /** Sequence number of the first byte that differs. */
  offset: number;
}

/** The events about one flow and the fields of each. */
export interface FlowEvents {
  /** A flow has its replica. */
  "flow.open": FlowFields;
  /** A flow has ended. */
  "flow.close": FlowCloseFields;
  /** A flow has no replica. */
  "flow.unprotected": FlowUnprotectedFields;
  /** The tap missed bytes that the primary has acknowledged. */
  "gap": GapFields;
  /** A replica has been behind its primary for long. */
  "lag": LagFields;
  /** A replica has got the bytes that it lacked. */
  "healed": HealedFields;
  /** A client has sent other bytes under numbers that it had used before. */
  "diverged": DivergedFields;
}

const flow = {
  client: text("The client's end, address:port, IPv6 in brackets"),
  server: text("The service's end, address:port, IPv6 in brackets"),
};

/** The events about one flow and their schemas. */
export const flowEvents: Descriptions<FlowEvents> = {
  "flow.open": droppable("A flow has its replica", flow),
  "flow.close": droppable("A flow has ended, and its replica with it", {
    ...flow,
    reason: text("How it ended, for a person"),
  }),
  "flow.unprotected": essential("A flow has no replica, or one that may lack bytes of the client", {
    ...flow,
    reason: text("Why, for a person"),
  }),
  "gap": essential("The tap missed bytes of the client that the primary has acknowledged", {
    ...flow,
    from: sequence("Sequence number of the first missing byte"),
    to: sequence("Sequence number behind the last missing byte"),
  }),
  "lag": essential("A replica has acknowledged less than its primary for long", {
    ...flow,
    bytes: count("How much less"),
  }),
  "healed": essential("A replica has got the bytes that it lacked, and acknowledged them", {
    ...flow,
    from: sequence("Sequence number of the first byte"),
    to: sequence("Sequence number behind the last byte"),
    bytes: count("How many bytes were given to the replica"),
    took_ms: millis("From the gap, or else from when it was seen, to the acknowledgement"),
  }),
  "diverged": essential("A client has sent other bytes under numbers that it had used before", {
    ...flow,
    offset: sequence("Sequence number of the first byte that differs"),
  }),
};
