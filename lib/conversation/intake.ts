/**
 * What a segment means for its conversation.
 *
 * @module
 */
import { Control, type Segment } from "../packet/segment.ts";
import type { ConversationSink, NoteKind } from "./conversation.ts";
import type { Delivery } from "./delivery.ts";
import { Base, type Flow, type Stream } from "./flow.ts";
import { Handshakes } from "./handshakes.ts";

/** Bytes that come after later ones within this time were not sent again, but overtaken; microseconds. */
const REORDERING = 3000;
/** No window is larger (RFC 7323 section 2.3), in bytes. What is further ahead belongs to no stream. */
const MAX_WINDOW = 2 ** 30;

const { FIN, SYN, RST, ACK, URG } = Control;

/** Takes the segments of conversations, one after the other. */
export class Intake {
  readonly #segment: Segment;
  readonly #delivery: Delivery;
  readonly #sink: ConversationSink;
  readonly #handshakes: Handshakes;
  /** The memory that has the current segment. */
  #view: DataView = new DataView(new ArrayBuffer(0));
  #memory: Uint8Array = new Uint8Array(0);

  /** Each time `segment` was read, {@linkcode Intake.take} is to be called. */
  constructor(segment: Segment, delivery: Delivery, sink: ConversationSink) {
    this.#segment = segment;
    this.#delivery = delivery;
    this.#sink = sink;
    this.#handshakes = new Handshakes(this.#note.bind(this));
  }

  /** Takes the segment of `stream` that stands in `frame`. */
  take(flow: Flow, stream: Stream, other: Stream, frame: DataView, time: number): void {
    if (this.#view !== frame) {
      this.#view = frame;
      this.#memory = new Uint8Array(frame.buffer);
    }
    if (flow.steady && this.#isNext(stream, other)) {
      stream.side.counts.segments++;
      stream.window = this.#segment.window;
      other.acked = this.#segment.ack | 0;
      const { length, payloadAt } = this.#segment;
      const at = payloadAt + frame.byteOffset;
      if (length > 0) this.#delivery.tell(flow, stream, this.#memory, at, length, time);
      return;
    }
    this.#takeAny(flow, stream, other, time);
    flow.steady = !flow.lacking && flow.opened && flow.conversation.handshake !== "partial" &&
      isSteady(flow.low) && isSteady(flow.high);
  }

  /** Whether the segment is one of the many that need no closer look, in a flow in which nothing is out of order. */
  #isNext(stream: Stream, other: Stream): boolean {
    const segment = this.#segment;
    if ((segment.flags & (FIN | SYN | RST | ACK | URG)) !== ACK || segment.window === 0) {
      return false;
    }
    if ((segment.ack - other.next | 0) > 0 || segment.captured < segment.length) return false;
    const ahead = segment.seq - stream.next | 0;
    if (segment.length > 0) return ahead === 0;
    // It may be a probe, or say the same again.
    return ahead !== -1 && (segment.ack | 0) !== other.acked;
  }

  #takeAny(flow: Flow, stream: Stream, other: Stream, time: number): void {
    const { flags, ack, window } = this.#segment;
    const { counts } = stream.side;
    counts.segments++;
    if ((flags & SYN) !== 0) {
      this.#handshakes.syn(flow, stream, other, this.#segment, this.#view, time);
      this.#delivery.open(flow);
    } else if (stream.base <= Base.ACKNOWLEDGED) {
      this.#beginMiddle(stream);
    }
    if ((flags & RST) !== 0) return this.#reset(flow, stream, other, time);
    if ((flags & ACK) !== 0) this.#acknowledge(flow, stream, other, ack, window, time);
    if ((flags & URG) !== 0) this.#urgent(flow, stream, time);
    if (this.#segment.length > 0) this.#payload(flow, stream, other, time);
    else this.#noPayload(flow, stream, time);
    if ((flags & FIN) !== 0) this.#finish(flow, stream, time);
    if (stream.waits || other.waits) this.#delivery.flush(flow);
    if (flow.lacking) this.#delivery.review(flow, time);
    if (stream.side.finished && other.side.finished) this.#delivery.close(flow, "fin", time);
  }

  /** The first segment of a side of which no SYN was captured. */
  #beginMiddle(stream: Stream): void {
    const { seq, length, flags } = this.#segment;
    if ((flags & RST) !== 0) return;
    if (stream.base === Base.NONE) return stream.begin(seq | 0, Base.MIDDLE);
    const distance = seq - stream.next | 0;
    const isProbe = distance === -1 && length <= 1;
    const hasMoved = stream.next !== stream.first || stream.acked !== stream.first;
    if (!isProbe && !hasMoved) stream.begin(seq | 0, Base.MIDDLE);
    else stream.base = Base.MIDDLE;
  }

  #acknowledge(
    flow: Flow,
    stream: Stream,
    other: Stream,
    ack: number,
    window: number,
    time: number,
  ): void {
    ack |= 0;
    if (other.base === Base.NONE) {
      other.begin(ack, stream.base === Base.HANDSHAKE ? Base.HANDSHAKE : Base.ACKNOWLEDGED);
    }
    if (flow.conversation.handshake === "partial") {
      this.#handshakes.acknowledge(flow, stream, ack, time);
    }
    if (window === 0 !== (stream.window === 0)) this.#windowTurned(flow, stream, window, time);
    else if (other.hasAcked && ack === other.acked) {
      const isSame = window === stream.window && this.#segment.length === 0;
      if (isSame && (other.top - ack | 0) > 0 && (this.#segment.flags & (SYN | FIN)) === 0) {
        stream.side.counts.duplicate_acks++;
      }
    }
    stream.window = window;
    other.acked = ack;
    other.hasAcked = true;
    if ((ack - other.next | 0) > 0) this.#delivery.look(flow, other, stream, time);
  }

  #windowTurned(flow: Flow, stream: Stream, window: number, time: number): void {
    if ((this.#segment.flags & SYN) !== 0 || window !== 0 && stream.window < 0) return;
    if (window === 0) stream.side.counts.zero_windows++;
    this.#note(flow, stream, window === 0 ? "zero_window" : "window_open", 0, time);
  }

  #urgent(flow: Flow, stream: Stream, time: number): void {
    stream.side.counts.urgent++;
    const pointer = this.#view.getUint16(this.#segment.tcpAt + 18);
    this.#note(flow, stream, "urgent", pointer, time);
  }

  /** A segment without payload: it may be a probe, or a SYN or FIN that was sent again. */
  #noPayload(flow: Flow, stream: Stream, time: number): void {
    const { seq, flags } = this.#segment;
    if ((flags & (SYN | FIN)) === 0 && (seq - stream.next | 0) === -1) {
      this.#probe(flow, stream, time);
    }
  }

  #probe(flow: Flow, stream: Stream, time: number): void {
    const other = stream === flow.low ? flow.high : flow.low;
    const { counts } = stream.side;
    if (stream.side.finished || stream.next === stream.first) return;
    if (other.window === 0) {
      counts.window_probes++;
      this.#note(flow, stream, "window_probe", this.#segment.length, time);
    } else {
      counts.keep_alives++;
      this.#note(flow, stream, "keep_alive", this.#segment.length, time);
    }
  }

  #payload(flow: Flow, stream: Stream, other: Stream, time: number): void {
    const segment = this.#segment;
    const { length, captured, flags, ack } = segment;
    const seq = (flags & SYN) !== 0 ? segment.seq + 1 | 0 : segment.seq | 0;
    const hasAck = (flags & ACK) !== 0;
    const at = segment.payloadAt + this.#view.byteOffset;
    const isNext = seq === stream.next && stream.held.cost === 0 && !stream.hasFin;
    if (isNext && (!hasAck || (ack - other.next | 0) <= 0 || other.side.counts.segments === 0)) {
      if (captured > 0) this.#delivery.tell(flow, stream, this.#memory, at, captured, time);
      if (captured < length) this.#delivery.lack(flow, stream, length - captured, time);
      return;
    }
    this.#disordered(flow, stream, other, seq, at, time);
  }

  /** Payload that is old, early, or acknowledges what is not there. */
  #disordered(
    flow: Flow,
    stream: Stream,
    other: Stream,
    seq: number,
    at: number,
    time: number,
  ): void {
    const { length, captured, flags, ack } = this.#segment;
    const { counts } = stream.side;
    const end = seq + length | 0;
    const old = stream.next - seq | 0;
    if (old < -MAX_WINDOW || stream.hasFin && (end - stream.fin | 0) > 0) {
      return this.#leaveOut(flow, stream, "outside", time);
    }
    if (old >= length) {
      if (length === 1 && old === 1 && stream.held.cost === 0) {
        return this.#probe(flow, stream, time);
      }
      if ((seq - stream.first | 0) < 0) return this.#leaveOut(flow, stream, "before", time);
      counts.retransmissions++;
      counts.repeated_bytes += length;
      return this.#note(flow, stream, "retransmission", length, time);
    }
    const skip = Math.max(0, old);
    const isFilling = stream.held.cost > 0 && (end - stream.top | 0) <= 0;
    const { heldSince } = stream;
    const from = seq + skip | 0;
    const kept = Math.max(0, captured - skip);
    const origin = {
      time,
      order: flow.segments,
      hasAck: (flags & ACK) !== 0,
      ack: ack | 0,
    };
    let added = 0;
    if (kept > 0) {
      const bytes = this.#memory.subarray(at + skip, at + captured);
      added += this.#delivery.hold(flow, stream, { ...origin, seq: from, length: kept, bytes });
      const { divergedAt } = stream.held;
      if (divergedAt !== undefined) {
        counts.diverged++;
        this.#note(flow, stream, "diverged", 0, time, divergedAt);
      }
    }
    const cut = length - skip - kept;
    if (cut > 0) {
      const piece = { ...origin, seq: from + kept | 0, length: cut, bytes: undefined };
      added += this.#delivery.hold(flow, stream, piece);
    }
    counts.repeated_bytes += length - added;
    if (added === 0) {
      counts.retransmissions++;
      this.#note(flow, stream, "retransmission", length, time);
    } else if (isFilling) {
      const sentAgain = time - heldSince > (flow.conversation.handshakeMicros ?? REORDERING);
      if (sentAgain) counts.retransmissions++;
      else counts.out_of_order++;
      this.#note(flow, stream, sentAgain ? "retransmission" : "out_of_order", length, time);
    }
    this.#delivery.flush(flow);
    this.#delivery.look(flow, stream, other, time);
    this.#delivery.look(flow, other, stream, time);
  }

  #leaveOut(flow: Flow, stream: Stream, kind: "outside" | "before", time: number): void {
    stream.side.counts.left_out++;
    this.#note(flow, stream, kind, this.#segment.length, time);
  }

  #finish(flow: Flow, stream: Stream, time: number): void {
    const { seq, length, flags, ack } = this.#segment;
    const fin = seq + length | 0;
    if (stream.hasFin) {
      if (fin !== stream.fin) return this.#leaveOut(flow, stream, "outside", time);
      if (length === 0) {
        stream.side.counts.retransmissions++;
        this.#note(flow, stream, "retransmission", 0, time);
      }
      return;
    }
    const isNear = (fin - stream.top | 0) >= 0 && (fin - stream.next | 0) <= MAX_WINDOW;
    if (!isNear) return this.#leaveOut(flow, stream, "outside", time);
    stream.hasFin = true;
    stream.fin = fin;
    stream.finHasAck = (flags & ACK) !== 0;
    stream.finAck = ack | 0;
    stream.finTime = time;
    stream.finOrder = flow.segments;
  }

  #reset(flow: Flow, stream: Stream, other: Stream, time: number): void {
    const { seq, flags, ack } = this.#segment;
    const isAccepted = this.#isAccepted(stream, other, seq, (flags & ACK) !== 0, ack);
    stream.side.counts.resets++;
    this.#note(flow, stream, isAccepted ? "reset" : "reset_ignored", 0, time);
    if (isAccepted) this.#delivery.close(flow, "reset", time, stream.side);
  }

  /** Whether a reset counts: RFC 9293 section 3.5.3, with what the capture knows of the window. */
  #isAccepted(
    stream: Stream,
    other: Stream,
    seq: number,
    hasAck: boolean,
    ack: number,
  ): boolean {
    if (stream.base <= Base.ACKNOWLEDGED) {
      // It answers a SYN, or the other side's acknowledgements say where it should be.
      if (hasAck && other.base !== Base.NONE && (ack | 0) === other.top) return true;
      if (stream.base === Base.NONE) return true;
    }
    const low = stream.hasAcked && (stream.acked - stream.next | 0) < 0
      ? stream.acked
      : stream.next;
    const high = stream.top + Math.max(0, other.window) * 2 ** (other.side.options?.wscale ?? 14);
    const distance = seq - low | 0;
    return distance >= -1 && distance <= high - low;
  }

  #note(
    flow: Flow,
    stream: Stream,
    kind: NoteKind,
    length: number,
    time: number,
    seq: number = this.#segment.seq,
  ): void {
    if (this.#sink.note === undefined) return;
    this.#delivery.open(flow);
    this.#sink.note(flow.conversation, stream.side, kind, seq >>> 0, length, time);
  }
}

/** Whether nothing of the stream waits, or is waited for, and what comes next is known. */
function isSteady(stream: Stream): boolean {
  return stream.base > Base.ACKNOWLEDGED && stream.hasAcked && stream.window !== 0 &&
    !stream.hasFin && stream.held.cost === 0;
}
