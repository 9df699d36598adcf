/**
 * Giving a replica its client's bytes: segments to its own stack.
 *
 * @module
 */
import type { Injector } from "../../ffi/libpcap.ts";
import { FLOW } from "../flow/layout.ts";
import { Flag, payloadRoom, SegmentFrames } from "../takeover/frames.ts";
import { holdOf } from "./flow_view.ts";
import type { FlowPlace } from "../takeover/segments.ts";

const ONE_BYTE = new Uint8Array(1);
const NOTHING = new Uint8Array(0);

/** Builds the segments, and sends them inward. */
export class Injection {
  readonly #inward: Pick<Injector, "send">;
  readonly #mtu: number;
  readonly #frames = new SegmentFrames();

  /** `inward` sends to the replica's own stack, through an interface of `mtu` bytes. */
  constructor(inward: Pick<Injector, "send">, mtu: number) {
    this.#inward = inward;
    this.#mtu = mtu;
  }

  /** How much one segment of the flow carries. */
  room({ keys, keyAt, flows, at }: FlowPlace): number {
    return payloadRoom(keys, keyAt, flows, at, this.#mtu);
  }

  /** Gives the replica `payload`, of at most {@linkcode Injection.room} bytes, as what the client sent from `seq` on. */
  data(place: FlowPlace, settling: boolean, seq: number, payload: Uint8Array): void {
    this.#send(place, settling, seq, payload, Flag.ACK | Flag.PSH);
  }

  /** Gives the replica the client's FIN. */
  fin(place: FlowPlace, settling: boolean, seq: number): void {
    this.#send(place, settling, seq, NOTHING, Flag.ACK | Flag.FIN);
  }

  /** Makes the replica acknowledge at once, by a byte that it has already. */
  probe(place: FlowPlace, settling: boolean): void {
    const { flows, at } = place;
    const seq = (flows.getUint32(at + FLOW.replica_ack, true) - 1) >>> 0;
    this.#send(place, settling, seq, ONE_BYTE, Flag.ACK);
  }

  #send(
    place: FlowPlace,
    settling: boolean,
    seq: number,
    payload: Uint8Array,
    flags: number,
  ): void {
    const { keys, keyAt, flows, at } = place;
    const { ack, window } = holdOf(place, settling);
    const segment = { toClient: false, seq, ack, window, flags, payload };
    this.#inward.send(this.#frames.build(keys, keyAt, flows, at, segment));
  }
}
