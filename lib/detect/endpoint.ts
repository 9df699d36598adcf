/**
 * The BFD sessions of one process: what is done with a packet, who may have a session, and counters.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import type { Datagram, UdpAddress } from "../../ffi/udp.ts";
import { Authenticator, type AuthKey } from "../bfd/authentication.ts";
import { type ControlPacket, decode, emptyPacket, encode, MAX_LENGTH } from "../bfd/packet.ts";
import { Session, type Timers } from "../bfd/session.ts";
import { type DiscardReason, MEANINGS } from "./discard.ts";
import { addressText, type Network } from "./network.ts";
import { expiry, hostKey, isPassing, type Peer, Peers, type Watcher } from "./peers.ts";

/** Who else may have a session, beside those that {@linkcode Endpoint.add} made. */
export interface Answering {
  /** The hosts that may, whatever their ports say; every one where empty. */
  readonly allowed: readonly UdpAddress[];
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
  /** The least TTL or hop limit to arrive with, 1 to 255. */
  minTtl: number;
  /** Authenticates all sessions; none unless given. */
  authKey?: AuthKey;
  /** Answers peers that ask for a session; nobody unless given. */
  answering?: Answering;
}

/**
 * How many sessions strangers may begin: so many at once, and then a second. Each costs a socket, a
 * tenth of a millisecond; a flood must leave time to the sessions that there are.
 */
const NEWCOMERS = { atOnce: 256, aSecond: 200 } as const;

/** All BFD sessions of a process. Times are microseconds of one monotonic clock. */
export class Endpoint {
  /** Packets discarded, by reason. */
  readonly discarded: Map<DiscardReason, number> = new Map();
  /** Packets that could not be sent. */
  sendErrors = 0;
  readonly #options: EndpointOptions;
  readonly #peers = new Peers();
  readonly #allowed: ReadonlySet<string>;
  readonly #told = new Set<string>();
  readonly #packet = emptyPacket();
  readonly #buffer = new Uint8Array(MAX_LENGTH);
  /** Sessions that strangers may begin now, and when that was reckoned. */
  #vacancies: number = NEWCOMERS.atOnce;
  #reckonedAt = -Infinity;
  #stopping = false;
  #announcing = false;

  /** Has no sessions yet. */
  constructor(options: EndpointOptions) {
    this.#options = options;
    this.#allowed = new Set(options.answering?.allowed.map(hostKey));
  }

  /** The peers with a session, in the order in which they came. */
  get peers(): readonly Peer[] {
    return [...this.#peers];
  }

  /** How many sessions there are. */
  get size(): number {
    return this.#peers.size;
  }

  /** The shortest interval of all sessions, either way, microseconds; `Infinity` without any. */
  get shortestInterval(): number {
    let shortest = Infinity;
    for (const { session } of this.#peers) {
      shortest = Math.min(shortest, session.transmitInterval, session.receiveInterval);
    }
    return shortest;
  }

  /** Adds an active session with `address`, called `name`, that `watch` makes a watcher for. */
  add(address: UdpAddress, name: string, now: number, watch?: (peer: Peer) => Watcher): void {
    const peer = this.#open(address, "active", this.#options.timers, { name });
    peer.watcher = watch?.(peer);
    this.#peers.settle(peer, now);
  }

  /** Takes a datagram that arrived. */
  receive(datagram: Datagram, now: number): void {
    const reason = this.#accept(datagram, now);
    if (reason !== undefined) this.#discard(reason, datagram);
  }

  /** When {@linkcode Endpoint.tick} has something to do, `Infinity` where nothing is to come. */
  nextDeadline(): number {
    return this.#peers.nextDeadline;
  }

  /** Lets due timers expire. First {@linkcode Endpoint.receive} everything that waits. */
  tick(now: number): void {
    for (const peer of this.#peers.due(now)) {
      // The session first: what has failed by now need not be called suspect.
      peer.session.tick(now);
      peer.watcher?.tick(now);
      if (now >= expiry(peer)) this.#peers.delete(peer);
      else this.#peers.settle(peer, now);
    }
  }

  /**
   * Says that this process did not run for `late` microseconds when it should have, until `now`.
   * Packets may have been lost with the time: sessions for which that matters get one interval more.
   */
  excuse(late: number, now: number): void {
    // No session's interval is shorter than ours.
    if (late <= this.#options.timers.requiredMinRxInterval / 2) return;
    for (const peer of this.#peers) {
      if (late <= peer.session.receiveInterval / 2) continue;
      peer.session.excuse(now);
      this.#peers.settle(peer, now);
    }
  }

  /** Tells the peers of all sessions that they go down on purpose, and takes no new ones. */
  stop(now: number): void {
    this.#stopping = true;
    for (const peer of this.#peers) {
      peer.session.disable(now);
      this.#peers.settle(peer, now);
    }
  }

  /** Tells the peers that the host goes down on purpose, and so those that come later. */
  announceDown(now: number): void {
    this.#announcing = true;
    for (const peer of this.#peers) {
      peer.session.disable(now);
      this.#peers.settle(peer, now);
    }
  }

  /** Whether every peer has confirmed {@linkcode Endpoint.stop} or is gone. */
  get stopped(): boolean {
    return this.#stopping && this.peers.every(({ session }) => session.announced);
  }

  /** Closes what the sessions send from. */
  close(): void {
    for (const peer of this.peers) this.#peers.delete(peer);
  }

  /** Tells the operator of an anomaly, where its kind is new. */
  warn(kind: string, message: () => string): void {
    if (this.#told.has(kind)) return;
    this.#told.add(kind);
    this.#options.warn(message());
  }

  #accept(datagram: Datagram, now: number): DiscardReason | undefined {
    if (datagram.ttl < this.#options.minTtl) return "ttl";
    const packet = this.#packet;
    const malformed = decode(datagram.bytes, packet);
    if (malformed !== undefined) return malformed;
    const bytes = datagram.bytes.subarray(0, datagram.bytes[3]);
    const peer = this.#peers.find(packet, datagram) ?? this.#invite(packet, datagram, bytes, now);
    if (typeof peer === "string") return peer;
    const refused = peer.session.receive(packet, now, bytes);
    if (refused === undefined) this.#heard(peer, packet, now);
    this.#peers.settle(peer, now);
    return refused;
  }

  #heard(peer: Peer, packet: ControlPacket, now: number): void {
    peer.counters.received++;
    peer.watcher?.heard(now);
    const detectMult = this.#options.answering?.detectMult ?? packet.detectMult;
    if (isPassing(peer) && peer.session.detectMult !== detectMult) {
      peer.session.setTimers({ ...this.#options.timers, detectMult }, now);
    }
    if (!packet.demand) return;
    this.warn(
      "demand",
      () => `Peer "${peer.name}" asks for Demand mode, so it is sent no heartbeats`,
    );
  }

  /** A session for a peer that came by itself, or why it gets none. */
  #invite(
    packet: ControlPacket,
    { source, destination }: Datagram,
    bytes: Uint8Array,
    now: number,
  ): Peer | DiscardReason {
    if (packet.yourDiscriminator !== 0) return "unknown-discriminator";
    const { answering, timers, authKey, random } = this.#options;
    if (answering === undefined || this.#stopping) return "unknown-peer";
    const { limit, detectMult = packet.detectMult } = answering;
    if (this.#allowed.size > 0 && !this.#allowed.has(hostKey(source))) return "unknown-peer";
    // IPv6 delivers to multicast groups that every host is in.
    if (destination.length === 16 && destination[0] === 0xff) return "multicast";
    // Whoever cannot authenticate costs no session.
    const authenticated = packet.authentication !== undefined;
    if (authKey === undefined && authenticated) return "unexpected-authentication";
    if (authKey !== undefined) {
      const judge = new Authenticator(authKey, random);
      const forged = judge.verify(bytes, authenticated, now, 0);
      if (forged !== undefined) return forged;
    }
    if (!this.#admit(now)) return "too-many-newcomers";
    if (this.#peers.size >= limit) {
      const evicted = this.#peers.leastWanted();
      if (evicted === undefined) return "too-many-sessions";
      this.#peers.delete(evicted);
    }
    const local = destination.length > 0 ? destination : undefined;
    const name = addressText(source.address);
    const peer = this.#open(source, "passive", { ...timers, detectMult }, { name, local });
    if (this.#announcing) peer.session.disable(now);
    return peer;
  }

  /** Whether one more stranger may begin a session now. */
  #admit(now: number): boolean {
    const { atOnce, aSecond } = NEWCOMERS;
    const earned = (now - this.#reckonedAt) / 1e6 * aSecond;
    this.#vacancies = Math.min(this.#vacancies + earned, atOnce);
    this.#reckonedAt = now;
    if (this.#vacancies < 1) return false;
    this.#vacancies--;
    return true;
  }

  #open(
    address: UdpAddress,
    role: "active" | "passive",
    timers: Timers,
    names: { name: string; local?: Uint8Array },
  ): Peer {
    const localDiscr = this.#newDiscriminator();
    const { authKey, random } = this.#options;
    const authenticator = authKey === undefined ? undefined : new Authenticator(authKey, random);
    const peer: Peer = {
      ...names,
      address,
      counters: { sent: 0, received: 0 },
      deadline: Infinity,
      heapIndex: -1,
      session: new Session({
        ...timers,
        localDiscr,
        role,
        authenticator,
        random,
        send: (packet) => this.#send(peer, packet, authenticator),
        changed: (from, now) => peer.watcher?.changed(from, now),
      }),
    };
    this.#peers.add(peer);
    return peer;
  }

  /** Random, so that a packet for an earlier run does not fit: RFC 5880 section 6.8.1. */
  #newDiscriminator(): number {
    while (true) {
      const candidate = Math.floor(this.#options.random() * 0x100000000);
      if (candidate !== 0 && !this.#peers.has(candidate)) return candidate;
    }
  }

  #send(peer: Peer, packet: ControlPacket, authenticator: Authenticator | undefined): void {
    let length = encode(packet, this.#buffer);
    if (authenticator !== undefined) length = authenticator.sign(this.#buffer, length);
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

  #discard(reason: DiscardReason, { source, ttl }: Datagram): void {
    this.discarded.set(reason, (this.discarded.get(reason) ?? 0) + 1);
    // At the end of every orderly run the peers' last packets are discarded so.
    if (reason === "admin-down") return;
    this.warn(reason, () => {
      const detail = reason === "ttl" ? `, its TTL is ${ttl} and not ${this.#ttlWanted()}` : "";
      return `Discarded a packet from "${addressText(source.address)}": ${
        MEANINGS[reason]
      }${detail}`;
    });
  }

  #ttlWanted(): string {
    const { minTtl } = this.#options;
    return minTtl === 255 ? "255" : `${minTtl} or more`;
  }
}
