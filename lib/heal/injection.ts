/**
 * Giving a replica its client's bytes: segments to its own stack.
 *
 * @module
 */
import type { Injector } from "../../ffi/libpcap.ts";
import { type PacketSocket, VNET_HEADER, writeVnetHeader } from "../../ffi/packet_socket.ts";
import { FLOW } from "../flow/layout.ts";
import { Flag, headersOf, payloadRoom, SegmentFrames } from "../takeover/frames.ts";
import { holdOf } from "./flow_view.ts";
import type { FlowPlace } from "../takeover/segments.ts";

const ONE_BYTE = new Uint8Array(1);
const NOTHING = new Uint8Array(0);

/** Segments that go as one, where the kernel takes large ones. */
const TOGETHER = 32;
/** And their payload at most, in bytes. */
const MAX_LARGE = 48 * 1024;

/** Builds the segments, and sends them inward. */
export class Injection {
  readonly #inward: Pick<Injector, "send">;
  readonly #large: Pick<PacketSocket, "send"> | undefined;
  readonly #mtu: number;
  readonly #frames = new SegmentFrames();
  readonly #buffer = new Uint8Array(VNET_HEADER + 0xffff);
  readonly #header = new DataView(this.#buffer.buffer, 0, VNET_HEADER);

  /**
   * `inward` sends to the replica's own stack, through an interface of `mtu` bytes; `large` does so with several
   * segments at once, as segmentation offload has them, which costs little more than one.
   */
  constructor(
    inward: Pick<Injector, "send">,
    mtu: number,
    large?: Pick<PacketSocket, "send">,
  ) {
    this.#inward = inward;
    this.#mtu = mtu;
    this.#large = large;
  }

  /** How much one segment of the flow carries. */
  room({ keys, keyAt, flows, at }: FlowPlace): number {
    return payloadRoom(keys, keyAt, flows, at, this.#mtu);
  }

  /** How much can be given to the flow at once: one segment, or several. */
  most(place: FlowPlace): number {
    const room = this.room(place);
    if (this.#large === undefined) return room;
    return Math.max(1, Math.min(TOGETHER, Math.floor(MAX_LARGE / room))) * room;
  }

  /** Gives the replica `payload`, of at most {@linkcode Injection.most} bytes, as what the client sent from `seq` on. */
  data(place: FlowPlace, settling: boolean, seq: number, payload: Uint8Array): void {
    const size = this.room(place);
    if (payload.length <= size || this.#large === undefined) {
      return this.#send(place, settling, seq, payload, Flag.ACK | Flag.PSH);
    }
    const { keys, keyAt, flows, at } = place;
    writeVnetHeader(this.#header, { ...headersOf(keys, keyAt, flows, at), size });
    const frame = this.#build(place, settling, seq, payload, Flag.ACK | Flag.PSH, true);
    this.#buffer.set(frame, VNET_HEADER);
    this.#large.send(this.#buffer.subarray(0, VNET_HEADER + frame.length));
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
    this.#inward.send(this.#build(place, settling, seq, payload, flags, false));
  }

  #build(
    place: FlowPlace,
    settling: boolean,
    seq: number,
    payload: Uint8Array,
    flags: number,
    partial: boolean,
  ): Uint8Array<ArrayBuffer> {
    const { keys, keyAt, flows, at } = place;
    const { ack, window } = holdOf(place, settling);
    const segment = { toClient: false, seq, ack, window, flags, payload, partial };
    return this.#frames.build(keys, keyAt, flows, at, segment);
  }
}
