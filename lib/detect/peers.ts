/**
 * The peers of one process: which packet belongs to whom, whose timer is due, who may give way.
 *
 * @module
 */
import type { Datagram, UdpAddress } from "../../ffi/udp.ts";
import { type ControlPacket, State } from "../bfd/packet.ts";
import type { Session } from "../bfd/session.ts";
import { Deadlines, type Timed } from "./deadlines.ts";
import type { Sender } from "./network.ts";

/** What watches one session. */
export interface Watcher {
  /** A new session state. */
  changed(from: State, now: number): void;
  /** A valid packet has come. */
  heard(now: number): void;
  /** When {@linkcode Watcher.tick} has something to do, `Infinity` where nothing is to come. */
  nextDeadline(): number;
  /** Time has passed. */
  tick(now: number): void;
}

/** A session and what goes with it. */
export interface Peer extends Timed {
  /** The address as text. */
  readonly name: string;
  /** The address as bytes. */
  readonly address: UdpAddress;
  /** The local address that the peer talks to, where it came by itself. */
  readonly local?: Uint8Array;
  /** The protocol's state. */
  readonly session: Session;
  /** Packets sent and valid packets received. */
  readonly counters: { sent: number; received: number };
  /** Judges the session, where anyone does. */
  watcher?: Watcher;
  /** Where it sends from; opened when it first sends. */
  sender?: Sender;
  /** Since when it is not heard. */
  silentSince?: number;
}

/**
 * How long a session that came by itself outlives its peer, microseconds. RFC 5880 section 6.8.1
 * demands a Detection Time; a peer that was only cut off finds its session for longer.
 */
const KEEP = 10_000_000;

/** All peers of a process. */
export class Peers {
  readonly #byDiscriminator = new Map<number, Peer>();
  readonly #byAddress = new Map<string, Peer>();
  readonly #deadlines = new Deadlines<Peer>();
  /** Those that came by themselves and are not up; who waits longest comes first. */
  readonly #halfOpen = new Set<Peer>();
  readonly #due: Peer[] = [];

  /** How many there are. */
  get size(): number {
    return this.#byDiscriminator.size;
  }

  /** When the next peer has something to do, `Infinity` where nothing is to come. */
  get nextDeadline(): number {
    return this.#deadlines.next;
  }

  /** All of them, in the order in which they came. */
  [Symbol.iterator](): IterableIterator<Peer> {
    return this.#byDiscriminator.values();
  }

  /** Whether a session has this local discriminator. */
  has(discriminator: number): boolean {
    return this.#byDiscriminator.has(discriminator);
  }

  /** Takes a peer in; {@linkcode Peers.settle} it then. */
  add(peer: Peer): void {
    this.#byDiscriminator.set(peer.session.localDiscr, peer);
    this.#byAddress.set(pairKey(peer.address, peer.local), peer);
  }

  /** Removes a peer, and closes what it sends from. */
  delete(peer: Peer): void {
    this.#byDiscriminator.delete(peer.session.localDiscr);
    this.#byAddress.delete(pairKey(peer.address, peer.local));
    this.#halfOpen.delete(peer);
    this.#deadlines.delete(peer);
    peer.sender?.close();
  }

  /**
   * Whose packet this is: by discriminator, or while the peer does not know it, by the addresses
   * (RFC 5880 section 6.3, RFC 5881 section 3, RFC 5883 section 4).
   */
  find(packet: ControlPacket, { source, destination }: Datagram): Peer | undefined {
    if (packet.yourDiscriminator !== 0) {
      const peer = this.#byDiscriminator.get(packet.yourDiscriminator);
      return peer !== undefined && sameHost(peer.address, source) ? peer : undefined;
    }
    return this.#byAddress.get(pairKey(source, undefined)) ??
      this.#byAddress.get(pairKey(source, destination));
  }

  /** Those that are due at `now`; valid until the next call. */
  due(now: number): readonly Peer[] {
    this.#deadlines.due(now, this.#due);
    return this.#due;
  }

  /** Brings timers and order up to date after anything has happened to a peer. */
  settle(peer: Peer, now: number): void {
    const { session, watcher } = peer;
    if (session.lastReceived !== undefined) peer.silentSince = undefined;
    else peer.silentSince ??= now;
    if (isPassing(peer)) {
      if (session.sessionState === State.Up) this.#halfOpen.delete(peer);
      else this.#halfOpen.add(peer);
    }
    const deadline = Math.min(
      session.nextDeadline(),
      watcher?.nextDeadline() ?? Infinity,
      expiry(peer),
    );
    this.#deadlines.set(peer, deadline);
  }

  /** Who gives way where a new one needs room, `undefined` where nobody does. */
  leastWanted(): Peer | undefined {
    return this.#halfOpen.values().next().value;
  }
}

/** Whether the peer came by itself, and may go. */
export function isPassing(peer: Peer): boolean {
  return peer.session.role === "passive";
}

/** When a session that came by itself ends. */
export function expiry(peer: Peer): number {
  const { silentSince } = peer;
  return isPassing(peer) && silentSince !== undefined ? silentSince + KEEP : Infinity;
}

/** A host's address as a key: with the link, where it is link-local. */
export function hostKey({ address, scopeId }: UdpAddress): string {
  return `${address.join(".")}%${scopeId}`;
}

function pairKey(remote: UdpAddress, local: Uint8Array | undefined): string {
  return `${hostKey(remote)} ${local?.join(".") ?? ""}`;
}

function sameHost(a: UdpAddress, b: UdpAddress): boolean {
  if (a.scopeId !== b.scopeId || a.address.length !== b.address.length) return false;
  for (let i = 0; i < a.address.length; i++) if (a.address[i] !== b.address[i]) return false;
  return true;
}
