/**
 * What the BPF programs of shadow and mirror report: the records of their ring buffers, as `ffi/bpf/layout.h` pins them.
 *
 * @module
 */
import { FLOW_KEY, type FlowEnds, readFlowKey } from "./layout.ts";

/** `struct event`: offsets and size. */
export const EVENT = {
  type: 0,
  reason: 4,
  ns: 8,
  key: 16,
  detail: 52,
  from: 56,
  to: 60,
  size: 64,
} as const;

/** The event types of `enum event_type`, by number. */
export const eventTypes: readonly (string | undefined)[] = [
  undefined,
  "flow.open",
  "flow.close",
  "flow.unprotected",
  "gap",
  "lag",
];

/** The reasons of `enum reason`, by number, for a person. */
export const reasons: readonly string[] = [
  "none",
  "both sides closed",
  "reset by the client",
  "reset by the primary",
  "the client opened the same addresses and ports anew",
  "its handshake was not seen",
  "nobody listens on the backup",
  "an older socket of the backup holds its addresses and ports",
  "the kernel refused the replica's socket",
  "the flow table is full",
  "the replica reset it by itself",
  "its replica did not acknowledge in time",
  "the backup is silent",
  "its replica's window stayed closed",
  "the client's MSS is too small",
];

/** The index of a replica's reset in {@linkcode reasons}: the primary may be about to reset the flow, too. */
export const REPLICA_RESET = 10;

/** A record of the ring buffer. */
export interface FlowEvent extends FlowEnds {
  /** One of {@linkcode eventTypes}. */
  type: string;
  /** Index into {@linkcode reasons}. */
  reason: number;
  /** The flow's `struct flow_key`. */
  key: Uint8Array<ArrayBuffer>;
  /** CLOCK_MONOTONIC in nanoseconds. */
  ns: number;
  /** An errno where the reason has one. */
  detail: number;
  /** Of a gap or lag: the sequence number of its first byte. */
  from: number;
  /** Of a gap or lag: the sequence number behind its last byte. */
  to: number;
}

/** Reads a `struct event`; undefined where its type is not known. */
export function readFlowEvent(view: DataView): FlowEvent | undefined {
  if (view.byteLength < EVENT.size) return undefined;
  const type = eventTypes[view.getUint32(EVENT.type, true)];
  if (type === undefined) return undefined;
  return {
    type,
    reason: view.getUint32(EVENT.reason, true),
    key: new Uint8Array(view.buffer, view.byteOffset + EVENT.key, FLOW_KEY.size).slice(),
    ns: Number(view.getBigUint64(EVENT.ns, true)),
    detail: view.getUint32(EVENT.detail, true),
    from: view.getUint32(EVENT.from, true),
    to: view.getUint32(EVENT.to, true),
    ...readFlowKey(view, EVENT.key),
  };
}
