/**
 * The order in which a conversation's bytes are told: that of their streams, and of cause and effect.
 *
 * @module
 */
import type { ConversationSink, Ending, Side } from "./conversation.ts";
import { Base, type Flow, type Stream } from "./flow.ts";
import type { Offer } from "./held.ts";
import type { Totals } from "./totals.ts";

/** How much may be held back, in bytes of memory. */
export interface HoldLimits {
  /** In one conversation. */
  conversation: number;
  /** In all. */
  total: number;
}

/**
 * A hole that is acknowledged may still be filled by a segment that came late to the capture: for so many segments of
 * the conversation, or so many microseconds.
 */
const PATIENCE = { segments: 32, micros: 200_000 };
/** Where the other side is not in the capture nothing is acknowledged, and a retransmission fills a hole within this. */
const LONG_PATIENCE = { segments: 1000, micros: 3_000_000 };

/** Tells a sink what is in order, and holds back what is not. */
export class Delivery {
  /** Conversations in which bytes are waited for. */
  readonly waiting: Set<Flow> = new Set();
  readonly #sink: ConversationSink;
  readonly #totals: Totals;
  readonly #limits: HoldLimits;

  /** Counts in `totals`. */
  constructor(sink: ConversationSink, totals: Totals, limits: HoldLimits) {
    this.#sink = sink;
    this.#totals = totals;
    this.#limits = limits;
  }

  /** Tells the sink of the conversation, if that was not done. */
  open(flow: Flow): void {
    if (flow.opened) return;
    flow.opened = true;
    this.#sink.open(flow.conversation);
  }

  /** Tells bytes that come next. */
  tell(
    flow: Flow,
    stream: Stream,
    memory: Uint8Array,
    at: number,
    length: number,
    time: number,
  ): void {
    if (!flow.opened) this.open(flow);
    stream.next = stream.next + length | 0;
    if ((stream.next - stream.top | 0) > 0) stream.top = stream.next;
    stream.side.counts.bytes += length;
    this.#totals.bytes += length;
    this.#sink.data(flow.conversation, stream.side, memory, at, length, time);
  }

  /** Tells that bytes are missing that would come next. */
  lack(flow: Flow, stream: Stream, length: number, time: number): void {
    this.open(flow);
    stream.next = stream.next + length | 0;
    if ((stream.next - stream.top | 0) > 0) stream.top = stream.next;
    stream.side.counts.missing_bytes += length;
    stream.side.counts.gaps++;
    this.#totals.missing_bytes += length;
    this.#sink.missing(flow.conversation, stream.side, length, time);
  }

  /**
   * Holds bytes back.
   *
   * @returns how many of them were new
   */
  hold(flow: Flow, stream: Stream, offer: Offer): number {
    const { held } = stream;
    const totals = this.#totals;
    const before = held.cost;
    if (before === 0) stream.heldSince = offer.time;
    const added = held.put(offer);
    const end = offer.seq + offer.length | 0;
    if ((end - stream.top | 0) > 0) stream.top = end;
    totals.held += held.cost - before;
    const own = flow.low.held.cost + flow.high.held.cost;
    if (own > this.#limits.conversation || totals.held > this.#limits.total) {
      totals.abandoned++;
      this.#giveUpAll(flow, offer.time);
    }
    if (totals.held > totals.held_max) totals.held_max = totals.held;
    return added;
  }

  /** Tells what is in order now. */
  flush(flow: Flow): void {
    const { low, high } = flow;
    while (true) {
      const ready = this.#ready(low, high);
      if (ready === undefined) return;
      this.#tellHead(flow, ready);
    }
  }

  /** Notices that bytes are lacking: acknowledged up to `to`, or held back behind a hole. */
  lacks(flow: Flow, stream: Stream, to: number, time: number, isAlone: boolean): void {
    if (stream.lacking) return;
    const patience = isAlone ? LONG_PATIENCE : PATIENCE;
    stream.lacking = true;
    stream.lackingTo = to;
    stream.patienceSegments = flow.segments + patience.segments;
    stream.patienceTime = time + patience.micros;
    flow.lacking = true;
    this.waiting.add(flow);
  }

  /** Looks whether bytes that are waited for have come, or have been waited for long enough. */
  review(flow: Flow, time: number): void {
    this.#review(flow, flow.low, flow.high, time);
    this.#review(flow, flow.high, flow.low, time);
    flow.lacking = flow.low.lacking || flow.high.lacking;
    if (!flow.lacking) this.waiting.delete(flow);
  }

  /** Tells all that is held back, and the end. */
  close(flow: Flow, how: Ending, time: number, by?: Side): void {
    this.open(flow);
    this.#giveUpAll(flow, time);
    for (const stream of [flow.client, flow.server]) {
      const rest = stream.acked - stream.next | 0;
      if (stream.base !== Base.NONE && stream.hasAcked && rest > 0 && !stream.side.finished) {
        this.lack(flow, stream, rest, time);
      }
    }
    const { client, server } = flow.conversation;
    if (client.finished && server.finished) how = "fin";
    flow.closed = true;
    flow.lacking = false;
    this.waiting.delete(flow);
    this.#totals.open--;
    this.#sink.close(flow.conversation, how, time, by);
  }

  #review(flow: Flow, stream: Stream, other: Stream, time: number): void {
    if (!stream.lacking) return;
    const come = (stream.next - stream.lackingTo | 0) >= 0;
    if (!come && flow.segments < stream.patienceSegments && time < stream.patienceTime) return;
    stream.lacking = false;
    if (!come) this.#giveUp(flow, stream, stream.lackingTo, time);
    this.flush(flow);
    this.look(flow, stream, other, time);
  }

  /** Begins to wait for bytes of `stream` where some are lacking. */
  look(flow: Flow, stream: Stream, other: Stream, time: number): void {
    if (stream.lacking || stream.base === Base.NONE) return;
    const head = stream.held.head;
    if (head !== undefined && head.seq === stream.next) return;
    if (stream.hasAcked && (stream.acked - stream.next | 0) > 0) {
      if (stream.hasFin && stream.fin === stream.next) return;
      this.lacks(flow, stream, stream.acked, time, false);
    } else if (head !== undefined && other.side.counts.segments === 0) {
      this.lacks(flow, stream, head.seq, time, true);
    }
  }

  /** Tells the first hole before `to` as missing; false where there is none. */
  #giveUp(flow: Flow, stream: Stream, to: number, time: number): boolean {
    const { head } = stream.held;
    // An acknowledgement that was not said again was a wrong one.
    if (stream.hasAcked) to = earlier(stream.acked, to);
    if (head !== undefined) to = earlier(head.seq, to);
    if (stream.hasFin) to = earlier(stream.fin, to);
    const length = to - stream.next | 0;
    if (length > 0) this.lack(flow, stream, length, time);
    return length > 0;
  }

  /** Tells everything that is held back, and what is missing between. */
  #giveUpAll(flow: Flow, time: number): void {
    while (true) {
      this.flush(flow);
      const stream = this.#older(flow.low, flow.high);
      if (stream === undefined) return;
      const next = stream.held.head?.seq ?? stream.fin;
      const hole = next - stream.next | 0;
      if (hole > 0) this.lack(flow, stream, hole, time);
      else if (!this.#giveUpCause(flow, stream, time)) this.#tellHead(flow, stream);
    }
  }

  /** Tells the first hole in what the first waiting piece acknowledges as missing; false where there is none. */
  #giveUpCause(flow: Flow, stream: Stream, time: number): boolean {
    const other = stream === flow.low ? flow.high : flow.low;
    return !isCaused(stream, other) && this.#giveUp(flow, other, ackOf(stream)!, time);
  }

  /** The stream whose first waiting bytes were captured earlier; undefined where nothing waits. */
  #older(low: Stream, high: Stream): Stream | undefined {
    if (!low.waits) return high.waits ? high : undefined;
    if (!high.waits) return low;
    return orderOf(low) < orderOf(high) ? low : high;
  }

  /** The stream whose next bytes are there, with all that they acknowledge. */
  #ready(low: Stream, high: Stream): Stream | undefined {
    const lowNext = low.waits && isNext(low);
    const highNext = high.waits && isNext(high);
    if (!lowNext && !highNext) return undefined;
    const lowReady = lowNext && isCaused(low, high);
    const highReady = highNext && isCaused(high, low);
    if (lowReady && highReady) return this.#older(low, high);
    if (lowReady) return low;
    if (highReady) return high;
    // Each waits for the other: no TCP does that.
    return lowNext && highNext ? this.#older(low, high) : undefined;
  }

  /** Tells the first waiting piece, which comes next, or the end. */
  #tellHead(flow: Flow, stream: Stream): void {
    const { held } = stream;
    if (held.head === undefined) {
      this.finish(flow, stream, stream.finTime);
      return;
    }
    const before = held.cost;
    const piece = held.shift();
    this.#totals.held -= before - held.cost;
    if (piece.bytes === undefined) this.lack(flow, stream, piece.length, piece.time);
    else this.tell(flow, stream, piece.bytes, 0, piece.length, piece.time);
  }

  /** Tells the end of a stream. */
  finish(flow: Flow, stream: Stream, time: number): void {
    this.open(flow);
    stream.next = stream.next + 1 | 0;
    if ((stream.next - stream.top | 0) > 0) stream.top = stream.next;
    stream.side.finished = true;
    this.#sink.finish(flow.conversation, stream.side, time);
  }
}

function isNext(stream: Stream): boolean {
  const { head } = stream.held;
  if (head !== undefined) return head.seq === stream.next;
  return stream.fin === stream.next;
}

/** Whether everything of `other` was told that the first waiting piece of `stream` acknowledges. */
function isCaused(stream: Stream, other: Stream): boolean {
  // Of a side that is not in the capture nothing will come.
  if (other.side.counts.segments === 0) return true;
  const ack = ackOf(stream);
  return ack === undefined || (ack - other.next | 0) <= 0;
}

/** What the first waiting piece of `stream`, or its end, acknowledges; undefined where that is nothing. */
function ackOf({ held: { head }, finHasAck, finAck }: Stream): number | undefined {
  if (head !== undefined) return head.hasAck ? head.ack : undefined;
  return finHasAck ? finAck : undefined;
}

/** The lower one of two sequence numbers. */
function earlier(a: number, b: number): number {
  return (a - b | 0) < 0 ? a : b;
}

function orderOf(stream: Stream): number {
  return stream.held.head?.order ?? stream.finOrder;
}
