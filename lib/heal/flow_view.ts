/**
 * One flow as the shadow's map holds it, read again and again while it is healed.
 *
 * @module
 */
import { FLOW, FLOW_KEY, type FlowEnds, readFlowKey } from "../flow/layout.ts";
import { after, earlier } from "../flow/sequence.ts";
import type { FlowPlace } from "../takeover/segments.ts";

/** Where flows are looked up: the map `flows` of the shadow. */
export interface FlowMap {
  /** Reads the flow of `key` into `value`; false where there is none. */
  lookup(key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>): boolean;
}

/** The bytes that acknowledgement and window say the replica takes, whatever has come since. */
export function rightEdge({ flows, at }: FlowPlace): number {
  const scale = flows.getUint8(at + FLOW.primary_wscale) & 15;
  const window = flows.getUint16(at + FLOW.replica_window, true) << scale;
  return (flows.getUint32(at + FLOW.replica_ack, true) + window) >>> 0;
}

/**
 * Acknowledgement and window for a segment of the client's, by the rule of the hold (`ffi/bpf/hold.h`): in shadow mode
 * the window ends at what the client has acknowledged, so that the replica has nothing in flight; after the takeover it
 * is the client's.
 */
export function holdOf(
  { flows, at }: FlowPlace,
  settling: boolean,
): { ack: number; window: number } {
  const clientAck = flows.getUint32(at + FLOW.client_ack, true);
  const ack = earlier(clientAck, flows.getUint32(at + FLOW.replica_end, true));
  if (settling) return { ack, window: flows.getUint16(at + FLOW.client_window, true) };
  const open = flows.getUint8(at + FLOW.primary_fin) !== 0 &&
    clientAck === flows.getUint32(at + FLOW.primary_end, true);
  const bytes = ((clientAck - ack) >>> 0) + (open ? 0x10000 : 0);
  const scale = flows.getUint8(at + FLOW.client_wscale) & 15;
  return { ack, window: Math.min(bytes >>> scale, 0xffff) };
}

/** See the module. */
export class FlowView {
  /** The flow's `struct flow_key`. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** Its client and service. */
  readonly ends: FlowEnds;
  /** Where key and flow stand. */
  readonly place: FlowPlace;
  readonly #map: FlowMap;
  readonly #value: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW.size);
  #irs: number | undefined;
  #iss: number | undefined;

  /** Reads nothing yet. */
  constructor(map: FlowMap, key: Uint8Array<ArrayBuffer>) {
    this.#map = map;
    this.key = key;
    const keys = new DataView(key.buffer, key.byteOffset, FLOW_KEY.size);
    this.ends = readFlowKey(keys, 0);
    this.place = { keys, keyAt: 0, flows: new DataView(this.#value.buffer), at: 0 };
  }

  /** Reads the flow; false where it has gone, or is another one of the same ends. */
  refresh(): boolean {
    if (!this.#map.lookup(this.key, this.#value)) return false;
    const [irs, iss] = [this.#number(FLOW.irs), this.#number(FLOW.iss)];
    this.#irs ??= irs;
    this.#iss ??= iss;
    return irs === this.#irs && iss === this.#iss &&
      this.place.flows.getUint8(FLOW.replica_reset) === 0;
  }

  /** The replica's RCV.NXT, as far as it acknowledged. */
  get replicaAck(): number {
    return this.#number(FLOW.replica_ack);
  }

  /** The primary's RCV.NXT, as far as it acknowledged. */
  get primaryAck(): number {
    return this.#number(FLOW.primary_ack);
  }

  /** The right edge of the replica's window. */
  get right(): number {
    return rightEdge(this.place);
  }

  /** Whether `seq` is one that the flow can have: within 1 GiB of what the replica has. */
  isPlausible(seq: number): boolean {
    const ack = this.replicaAck;
    return !after(seq, (ack + 0x40000000) >>> 0) && !after((ack - 0x40000000) >>> 0, seq);
  }

  #number(offset: number): number {
    return this.place.flows.getUint32(offset, true);
  }
}
