/**
 * Two BFD sessions on a virtual clock and a virtual link that loses and delays packets.
 *
 * @module
 */
import type { Authenticator } from "../../lib/bfd/authentication.ts";
import { type ControlPacket, decode, emptyPacket, encode, State } from "../../lib/bfd/packet.ts";
import { Session, type SessionOptions } from "../../lib/bfd/session.ts";

/** A packet as it left one end. */
export interface Sent {
  at: number;
  packet: ControlPacket;
  /** Its bytes. */
  wire: Uint8Array;
}

/** What the link does to a packet: `undefined` loses it, else its delay in microseconds. */
export type Fate = (from: "a" | "b", at: number) => number | undefined;

/** A reproducible random source (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 0x100000000;
  };
}

/** Two sessions and the link between them; `run` lets virtual time pass. */
export class VirtualLink {
  now = 0;
  fate: Fate = () => 100;
  /** What each end sent. */
  readonly sent: { a: Sent[]; b: Sent[] } = { a: [], b: [] };
  /** State changes of both ends in order. */
  readonly changes: { end: "a" | "b"; at: number; to: State }[] = [];
  a: Session;
  b: Session;
  /** Called after every instant at which something happened. */
  observe: () => void = () => {};
  /** Packets that were discarded, as END: REASON. */
  readonly discarded: string[] = [];
  /** What each end's packets are signed by. */
  readonly #signers: { a?: Authenticator; b?: Authenticator } = {};
  #inFlight: { at: number; to: "a" | "b"; bytes: Uint8Array }[] = [];
  readonly #random: () => number;

  constructor(a: Partial<SessionOptions> = {}, b: Partial<SessionOptions> = {}, seed = 1) {
    this.#random = seeded(seed);
    this.a = this.make("a", { localDiscr: 11, role: "active", ...a });
    this.b = this.make("b", { localDiscr: 22, role: "passive", ...b });
  }

  /** A new session for `end`, as after a restart. */
  make(end: "a" | "b", options: Partial<SessionOptions>): Session {
    this.#signers[end] = options.authenticator;
    const session: Session = new Session({
      localDiscr: 1,
      role: "active",
      desiredMinTxInterval: 50_000,
      requiredMinRxInterval: 50_000,
      detectMult: 3,
      random: this.#random,
      send: (packet) => this.#send(end, packet),
      changed: (_from, at) => this.changes.push({ end, at, to: session.sessionState }),
      ...options,
    });
    return session;
  }

  /** Lets `micros` microseconds pass. */
  run(micros: number): void {
    const end = this.now + micros;
    while (true) {
      const arrival = this.#inFlight.reduce((min, { at }) => Math.min(min, at), Infinity);
      const next = Math.min(this.a.nextDeadline(), this.b.nextDeadline(), arrival);
      if (next > end) break;
      this.now = Math.max(this.now, next);
      const due = this.#inFlight.filter(({ at }) => at <= this.now);
      this.#inFlight = this.#inFlight.filter(({ at }) => at > this.now);
      for (const { to, bytes } of due) this.#deliver(to, bytes);
      this.a.tick(this.now);
      this.b.tick(this.now);
      this.observe();
    }
    this.now = end;
  }

  /** Runs until both ends are up, at most ten seconds. */
  bringUp(): void {
    for (let i = 0; i < 1000 && !this.bothUp; i++) this.run(10_000);
    // Polls end and the fast timers are in force.
    this.run(500_000);
  }

  get bothUp(): boolean {
    return this.a.sessionState === State.Up && this.b.sessionState === State.Up;
  }

  /** Lets a packet that was on the wire before arrive at `to`. */
  replay(to: "a" | "b", bytes: Uint8Array): void {
    this.#deliver(to, bytes);
  }

  #send(end: "a" | "b", packet: ControlPacket): void {
    // Through the wire format, so that whatever is sent is sound.
    const bytes = new Uint8Array(64);
    let length = encode(packet, bytes);
    length = this.#signers[end]?.sign(bytes, length) ?? length;
    const wire = bytes.subarray(0, length);
    this.sent[end].push({ at: this.now, packet: { ...packet }, wire });
    const delay = this.fate(end, this.now);
    if (delay === undefined) return;
    const to = end === "a" ? "b" : "a";
    this.#inFlight.push({ at: this.now + delay, to, bytes: wire });
  }

  #deliver(to: "a" | "b", bytes: Uint8Array): void {
    const packet = emptyPacket();
    const reason = decode(bytes, packet);
    if (reason !== undefined) throw new Error(`Sent a packet that is discarded: ${reason}`);
    const refused = this[to].receive(packet, this.now, bytes);
    if (refused !== undefined) this.discarded.push(`${to}: ${refused}`);
  }
}
