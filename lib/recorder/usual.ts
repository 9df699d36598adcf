/**
 * The short way of the usual segment: IPv4 without options, of a flow that was met lately, with nothing about it that
 * begins or ends a flow, and whose bytes follow those that are there. Most segments are so, and many a second: it is
 * one function without look-ups. For all others it does nothing, and they go the long way.
 *
 * @module
 */
import { Control } from "../packet/segment.ts";
import { Flag, type FlowStates } from "./flow_states.ts";
import type { Holdings } from "./holdings.ts";

/** Flows that are known, one for each place; a power of two. */
const PLACES = 512;
/** Words of a place: the flow's slot, or -1; its client's and its server's address; both ports, the client's above. */
const WORDS = 4;
/** Ethernet, IPv4 and TCP without options. */
const HEADERS = 54;
/** EtherType of IPv4, version 4, five words of header. */
const ETHERNET_IPV4 = 0x080045;
/** More fragments, fragment offset, and the protocol; and what they are in a whole TCP segment. */
const WHOLE_TCP_MASK = 0x3fff00ff;
const WHOLE_TCP = 6;
/** Of these control bits a usual segment has ACK alone. */
const CONTROL_MASK = Control.SYN | Control.FIN | Control.RST | Control.ACK;
/** What makes a flow an unusual one. */
const ENDING = Flag.CLOSED | Flag.CLIENT_FIN | Flag.SERVER_FIN;
/** The primary's acknowledgement is not further from the last one than this; no window of TCP is as large. */
const FAR = 2 ** 30;

/** See the module. Addresses and ports are as big-endian reads give them, signed. */
export class UsualSegments {
  /** Seconds of the recorder's clock. */
  now = 0;
  readonly #known: Int32Array = new Int32Array(PLACES * WORDS).fill(-1);
  readonly #holdings: Holdings;
  readonly #states: FlowStates;

  /** For the flows of `holdings`. */
  constructor(holdings: Holdings) {
    this.#holdings = holdings;
    this.#states = holdings.states;
  }

  /** Gets to know the flow of `slot`, in place of another one that has the same place. */
  learn(slot: number, client: number, server: number, ports: number): void {
    this.#known.set([slot, client, server, ports], place(ports));
  }

  /** Forgets the flow of `slot`, whose ports are `ports`. */
  forget(slot: number, ports: number): void {
    if (this.#known[place(ports)] === slot) this.#known[place(ports)] = -1;
  }

  /** Takes the Ethernet frame of which `captured` bytes stand in `frame` from `at` on, if it is usual: whether it is. */
  take(frame: DataView, at: number, captured: number): boolean {
    if (
      captured < HEADERS || frame.getInt32(at + 12) >>> 8 !== ETHERNET_IPV4 ||
      (frame.getInt32(at + 20) & WHOLE_TCP_MASK) !== WHOLE_TCP
    ) {
      return false;
    }
    const offsetAndControl = frame.getInt32(at + 46) >>> 16;
    const header = 20 + (offsetAndControl >>> 12) * 4;
    const length = frame.getUint16(at + 16) - header;
    if (
      (offsetAndControl & CONTROL_MASK) !== Control.ACK || header < 40 || length < 0
    ) {
      return false;
    }
    const ports = frame.getInt32(at + 34);
    const known = this.#known;
    const entry = place(ports);
    const slot = known[entry]!;
    if (slot < 0 || (this.#states.flags[slot]! & ENDING) !== 0) return false;
    const source = frame.getInt32(at + 26);
    const destination = frame.getInt32(at + 30);
    const client = known[entry + 1]!;
    const server = known[entry + 2]!;
    if (source === client && destination === server && ports === known[entry + 3]) {
      if (length > 0) {
        const payload = 14 + header;
        if (payload + length > captured) return false;
        const seq = frame.getInt32(at + 38);
        if (!this.#holdings.append(slot, seq, frame, at + payload, length)) return false;
      }
      this.#states.clientAck[slot] = frame.getInt32(at + 42);
    } else if (
      source === server && destination === client &&
      (ports << 16 | ports >>> 16) === known[entry + 3]
    ) {
      if (!this.#acknowledged(slot, frame.getInt32(at + 42))) return false;
    } else {
      return false;
    }
    this.#states.touched[slot] = this.now;
    return true;
  }

  /** The primary has acknowledged up to `ack`. Whether that is usual. */
  #acknowledged(slot: number, ack: number): boolean {
    const { states, ledger } = this.#holdings;
    const advance = ack - states.primary[slot]! | 0;
    if (advance < 0 || advance > FAR || (states.flags[slot]! & Flag.PRIMARY) === 0) return false;
    states.primary[slot] = ack;
    states.acknowledged[slot]! += advance;
    ledger.acknowledged += advance;
    this.#holdings.slide(slot);
    return true;
  }
}

/** The place of a flow between two ports, the same for both directions. */
function place(ports: number): number {
  return ((ports >>> 16) + ports & PLACES - 1) * WORDS;
}
