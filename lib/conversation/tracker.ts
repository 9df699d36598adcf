/**
 * Makes conversations of frames.
 *
 * @module
 */
import { Control, Reading, Segment } from "../packet/segment.ts";
import { FlowTable } from "../recorder/flow_table.ts";
import { AddressNames } from "./address_names.ts";
import { Conversation, type ConversationSink, Side } from "./conversation.ts";
import { Delivery, type HoldLimits } from "./delivery.ts";
import { Ended } from "./ended.ts";
import { Base, Flow } from "./flow.ts";
import { Intake } from "./intake.ts";
import { decideRoles, type KnownServer } from "./roles.ts";
import { Totals } from "./totals.ts";

/** Settings of a {@linkcode Tracker}. */
export interface TrackerOptions {
  /** Who is a server, where no SYN was captured. */
  servers?: readonly KnownServer[];
  /** How many conversations are kept at once; with more, the one that was silent for longest is closed. */
  capacity?: number;
  /** Seconds of silence after which a conversation is closed. */
  idle?: number;
  /** How much is held back. */
  hold?: HoldLimits;
  /** Random number, so that nobody can choose addresses that collide. */
  seed?: number;
}

/** Conversations at once, unless given: about 200 MiB. */
const CAPACITY = 100_000;
/** Seconds of silence, unless given. */
const IDLE = 3600;
/** The same, before the handshake is over. */
const EMBRYONIC = 60;
/** For so many seconds a conversation that is over is remembered, for segments that come late. */
const LINGER = 60;
const HOLD: HoldLimits = { conversation: 1 << 24, total: 1 << 26 };
/** How often the conversations are looked through, in microseconds of the capture. */
const SWEEP = 10_000_000;
/** How often those are looked at in which bytes are waited for. */
const TICK = 50_000;
/**
 * Times may jump to and fro from frame to frame: for each frame, no more than so many conversations are looked at, as a
 * mean.
 */
const LOOKS = 8;
/** So many are compared when one must make room. */
const CANDIDATES = 32;
const { SYN, ACK } = Control;

/**
 * Takes the frames of a capture in their order, and tells a sink of the conversations. It does nothing by itself; its
 * clock is the time of the frames.
 */
export class Tracker {
  /** What was counted. */
  readonly totals: Totals = new Totals();
  readonly #segment = new Segment();
  readonly #table: FlowTable;
  readonly #names = new AddressNames();
  /** By slot of the table; undefined for those that are over. */
  readonly #flows: (Flow | undefined)[] = [];
  /** Those that are over, and only remembered. */
  readonly #ended: Ended;
  /** When the last segment of each came, by slot. */
  readonly #touched: Float64Array;
  readonly #delivery: Delivery;
  readonly #intake: Intake;
  readonly #servers: readonly KnownServer[];
  readonly #idle: number;
  #now = 0;
  #nextTick = -Infinity;
  #nextSweep = -Infinity;
  /** Frames since the last tick and the last sweep. */
  #sinceTick = 0;
  #sinceSweep = 0;
  #hand = 0;

  /** Tells `sink`. */
  constructor(sink: ConversationSink, options: TrackerOptions = {}) {
    this.#servers = options.servers ?? [];
    this.#idle = (options.idle ?? IDLE) * 1e6;
    const capacity = options.capacity ?? CAPACITY;
    this.#table = new FlowTable(capacity, options.seed ?? 0);
    this.#ended = new Ended(capacity);
    this.#touched = new Float64Array(capacity);
    this.#delivery = new Delivery(sink, this.totals, options.hold ?? HOLD);
    this.#intake = new Intake(this.#segment, this.#delivery, sink);
  }

  /**
   * Takes a frame of link type `link`, captured at `time` in microseconds since the Unix epoch: `captured` of its bytes
   * stand in `frame` from `at` on, and on the wire it had `wire`.
   */
  take(
    frame: DataView,
    at: number,
    captured: number,
    wire: number,
    link: number,
    time: number,
  ): void {
    const segment = this.#segment;
    const reading = segment.read(frame, at, captured, wire, link);
    this.#sinceTick++;
    this.#sinceSweep++;
    // Somebody set the clock back.
    if (time < this.#now - TICK) this.#nextTick = this.#nextSweep = -Infinity;
    if (time >= this.#nextTick && this.#sinceTick * LOOKS >= this.#delivery.waiting.size) {
      this.#tick(time);
    }
    this.#now = time;
    if (reading !== Reading.TCP) return this.#countOther(reading);
    const { totals } = this;
    totals.segments++;
    const isForward = this.#look(frame);
    let slot = this.#table.find();
    const isSyn = (segment.flags & SYN) !== 0;
    if (slot < 0 || isSyn && this.#isNew(slot, isForward)) {
      slot = this.#begin(slot, isForward, time);
    }
    this.#touched[slot] = time;
    const flow = this.#flows[slot];
    if (flow === undefined) {
      totals.late++;
      return;
    }
    flow.segments++;
    flow.conversation.end = time;
    if (isForward) this.#intake.take(flow, flow.low, flow.high, frame, time);
    else this.#intake.take(flow, flow.high, flow.low, frame, time);
    if (flow.closed) this.#bury(slot, flow);
  }

  /** Counts a frame that is not to be looked at. */
  refuse(): void {
    this.totals.filtered++;
  }

  /** Looks at conversations in which something may have been waited for, or that were silent, for long enough. */
  #tick(time: number): void {
    this.#sinceTick = 0;
    this.#nextTick = time + TICK;
    for (const flow of this.#delivery.waiting) this.#delivery.review(flow, time);
    if (time < this.#nextSweep || this.#sinceSweep * LOOKS < this.#flows.length) return;
    this.#sinceSweep = 0;
    this.#nextSweep = time + SWEEP;
    for (let slot = 0; slot < this.#flows.length; slot++) {
      const flow = this.#flows[slot];
      if (flow === undefined && !this.#ended.has(slot)) continue;
      if (time - this.#touched[slot]! < this.#patience(flow)) continue;
      if (flow !== undefined) this.#delivery.close(flow, "timeout", time);
      this.#remove(slot);
    }
  }

  /** Ends all conversations, with the capture. */
  end(): void {
    const open = this.#flows.filter((flow) => flow !== undefined);
    open.sort((a, b) => a.conversation.number - b.conversation.number);
    for (const flow of open) this.#delivery.close(flow, "capture", flow.conversation.end);
    this.#flows.length = 0;
  }

  #countOther(reading: Reading): void {
    if (reading === Reading.OTHER) this.totals.other++;
    else if (reading === Reading.FRAGMENT) this.totals.fragments++;
    else if (reading === Reading.CUT) this.totals.cut++;
    else this.totals.malformed++;
  }

  /** Asks the table for the segment's ends, the lower one first; true where that is the source. */
  #look(frame: DataView): boolean {
    const { family, sourceAt, destinationAt, sourcePort, destinationPort } = this.#segment;
    const { wanted } = this.#table;
    const isForward = sourcePort < destinationPort ||
      sourcePort === destinationPort && this.#isLower(frame, sourceAt, destinationAt);
    const low = isForward ? sourceAt : destinationAt;
    const high = isForward ? destinationAt : sourceAt;
    if (family === 4) {
      wanted[0] =
        wanted[1] =
        wanted[4] =
        wanted[5] =
          0;
      wanted[2] = wanted[6] = 0xffff;
      wanted[3] = frame.getInt32(low);
      wanted[7] = frame.getInt32(high);
    } else {
      for (let i = 0; i < 4; i++) {
        wanted[i] = frame.getInt32(low + 4 * i);
        wanted[4 + i] = frame.getInt32(high + 4 * i);
      }
    }
    wanted[8] = isForward ? sourcePort << 16 | destinationPort : destinationPort << 16 | sourcePort;
    return isForward;
  }

  #isLower(frame: DataView, a: number, b: number): boolean {
    const size = this.#segment.family === 4 ? 4 : 16;
    for (let i = 0; i < size; i += 4) {
      const difference = frame.getUint32(a + i) - frame.getUint32(b + i);
      if (difference !== 0) return difference < 0;
    }
    return true;
  }

  /** Whether a SYN begins another conversation than that of `slot`, which has its ends. */
  #isNew(slot: number, isForward: boolean): boolean {
    const { seq, ack, flags } = this.#segment;
    const flow = this.#flows[slot];
    if (flow === undefined) return this.#ended.isOther(slot, isForward, seq);
    const [stream, other] = isForward ? [flow.low, flow.high] : [flow.high, flow.low];
    const { isn } = stream.side;
    if (isn !== undefined) return isn !== seq;
    // The first of the side's segments may have come in another order.
    if (stream.base === Base.NONE) {
      return (flags & ACK) !== 0 && other.base !== Base.NONE && (other.top - ack | 0) < 0;
    }
    return (seq + 1 | 0) !== stream.first;
  }

  /** Begins a conversation, in place of that of `slot` where that is one, and returns its slot. */
  #begin(slot: number, isForward: boolean, time: number): number {
    if (slot >= 0) {
      const old = this.#flows[slot];
      if (old !== undefined) this.#delivery.close(old, "reused", time);
      this.#remove(slot);
    }
    const { wanted } = this.#table;
    const low = { address: this.#names.of(wanted, 0), port: wanted[8]! >>> 16 };
    const high = { address: this.#names.of(wanted, 4), port: wanted[8]! & 0xffff };
    const { flags } = this.#segment;
    const [source, destination] = isForward ? [low, high] : [high, low];
    const { sourceIsClient, by } = (flags & SYN) !== 0
      ? { sourceIsClient: (flags & ACK) === 0, by: "syn" as const }
      : decideRoles(source, destination, this.#servers);
    const [client, server] = sourceIsClient ? [source, destination] : [destination, source];
    const conversation = new Conversation(
      this.totals.conversations++,
      new Side("client", client.address, client.port),
      new Side("server", server.address, server.port),
      by,
      time,
    );
    this.totals.open++;
    const flow = new Flow(conversation, sourceIsClient === isForward);
    let taken = this.#table.insert();
    if (taken < 0) {
      this.#evict(time);
      taken = this.#table.insert();
    }
    this.#flows[taken] = flow;
    return taken;
  }

  /** Lets go of a conversation that is over, but for what tells its late segments. */
  #bury(slot: number, { low, high }: Flow): void {
    this.#flows[slot] = undefined;
    this.#ended.add(slot, low.side.isn, high.side.isn);
  }

  /** Closes a conversation that was silent for long, one that is over if there is one. */
  #evict(time: number): void {
    let found = -1;
    let oldest = Infinity;
    for (let i = 0; i < CANDIDATES; i++) {
      this.#hand = this.#hand + 1 < this.#flows.length ? this.#hand + 1 : 0;
      const isOver = this.#ended.has(this.#hand);
      if (this.#flows[this.#hand] === undefined && !isOver) continue;
      const touched = isOver ? -Infinity : this.#touched[this.#hand]!;
      if (found >= 0 && touched >= oldest) continue;
      found = this.#hand;
      oldest = touched;
    }
    const flow = this.#flows[found];
    if (flow !== undefined) {
      this.totals.evicted++;
      this.#delivery.close(flow, "evicted", time);
    }
    this.#remove(found);
  }

  #remove(slot: number): void {
    this.#flows[slot] = undefined;
    this.#ended.delete(slot);
    this.#table.remove(slot);
  }

  /** How long a conversation may be silent; undefined stands for one that is over. */
  #patience(flow: Flow | undefined): number {
    if (flow === undefined) return LINGER * 1e6;
    const isEmbryonic = flow.conversation.rolesBy === "syn" &&
      flow.client.next === flow.client.first &&
      flow.conversation.handshake !== "whole";
    return isEmbryonic ? Math.min(EMBRYONIC * 1e6, this.#idle) : this.#idle;
  }
}
