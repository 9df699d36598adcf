/**
 * The recorder: keeps what the clients sent until the replica has it.
 *
 * @module
 */
import type { Service } from "../address.ts";
import { later } from "../flow/sequence.ts";
import { LinkType } from "../packet/link.ts";
import { Control, Reading, Segment } from "../packet/segment.ts";
import type { Reserve } from "./block_store.ts";
import { Flag, type FlowStates } from "./flow_states.ts";
import { FlowTable } from "./flow_table.ts";
import { Holdings } from "./holdings.ts";
import type { Ledger } from "./ledger.ts";
import { addressWords, ServiceSet } from "./service_set.ts";
import { UsualSegments } from "./usual.ts";

/** Seconds for which the bytes of a flow stay after its end, unless memory runs short. */
export const LINGER = 30;
/** Seconds after which a flow without segments counts as ended. */
export const IDLE = 300;
/** An acknowledgement further off than this belongs to another connection: no window of TCP is as large. */
const FAR = 2 ** 30;
/** Where the table of flows is full, so many are looked at for the least recent. */
const SAMPLE = 64;
/** Events `diverged` in a second; more are counted only. */
const MAX_DIVERGED = 100;

/** Why a flow ended, for a person. */
export const CloseReason = {
  FIN: "both sides closed",
  RESET_BY_CLIENT: "reset by the client",
  RESET_BY_SERVER: "reset by the primary",
  REPLACED: "the client opened the same addresses and ports anew",
  IDLE: "nothing was seen of it for long",
  EVICTED: "the flow table is full",
} as const;

/** Settings of {@linkcode Recorder}. */
export interface RecorderOptions {
  /** Whose traffic is kept. */
  services: readonly Service[];
  /** Bytes of memory for everything that grows with the traffic. */
  budget: number;
  /** Bytes kept of one flow, and how far behind and ahead of the primary's acknowledgement they may be. */
  window: number;
  /** Link type of the first frames, one of {@linkcode LinkType}. */
  link: number;
  /** Gives the memory for the flows' bytes. */
  reserve: Reserve;
  /** Random number, so that nobody can choose addresses that collide. */
  seed: number;
}

/** Hears what happens to the flows. */
export interface RecorderListener {
  /** The first payload of a flow was seen. */
  opened(client: string, server: string): void;
  /** A flow ended; its bytes linger. */
  closed(client: string, server: string, reason: string): void;
  /** `bytes` that the replica has not acknowledged were dropped. */
  dropped(client: string, server: string, bytes: number): void;
  /** A segment had another byte at sequence number `offset` than an earlier one. */
  diverged(client: string, server: string, offset: number): void;
}

/** See the module. Frames come in by {@linkcode Recorder.take}; it does nothing by itself. */
export class Recorder {
  /** The flows' bytes. */
  readonly holdings: Holdings;
  /** The flows' keys. */
  readonly table: FlowTable;
  /** The flows' states. */
  readonly states: FlowStates;
  /** Totals since the start. */
  readonly ledger: Ledger;
  /** Link type of the frames to come, one of {@linkcode LinkType}. */
  link: number;
  readonly #services: ServiceSet;
  readonly #listener: RecorderListener;
  readonly #window: number;
  readonly #segment = new Segment();
  /** The memory that has the current segment. */
  #memory: DataView = new DataView(new ArrayBuffer(0));
  readonly #usual: UsualSegments;
  #now = 0;
  #swept = 0;
  #hand = 0;
  #diverged = 0;

  /** Reserves its memory at once. */
  constructor(options: RecorderOptions, listener: RecorderListener) {
    this.holdings = new Holdings(options.budget, options.window, options.seed, options.reserve);
    this.states = this.holdings.states;
    this.ledger = this.holdings.ledger;
    this.table = new FlowTable(this.states.flags.length, options.seed);
    this.#usual = new UsualSegments(this.holdings);
    this.#services = new ServiceSet(options.services);
    this.#listener = listener;
    this.link = options.link;
    this.#window = options.window;
  }

  /** Takes a frame: `captured` of its bytes stand in `frame` from `at` on, and on the wire it had `wire`. */
  take(frame: DataView, at: number, captured: number, wire: number): void {
    const { ledger } = this;
    if (this.link === LinkType.ETHERNET && this.#usual.take(frame, at, captured)) {
      ledger.segments += 1;
      return;
    }
    const segment = this.#segment;
    const reading = segment.read(frame, at, captured, wire, this.link);
    if (reading !== Reading.TCP) {
      if (reading === Reading.FRAGMENT) ledger.fragments += 1;
      else if (reading === Reading.OTHER) ledger.other += 1;
      else ledger.malformed += 1;
      return;
    }
    this.#memory = frame;
    const { family, sourceAt, destinationAt, sourcePort, destinationPort } = segment;
    const { wanted } = this.table;
    const services = this.#services;
    if (services.has(frame, family, destinationAt, destinationPort)) {
      addressWords(frame, family, sourceAt, wanted, 0);
      addressWords(frame, family, destinationAt, wanted, 4);
      wanted[8] = sourcePort << 16 | destinationPort;
      const slot = this.table.find();
      // A client that is a service, too, has flows of both kinds between the same ends.
      if (family === 4 && slot >= 0 && !services.has(frame, family, sourceAt, sourcePort)) {
        this.#usual.learn(slot, wanted[3]!, wanted[7]!, wanted[8]!);
      }
      this.#fromClient(slot);
    } else if (services.has(frame, family, sourceAt, sourcePort)) {
      addressWords(frame, family, destinationAt, wanted, 0);
      addressWords(frame, family, sourceAt, wanted, 4);
      wanted[8] = destinationPort << 16 | sourcePort;
      this.#fromServer(this.table.find());
    } else {
      ledger.other += 1;
      return;
    }
    ledger.segments += 1;
  }

  /** Tells the time, in seconds of a monotonic clock; ends what is idle, and reports what was dropped. */
  tick(seconds: number): void {
    this.#now = Math.floor(seconds);
    this.#usual.now = this.#now;
    for (const slot of this.holdings.pending.splice(0)) this.#report(slot);
    if (this.#now === this.#swept) return;
    this.#swept = this.#now;
    this.#diverged = 0;
    const { flags, touched } = this.states;
    for (let slot = 0; slot < flags.length; slot++) {
      if (flags[slot] === 0) continue;
      const age = this.#now - touched[slot]!;
      if ((flags[slot]! & Flag.CLOSED) !== 0) {
        if (age >= LINGER) this.#remove(slot);
      } else if (age >= IDLE) {
        this.#close(slot, CloseReason.IDLE);
        this.#remove(slot);
      }
    }
  }

  /**
   * The replica has acknowledged the flow in `slot` up to sequence number `upto`: what is before it is given up.
   * Returns how many bytes that are.
   */
  acknowledge(slot: number, upto: number): number {
    const { states } = this;
    const { end, primary, replica, origin, flags, droppedTo } = states;
    // Nobody can acknowledge more than the client has sent.
    const limit = later(primary[slot]!, end[slot]!);
    const to = (upto - limit | 0) > 0 ? limit : upto | 0;
    const known = (flags[slot]! & Flag.REPLICA) !== 0;
    const advance = to - (known ? replica[slot]! : origin[slot]!) | 0;
    if (known && advance <= 0) return 0;
    flags[slot]! |= Flag.REPLICA;
    replica[slot] = to;
    if (advance > 0) {
      const bytes = this.#withoutFin(slot, to, advance);
      states.delivered[slot]! += bytes;
      this.ledger.delivered += bytes;
    }
    if ((to - droppedTo[slot]! | 0) >= 0) flags[slot]! &= ~(Flag.REPORTED | Flag.DROPPED);
    return this.holdings.free(slot, to);
  }

  #fromClient(slot: number): void {
    const segment = this.#segment;
    const { flags } = segment;
    if ((flags & Control.RST) !== 0) {
      if (slot >= 0) this.#close(slot, CloseReason.RESET_BY_CLIENT);
      return;
    }
    const syn = (flags & Control.SYN) !== 0;
    const seq = segment.seq + (syn ? 1 : 0) | 0;
    const { length } = segment;
    const { states } = this;
    if (slot >= 0 && (states.flags[slot]! & Flag.CLOSED) !== 0) {
      slot = this.#lookAtClosed(slot, seq, length, syn);
    }
    if (slot < 0) {
      if (length === 0) return;
      slot = this.#open(seq);
    }
    states.touched[slot] = this.#now;
    if ((flags & Control.ACK) !== 0) states.clientAck[slot] = segment.ack;
    if (length > 0) this.#keep(slot, seq);
    if ((flags & Control.FIN) !== 0) {
      states.clientFin[slot] = seq + length;
      states.flags[slot]! |= Flag.CLIENT_FIN;
    }
    if ((states.flags[slot]! & Flag.SERVER_FIN) !== 0) this.#closeIfDone(slot);
  }

  /** What a segment means for a flow that ended: its slot, or -1 where the segment belongs to a new one. */
  #lookAtClosed(slot: number, seq: number, length: number, syn: boolean): number {
    const { origin, end, flags } = this.states;
    const ahead = seq - end[slot]! | 0;
    if (syn ? seq !== origin[slot] : length > 0 && Math.abs(ahead) > this.#window) {
      this.#remove(slot);
      return -1;
    }
    if (ahead + length > 0 && length > 0) {
      // It did not end: a reset that the servers did not believe.
      flags[slot]! &= ~(Flag.CLOSED | Flag.CLIENT_FIN | Flag.SERVER_FIN);
      this.ledger.flows_opened += 1;
      this.#listener.opened(this.table.client(slot), this.table.server(slot));
    }
    return slot;
  }

  #fromServer(slot: number): void {
    if (slot < 0) return;
    const segment = this.#segment;
    const { states } = this;
    const { flags } = segment;
    if ((flags & Control.RST) !== 0) {
      this.#close(slot, CloseReason.RESET_BY_SERVER);
      return;
    }
    if ((flags & Control.ACK) === 0) return;
    if ((flags & Control.SYN) !== 0) {
      // The handshake of this flow acknowledges nothing behind its first byte.
      const behind = states.origin[slot]! - segment.ack | 0;
      if (behind < 0 || behind > this.#window) this.#replace(slot);
      return;
    }
    this.#acknowledgedByPrimary(slot, segment.ack | 0);
    if (states.flags[slot] === 0) return;
    states.touched[slot] = this.#now;
    if ((flags & Control.FIN) !== 0) {
      states.serverFin[slot] = segment.seq + segment.length;
      states.flags[slot]! |= Flag.SERVER_FIN;
    }
    if ((states.flags[slot]! & Flag.SERVER_FIN) !== 0) this.#closeIfDone(slot);
  }

  #acknowledgedByPrimary(slot: number, ack: number): void {
    const { states } = this;
    const { primary, flags } = states;
    const known = (flags[slot]! & Flag.PRIMARY) !== 0;
    const advance = ack - primary[slot]! | 0;
    if (known && advance <= 0 && advance > -FAR) return;
    if (advance > FAR || advance < -FAR) {
      this.#replace(slot);
      return;
    }
    flags[slot]! |= Flag.PRIMARY;
    primary[slot] = ack;
    if (advance > 0) {
      const bytes = this.#withoutFin(slot, ack, advance);
      states.acknowledged[slot]! += bytes;
      this.ledger.acknowledged += bytes;
    }
    this.holdings.slide(slot);
  }

  /** The bytes of an advance up to `ack`: a FIN takes a sequence number, and is none. */
  #withoutFin(slot: number, ack: number, advance: number): number {
    const { flags, clientFin } = this.states;
    const fin = (flags[slot]! & Flag.CLIENT_FIN) !== 0 && (ack - 1 | 0) === clientFin[slot];
    return fin ? advance - 1 : advance;
  }

  #closeIfDone(slot: number): void {
    const { flags, primary, clientFin, clientAck, serverFin } = this.states;
    if ((flags[slot]! & Flag.CLIENT_FIN) === 0) return;
    const both = (primary[slot]! - clientFin[slot]! | 0) > 0 &&
      (clientAck[slot]! - serverFin[slot]! | 0) > 0;
    if (both) this.#close(slot, CloseReason.FIN);
  }

  /** Begins the wanted flow with the byte `seq`. */
  #open(seq: number): number {
    let slot = this.table.insert();
    if (slot < 0) {
      this.#evictFlow();
      slot = this.table.insert();
    }
    this.states.begin(slot, seq, seq - this.#window | 0, this.#now);
    this.ledger.flows_opened += 1;
    this.#listener.opened(this.table.client(slot), this.table.server(slot));
    return slot;
  }

  #close(slot: number, reason: string): void {
    const { states } = this;
    if ((states.flags[slot]! & Flag.CLOSED) !== 0) return;
    states.flags[slot]! |= Flag.CLOSED;
    states.touched[slot] = this.#now;
    this.ledger.flows_closed += 1;
    this.#listener.closed(this.table.client(slot), this.table.server(slot), reason);
  }

  #replace(slot: number): void {
    this.#close(slot, CloseReason.REPLACED);
    this.#remove(slot);
  }

  #remove(slot: number): void {
    const { states } = this;
    if ((states.flags[slot]! & Flag.PENDING) !== 0) this.#report(slot);
    this.holdings.drop(slot, states.end[slot]!, "dropped_closed");
    this.#usual.forget(slot, this.table.ports(slot));
    this.table.remove(slot);
    states.flags[slot] = 0;
  }

  /** Makes room in the table of flows: an ended one goes first, then the one that was seen longest ago. */
  #evictFlow(): void {
    const { flags, touched } = this.states;
    let victim = -1;
    let best = -1;
    for (let i = 0; i < SAMPLE; i++) {
      this.#hand = (this.#hand + 1) % flags.length;
      const slot = this.#hand;
      if (flags[slot] === 0) continue;
      const closed = (flags[slot]! & Flag.CLOSED) !== 0;
      const age = this.#now - touched[slot]! + (closed ? IDLE : 0);
      if (age > best) [victim, best] = [slot, age];
    }
    this.ledger.flows_evicted += 1;
    this.#close(victim, CloseReason.EVICTED);
    this.#remove(victim);
  }

  /** Stores the payload of the current segment, which begins at `seq`. */
  #keep(slot: number, seq: number): void {
    const { payloadAt, length, captured } = this.#segment;
    this.ledger.cut += length - captured;
    const diverged = this.holdings.keep(slot, seq, this.#memory, payloadAt, captured);
    if (diverged < 0) return;
    this.ledger.diverged += 1;
    if (this.#diverged++ >= MAX_DIVERGED) return;
    this.#listener.diverged(this.table.client(slot), this.table.server(slot), diverged);
  }

  #report(slot: number): void {
    const { flags, unreported } = this.states;
    // The slot may have got another flow since.
    if ((flags[slot]! & Flag.PENDING) === 0) return;
    flags[slot] = flags[slot]! & ~Flag.PENDING | Flag.REPORTED;
    const bytes = unreported[slot]!;
    unreported[slot] = 0;
    this.#listener.dropped(this.table.client(slot), this.table.server(slot), bytes);
  }
}
