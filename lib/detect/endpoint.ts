/**
 * The BFD sessions of one process: which packet belongs to which, who may have one, and counters.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import type { Datagram, UdpAddress } from "../../ffi/udp.ts";
import {
  type ControlPacket,
  decode,
  emptyPacket,
  encode,
  type FormatReason,
  MAX_LENGTH,
  State,
} from "../bfd/packet.ts";
import { Session, type SessionReason, type Timers } from "../bfd/session.ts";
import { addressText, type Network, type Sender, TTL } from "./network.ts";

/** Why a received packet is discarded; every reason is counted. */
export type DiscardReason =
  | FormatReason
  | SessionReason
  /** TTL or hop limit below 255: the packet was routed, RFC 5881 section 5. */
  | "ttl"
  /** Your Discriminator names no session, or one of another peer. */
  | "unknown-discriminator"
  /** The sender is no peer of ours. */
  | "unknown-peer"
  /** Sent to a multicast address. */
  | "multicast"
  /** There are as many sessions as there may be. */
  | "too-many-sessions";

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
export interface Peer {
  /** The address as text. */
  readonly name: string;
  /** The address as bytes. */
  readonly address: UdpAddress;
  /** The protocol's state. */
  readonly session: Session;
  /** Packets sent and valid packets received. */
  readonly counters: { sent: number; received: number };
  /** Judges the session, where anyone does. */
  watcher?: Watcher;
  /** Where it sends from; opened when it first sends. */
  sender?: Sender;
  /** The local address that the peer talks to. */
  local?: Uint8Array;
  /** Since when it is not heard. */
  silentSince?: number;
}

/**
 * How long a session that came by itself outlives its peer, microseconds. RFC 5880 section 6.8.1
 * demands a Detection Time; a peer that was only cut off finds its session for longer.
 */
const KEEP = 10_000_000;

/** Who else may have a session, beside those that {@linkcode Endpoint.add} made. */
export interface Answering {
  /** The addresses that may, as text; every one where empty. */
  readonly allowed: readonly string[];
  /** The most sessions, 1 or more. */
  readonly limit: number;
  /** The answering side's multiplier; each peer's own where undefined. */
  readonly detectMult?: number;
}

/** Settings of an {@linkcode Endpoint}. */
export interface EndpointOptions {
  /** Where packets go. */
  network: Network;
  /** Timers of the sessions. */
  timers: Timers;
  /** Uniform random numbers, 0 <= r < 1, for jitter and discriminators. */
  random: () => number;
  /** Tells a person of an anomaly; called once for each kind. */
  warn: (message: string) => void;
  /** Answers peers that ask for a session; nobody unless given. */
  answering?: Answering;
}

/** What each reason means, for a person. */
const reasons: Record<DiscardReason, string> = {
  "truncated": "it is shorter than a BFD Control packet",
  "bad-version": "its version is not 1",
  "bad-length": "its Length is too small",
  "length-beyond-payload": "its Length exceeds what arrived",
  "zero-detect-mult": "its Detect Mult is 0",
  "multipoint": "its Multipoint bit is set",
  "zero-my-discriminator": "its My Discriminator is 0",
  "zero-your-discriminator": "its Your Discriminator is 0 while its session is up",
  "bad-authentication-length": "its authentication section has a wrong length",
  "wrong-discriminator": "its Your Discriminator is that of another session",
  "unexpected-authentication": "it is authenticated and this side uses no authentication",
  "ttl": `its TTL is not ${TTL}, so it was routed; only single-hop sessions are possible`,
  "unknown-discriminator": "its Your Discriminator names no session, such as one of an earlier run",
  "unknown-peer": "its sender is no peer of ours",
  "multicast": "it was sent to a multicast address",
  "too-many-sessions": "there are as many sessions as there may be",
};

/** All BFD sessions of a process. Times are microseconds of one monotonic clock. */
export class Endpoint {
  /** Packets discarded, by reason. */
  readonly discarded: Map<DiscardReason, number> = new Map();
  /** Packets that could not be sent. */
  sendErrors = 0;
  readonly #options: EndpointOptions;
  readonly #peers = new Map<number, Peer>();
  readonly #told = new Set<string>();
  readonly #packet = emptyPacket();
  readonly #buffer = new Uint8Array(MAX_LENGTH);
  #stopping = false;

  /** Has no sessions yet. */
  constructor(options: EndpointOptions) {
    this.#options = options;
  }

  /** The peers with a session, in the order in which they came. */
  get peers(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  /** Adds an active session with `address`. */
  add(address: UdpAddress): Peer {
    return this.#open(address, "active", this.#options.timers);
  }

  /** Takes a datagram that arrived. */
  receive(datagram: Datagram, now: number): void {
    const reason = this.#accept(datagram, now);
    if (reason !== undefined) this.#discard(reason, datagram.source);
  }

  /** When {@linkcode Endpoint.tick} has something to do, `Infinity` where nothing is to come. */
  nextDeadline(): number {
    let next = Infinity;
    for (const peer of this.#peers.values()) {
      const { session, watcher } = peer;
      next = Math.min(next, session.nextDeadline(), watcher?.nextDeadline() ?? Infinity);
      next = Math.min(next, this.#expiry(peer));
    }
    return next;
  }

  /** Lets due timers expire. First {@linkcode Endpoint.receive} everything that waits. */
  tick(now: number): void {
    for (const peer of this.#peers.values()) {
      // The session first: what has failed by now need not be called suspect.
      peer.session.tick(now);
      peer.watcher?.tick(now);
      if (peer.session.lastReceived !== undefined) peer.silentSince = undefined;
      else peer.silentSince ??= now;
      if (now >= this.#expiry(peer)) this.#close(peer);
    }
  }

  /**
   * Says that this process did not run for `late` microseconds when it should have, until `now`.
   * Packets may have been lost with the time: sessions for which that matters get one interval more.
   */
  excuse(late: number, now: number): void {
    for (const { session } of this.#peers.values()) {
      if (late > session.receiveInterval / 2) session.excuse(now);
    }
  }

  /** Tells the peers of all sessions that they go down on purpose, and takes no new ones. */
  stop(now: number): void {
    this.#stopping = true;
    for (const { session } of this.#peers.values()) session.disable(now);
  }

  /** Whether every peer has confirmed {@linkcode Endpoint.stop} or is gone. */
  get stopped(): boolean {
    return this.#stopping && this.peers.every(({ session }) => session.announced);
  }

  /** Closes what the sessions send from. */
  close(): void {
    for (const peer of this.peers) this.#close(peer);
  }

  /** Tells the operator of an anomaly, where its kind is new. */
  warn(kind: string, message: () => string): void {
    if (this.#told.has(kind)) return;
    this.#told.add(kind);
    this.#options.warn(message());
  }

  #accept(datagram: Datagram, now: number): DiscardReason | undefined {
    if (datagram.ttl !== TTL) return "ttl";
    const packet = this.#packet;
    const malformed = decode(datagram.bytes, packet);
    if (malformed !== undefined) return malformed;
    const peer = this.#select(packet, datagram);
    if (typeof peer === "string") return peer;
    const refused = peer.session.receive(packet, now);
    if (refused !== undefined) return refused;
    peer.counters.received++;
    peer.watcher?.heard(now);
    const detectMult = this.#options.answering?.detectMult ?? packet.detectMult;
    if (this.#isPassing(peer) && peer.session.detectMult !== detectMult) {
      peer.session.setTimers({ ...this.#options.timers, detectMult }, now);
    }
    if (packet.demand) {
      this.warn(
        "demand",
        () => `Peer "${peer.name}" asks for Demand mode, so it is sent no heartbeats`,
      );
    }
    return undefined;
  }

  /** The session of a packet: RFC 5880 section 6.3, RFC 5881 section 3. */
  #select(packet: ControlPacket, datagram: Datagram): Peer | DiscardReason {
    const { source } = datagram;
    if (packet.yourDiscriminator !== 0) {
      const peer = this.#peers.get(packet.yourDiscriminator);
      return peer !== undefined && sameHost(peer.address, source) ? peer : "unknown-discriminator";
    }
    for (const peer of this.#peers.values()) if (sameHost(peer.address, source)) return peer;
    const { answering, timers } = this.#options;
    if (answering === undefined || this.#stopping) return "unknown-peer";
    const { allowed, limit, detectMult = packet.detectMult } = answering;
    if (allowed.length > 0 && !allowed.includes(addressText(source.address))) return "unknown-peer";
    if (packet.authentication !== undefined) return "unexpected-authentication";
    // IPv6 delivers to multicast groups that every host is in.
    if (datagram.destination.length === 16 && datagram.destination[0] === 0xff) return "multicast";
    if (this.#peers.size >= limit && !this.#evict()) return "too-many-sessions";
    const peer = this.#open(source, "passive", { ...timers, detectMult });
    if (datagram.destination.length > 0) peer.local = datagram.destination;
    return peer;
  }

  /** Makes room by the session that is not up and was heard longest ago. */
  #evict(): boolean {
    let oldest: Peer | undefined;
    for (const peer of this.#peers.values()) {
      if (!this.#isPassing(peer) || peer.session.sessionState === State.Up) continue;
      const heard = peer.session.lastReceived ?? 0;
      if (oldest === undefined || heard < (oldest.session.lastReceived ?? 0)) oldest = peer;
    }
    if (oldest !== undefined) this.#close(oldest);
    return oldest !== undefined;
  }

  /** When a session that came by itself ends. */
  #expiry(peer: Peer): number {
    const { silentSince } = peer;
    return this.#isPassing(peer) && silentSince !== undefined ? silentSince + KEEP : Infinity;
  }

  /** Whether the peer came by itself, and may go. */
  #isPassing(peer: Peer): boolean {
    return peer.session.role === "passive";
  }

  #open(address: UdpAddress, role: "active" | "passive", timers: Timers): Peer {
    const localDiscr = this.#newDiscriminator();
    const peer: Peer = {
      name: addressText(address.address),
      address,
      counters: { sent: 0, received: 0 },
      session: new Session({
        ...timers,
        localDiscr,
        role,
        random: this.#options.random,
        send: (packet) => this.#send(peer, packet),
        changed: (from, now) => peer.watcher?.changed(from, now),
      }),
    };
    this.#peers.set(localDiscr, peer);
    return peer;
  }

  /** Random, so that a packet for an earlier run does not fit: RFC 5880 section 6.8.1. */
  #newDiscriminator(): number {
    while (true) {
      const candidate = Math.floor(this.#options.random() * 0x100000000);
      if (candidate !== 0 && !this.#peers.has(candidate)) return candidate;
    }
  }

  #close(peer: Peer): void {
    this.#peers.delete(peer.session.localDiscr);
    peer.sender?.close();
  }

  #send(peer: Peer, packet: ControlPacket): void {
    const length = encode(packet, this.#buffer);
    try {
      peer.sender ??= this.#options.network.connect(peer.address, peer.local);
      if (peer.sender.send(this.#buffer.subarray(0, length))) peer.counters.sent++;
      else this.sendErrors++;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.sendErrors++;
      this.warn(`send ${error.code}`, () => `Cannot send to "${peer.name}": ${error.code}`);
    }
  }

  #discard(reason: DiscardReason, source: UdpAddress): void {
    this.discarded.set(reason, (this.discarded.get(reason) ?? 0) + 1);
    this.warn(
      reason,
      () => `Discarded a packet from "${addressText(source.address)}": ${reasons[reason]}`,
    );
  }
}

function sameHost(a: UdpAddress, b: UdpAddress): boolean {
  return a.scopeId === b.scopeId && a.address.length === b.address.length &&
    a.address.every((byte, i) => byte === b.address[i]);
}
