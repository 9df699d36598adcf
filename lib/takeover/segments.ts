/**
 * What a takeover sends for one flow: segments that wake it, or end it where its replica is not whole.
 *
 * @module
 */
import type { Injector } from "../../ffi/libpcap.ts";
import { FLOW, FLOW_KEY } from "../flow/layout.ts";
import { after } from "../flow/sequence.ts";
import { Flag, NOTHING, SegmentFrames } from "./frames.ts";

/** Where a flow stands in what a map gave: its key at `keyAt` in `keys`, itself at `at` in `flows`. */
export interface FlowPlace {
  /** Flow keys, one behind the other. */
  keys: DataView;
  /** Offset of the flow's key. */
  keyAt: number;
  /** Flows, one behind the other. */
  flows: DataView;
  /** Offset of the flow. */
  at: number;
}

/** How many bytes of the client the primary has acknowledged and the replica lacks. */
export function missingBytes({ flows, at }: FlowPlace): number {
  const primary = flows.getUint32(at + FLOW.primary_ack, true);
  const replica = flows.getUint32(at + FLOW.replica_ack, true);
  return after(primary, replica) ? (primary - replica) >>> 0 : 0;
}

/** How many of them the tap never showed, so that they cannot be on their way to the replica. */
export function lostBytes(place: FlowPlace): number {
  const { flows, at } = place;
  const primary = flows.getUint32(at + FLOW.primary_ack, true);
  const shown = flows.getUint32(at + FLOW.client_next, true);
  return after(primary, shown) ? Math.min((primary - shown) >>> 0, missingBytes(place)) : 0;
}

/** Whether the client has sent bytes behind others that the replica lacks. */
export function hasHole({ flows, at }: FlowPlace): boolean {
  const shown = flows.getUint32(at + FLOW.client_next, true);
  const replica = flows.getUint32(at + FLOW.replica_ack, true);
  const whole = after(replica, shown) ? replica : shown;
  return after(flows.getUint32(at + FLOW.client_end, true), whole);
}

/** The most that a replica sends at once while it is ambiguous what its client acknowledges: MOST_AT_ONCE in hold.h. */
const MOST_AT_ONCE = 0x10000;

/** The window that wakes the replica, seen from `ack`, unscaled: settling_window in hold.h, which says why. */
function settlingWindow({ flows, at }: FlowPlace, ack: number): number {
  const scale = flows.getUint8(at + FLOW.client_wscale) & 15;
  const clientAck = flows.getUint32(at + FLOW.client_ack, true);
  const primaryEnd = flows.getUint32(at + FLOW.primary_end, true);
  const bytes = flows.getUint16(at + FLOW.client_window, true) << scale;
  const most = after(primaryEnd, clientAck)
    ? Math.max(((primaryEnd - clientAck) >>> 0) / 2, MOST_AT_ONCE)
    : Infinity;
  return Math.min((Math.min(bytes, most) + ((clientAck - ack) >>> 0)) >>> scale, 0xffff);
}

/** The flow's key as text. */
export function nameOf({ keys, keyAt }: FlowPlace): string {
  return decoder.decode(new Uint8Array(keys.buffer, keys.byteOffset + keyAt, FLOW_KEY.size));
}

const decoder = new TextDecoder("latin1");

const ONE_BYTE = new Uint8Array(1);

/** Sends segments of flows. */
export class FlowSegments {
  readonly #wire: Pick<Injector, "send">;
  readonly #inward: Pick<Injector, "send">;
  readonly #frames = new SegmentFrames();

  /** `wire` sends to the clients, `inward` to the replica's own stack. */
  constructor(wire: Pick<Injector, "send">, inward: Pick<Injector, "send">) {
    this.#wire = wire;
    this.#inward = inward;
  }

  /**
   * Wakes the flow from both ends: the client's acknowledgement with its real window starts a replica that waits to
   * send; a segment with an old sequence number makes the replica acknowledge, which starts a client that waits.
   */
  wake(place: FlowPlace): void {
    const { keys, keyAt, flows, at } = place;
    const clientAck = flows.getUint32(at + FLOW.client_ack, true);
    const replicaEnd = flows.getUint32(at + FLOW.replica_end, true);
    const ack = after(clientAck, replicaEnd) ? replicaEnd : clientAck;
    const segment = {
      toClient: false,
      // The highest number: the replica takes a window from no older segment (RFC 9293 section 3.10.7.4).
      seq: flows.getUint32(at + FLOW.client_end, true),
      ack,
      window: settlingWindow(place, ack),
      flags: Flag.ACK,
      payload: NOTHING,
    };
    this.#inward.send(this.#frames.build(keys, keyAt, flows, at, segment));
    // With a byte, as a keep-alive of old: the kernel rations its answers to empty ones (tcp_invalid_ratelimit).
    segment.seq = (flows.getUint32(at + FLOW.replica_ack, true) - 1) >>> 0;
    segment.payload = ONE_BYTE;
    this.#inward.send(this.#frames.build(keys, keyAt, flows, at, segment));
  }

  /** Resets the flow at both ends; RFC 5961 wants the exact numbers. */
  reset({ keys, keyAt, flows, at }: FlowPlace): void {
    const toReplica = {
      toClient: false,
      seq: flows.getUint32(at + FLOW.replica_ack, true),
      ack: 0,
      window: 0,
      flags: Flag.RST,
      payload: NOTHING,
    };
    this.#inward.send(this.#frames.build(keys, keyAt, flows, at, toReplica));
    const toClient = {
      toClient: true,
      seq: flows.getUint32(at + FLOW.client_ack, true),
      ack: flows.getUint32(at + FLOW.client_end, true),
      window: 0,
      flags: Flag.RST | Flag.ACK,
      payload: NOTHING,
    };
    this.#wire.send(this.#frames.build(keys, keyAt, flows, at, toClient));
  }
}
