/**
 * One BFD session: the state machine and the timers of RFC 5880 section 6.8, asynchronous mode.
 *
 * Pure: time comes in as an argument, packets leave through a function. All times and intervals are
 * microseconds; times are of any one monotonic clock. The state variables are named as in section
 * 6.8.1.
 *
 * Demand mode is refused as far as the RFC lets one refuse it: this side never asks for it (its D
 * bit is always 0); where the peer does, this side falls silent as it must, and answers polls.
 *
 * @module
 */
import type { Authenticator, AuthReason } from "./authentication.ts";
import { type ControlPacket, Diag, emptyPacket, State } from "./packet.ts";

/** The shortest Desired Min TX Interval while the session is not up: section 6.8.3. */
export const SLOW_INTERVAL = 1_000_000;

/** The widest intervals that the packet's fields can carry. */
export const MAX_INTERVAL = 0xffffffff;

const NO_BYTES: Uint8Array = new Uint8Array(0);

/** The timers that the operator chooses. */
export interface Timers {
  /** bfd.DesiredMinTxInterval once the session is up, 1 to {@linkcode MAX_INTERVAL}. */
  desiredMinTxInterval: number;
  /** bfd.RequiredMinRxInterval, 1 to {@linkcode MAX_INTERVAL}. */
  requiredMinRxInterval: number;
  /** bfd.DetectMult, 1 to 255. */
  detectMult: number;
}

/** What a session is made of. */
export interface SessionOptions extends Timers {
  /** bfd.LocalDiscr: this side's name for the session, unique on the host, 1 to 2^32 - 1. */
  localDiscr: number;
  /** The passive role stays silent until a packet has come. */
  role: "active" | "passive";
  /** Judges the peer's packets: section 6.7. Without it, authenticated ones are discarded. */
  authenticator?: Authenticator;
  /** Uniform random numbers, 0 <= r < 1, for the jitter. */
  random: () => number;
  /** Transmits a packet. The object is used again for the next one. */
  send: (packet: ControlPacket) => void;
  /** Called after every change of bfd.SessionState, before anything is transmitted. */
  changed?: (from: State, now: number) => void;
}

/** Why a session discards a sound packet: the rules of section 6.8.6 that concern the session. */
export type SessionReason =
  /** Your Discriminator is not this session's. */
  | "wrong-discriminator"
  | AuthReason
  /** This session is administratively down; what the packet says of the peer is noted all the same. */
  | "admin-down";

/** One end of a BFD session. */
export class Session {
  /** bfd.SessionState. */
  sessionState: State = State.Down;
  /** bfd.RemoteSessionState: what the peer said last; Down where it is not heard. */
  remoteSessionState: State = State.Down;
  /** bfd.LocalDiscr. */
  readonly localDiscr: number;
  /** bfd.RemoteDiscr, 0 where the peer is not heard. */
  remoteDiscr = 0;
  /** bfd.LocalDiag: why the state last changed. */
  localDiag: number = Diag.None;
  /** The peer's Diag as it said last. */
  remoteDiag: number = Diag.None;
  /** bfd.DesiredMinTxInterval as it is advertised. */
  desiredMinTxInterval: number;
  /** bfd.RequiredMinRxInterval as it is advertised. */
  requiredMinRxInterval: number;
  /** bfd.RemoteMinRxInterval. */
  remoteMinRxInterval = 1;
  /** bfd.RemoteDemandMode. */
  remoteDemandMode = false;
  /** Desired Min TX Interval as the peer said last. */
  remoteDesiredMinTxInterval: number = SLOW_INTERVAL;
  /** Detect Mult as the peer said last. */
  remoteDetectMult = 1;
  /** When the last valid packet came, `undefined` where none did within the Detection Time. */
  lastReceived: number | undefined;

  readonly #options: SessionOptions;
  readonly #packet = emptyPacket();
  readonly #transmitted = emptyPacket();
  #configured: Timers;
  /** DesiredMinTx and RequiredMinRx as in force; behind the advertised ones during a poll. */
  #txInForce: number;
  #rxInForce: number;
  #polling = false;
  /** A poll has ended, and no packet without F came since: section 6.8.3, last paragraph. */
  #finalPending = false;
  #lastTransmitted = -Infinity;
  /** Between the last two packets of the schedule. */
  #lastGap = 0;
  #jitter = 1;
  /** The detection waits until then: {@linkcode Session.excuse}. */
  #excusedUntil = -Infinity;
  #excused = false;

  /** Starts in state Down; an active session transmits at its first {@linkcode Session.tick}. */
  constructor(options: SessionOptions) {
    inRange("LocalDiscr", options.localDiscr, 0xffffffff);
    this.#options = options;
    this.#configured = checked(options);
    this.localDiscr = options.localDiscr;
    this.desiredMinTxInterval = Math.max(options.desiredMinTxInterval, SLOW_INTERVAL);
    this.requiredMinRxInterval = options.requiredMinRxInterval;
    this.#txInForce = this.desiredMinTxInterval;
    this.#rxInForce = this.requiredMinRxInterval;
  }

  /** This side's role in starting the session: section 6.1. */
  get role(): "active" | "passive" {
    return this.#options.role;
  }

  /** bfd.DetectMult. */
  get detectMult(): number {
    return this.#configured.detectMult;
  }

  /** Whether a Poll Sequence is under way. */
  get polling(): boolean {
    return this.#polling;
  }

  /** The interval of the periodic packets before jitter: section 6.8.7. */
  get transmitInterval(): number {
    return Math.max(this.#txInForce, this.remoteMinRxInterval);
  }

  /** The longest interval in which the peer transmits: the one that was agreed on. */
  get receiveInterval(): number {
    return Math.max(this.#rxInForce, this.remoteDesiredMinTxInterval);
  }

  /** The Detection Time: section 6.8.4. */
  get detectionTime(): number {
    return this.remoteDetectMult * this.receiveInterval;
  }

  /** When the Detection Time will have passed, `Infinity` where the peer is not heard. */
  get detectionDeadline(): number {
    if (this.lastReceived === undefined) return Infinity;
    return Math.max(this.lastReceived + this.detectionTime, this.#excusedUntil);
  }

  /**
   * Says that this side did not run from some time on until `now`. Where the Detection Time ended
   * in between, the peer gets one more interval, once: its packets may have been lost with the time.
   */
  excuse(now: number): void {
    if (this.#excused || now < this.detectionDeadline) return;
    this.#excused = true;
    this.#excusedUntil = now + this.receiveInterval;
  }

  /** The longest of the last two times without a packet to the peer, the current one included. */
  transmitGap(now: number): number {
    return Math.max(now - this.#lastTransmitted, this.#lastGap);
  }

  /** When {@linkcode Session.tick} has something to do, `Infinity` where nothing is to come. */
  nextDeadline(): number {
    return Math.min(this.detectionDeadline, this.#nextTransmission());
  }

  /** Lets due timers expire: the detection, then the next periodic packet. */
  tick(now: number): void {
    if (now >= this.detectionDeadline) this.#expire(now);
    if (now >= this.#nextTransmission()) this.#transmit(now);
  }

  /**
   * Takes a packet that passed {@linkcode decode}, and does what section 6.8.6 says. Returns why
   * the packet was discarded, or `undefined` where it was valid.
   *
   * @param bytes the packet as it came, as many bytes as its Length says; without an authenticator
   * nobody reads them
   */
  receive(packet: ControlPacket, now: number, bytes = NO_BYTES): SessionReason | undefined {
    if (packet.yourDiscriminator !== 0 && packet.yourDiscriminator !== this.localDiscr) {
      return "wrong-discriminator";
    }
    const forged = this.#authenticate(packet, now, bytes);
    if (forged !== undefined) return forged;
    this.remoteDiscr = packet.myDiscriminator;
    this.remoteSessionState = packet.state;
    this.remoteDiag = packet.diag;
    this.remoteDemandMode = packet.demand;
    this.remoteMinRxInterval = packet.requiredMinRxInterval;
    this.remoteDesiredMinTxInterval = packet.desiredMinTxInterval;
    this.remoteDetectMult = packet.detectMult;
    if (packet.final && this.#polling) this.#endPoll();
    else if (!packet.final) this.#finalPending = false;
    // In AdminDown too: bfd.RemoteDiscr is kept for as long as the peer is heard.
    this.lastReceived = now;
    this.#excused = false;
    this.#excusedUntil = -Infinity;
    if (this.sessionState === State.AdminDown) {
      this.#applyTimers();
      return "admin-down";
    }
    this.#advance(packet.state, now);
    this.#applyTimers();
    if (packet.poll) this.#transmit(now, true);
    this.#transmitIfChanged(now);
    return undefined;
  }

  /** Changes the operator's timers, by a Poll Sequence where one is needed: section 6.8.3. */
  setTimers(timers: Timers, now: number): void {
    this.#configured = checked(timers);
    this.#applyTimers();
    this.#transmitIfChanged(now);
  }

  /**
   * Administratively disables the session: section 6.8.16. Keep ticking until
   * {@linkcode Session.announced}, so that the peer learns of it.
   */
  disable(now: number, diag: number = Diag.AdministrativelyDown): void {
    if (this.sessionState === State.AdminDown) return;
    const wasUp = this.sessionState === State.Up;
    this.#setState(State.AdminDown, diag, now);
    this.#applyTimers();
    // A poll makes the peer confirm; it has nothing to forget where it did not take us for up.
    this.#polling = wasUp && this.remoteDiscr !== 0;
    this.#transmitIfChanged(now);
  }

  /** Enables the session again after {@linkcode Session.disable}. */
  enable(now: number): void {
    if (this.sessionState !== State.AdminDown) return;
    this.#setState(State.Down, Diag.None, now);
    this.#applyTimers();
    this.#transmitIfChanged(now);
  }

  /** Whether the session is disabled, and the peer has confirmed that, is gone or disabled too. */
  get announced(): boolean {
    return this.sessionState === State.AdminDown &&
      (!this.#polling || this.remoteSessionState === State.AdminDown);
  }

  #authenticate(packet: ControlPacket, now: number, bytes: Uint8Array): AuthReason | undefined {
    const authenticated = packet.authentication !== undefined;
    const { authenticator } = this.#options;
    if (authenticator === undefined) {
      return authenticated ? "unexpected-authentication" : undefined;
    }
    return authenticator.verify(bytes, authenticated, now, 2 * this.detectionTime);
  }

  /** The transitions of section 6.8.6, from a received `state`. */
  #advance(state: State, now: number): void {
    const { Down, Init, Up, AdminDown } = State;
    const from = this.sessionState;
    if (state === AdminDown) {
      if (from !== Down) this.#setState(Down, Diag.NeighborSignaledSessionDown, now);
    } else if (from === Down) {
      if (state === Down) this.#setState(Init, this.localDiag, now);
      else if (state === Init) this.#setState(Up, Diag.None, now);
    } else if (from === Init) {
      if (state === Init || state === Up) this.#setState(Up, Diag.None, now);
    } else if (state === Down) {
      this.#setState(Down, Diag.NeighborSignaledSessionDown, now);
    }
  }

  #setState(state: State, diag: number, now: number): void {
    const from = this.sessionState;
    this.sessionState = state;
    this.localDiag = diag;
    // The old state's poll is about timers that no longer hold.
    if (from === State.Up) this.#polling = false;
    this.#options.changed?.(from, now);
  }

  /** The Detection Time has passed: sections 6.8.4 and 6.8.1 (bfd.RemoteDiscr). */
  #expire(now: number): void {
    if (this.sessionState === State.Init || this.sessionState === State.Up) {
      this.#setState(State.Down, Diag.ControlDetectionTimeExpired, now);
    }
    this.#applyTimers();
    this.#polling = false;
    this.#finalPending = false;
    // The peer may still hear us: tell it, while its discriminator is known.
    this.#transmitIfChanged(now);
    this.lastReceived = undefined;
    this.#excused = false;
    this.#excusedUntil = -Infinity;
    this.remoteDiscr = 0;
    this.#transmitted.yourDiscriminator = 0;
    this.remoteSessionState = State.Down;
    this.remoteMinRxInterval = 1;
    this.remoteDemandMode = false;
  }

  /** Brings the advertised timers and those in force to what state and operator ask for. */
  #applyTimers(): void {
    const up = this.sessionState === State.Up;
    const { desiredMinTxInterval, requiredMinRxInterval } = this.#configured;
    const tx = up ? desiredMinTxInterval : Math.max(desiredMinTxInterval, SLOW_INTERVAL);
    const rx = requiredMinRxInterval;
    if (tx !== this.desiredMinTxInterval || rx !== this.requiredMinRxInterval) {
      const slower = tx > this.desiredMinTxInterval || rx < this.requiredMinRxInterval;
      // Where the Final would be ambiguous, the change waits for the end of the poll before.
      if (!(up && slower && (this.#polling || this.#finalPending))) {
        this.desiredMinTxInterval = tx;
        this.requiredMinRxInterval = rx;
        this.#polling = this.remoteDiscr !== 0;
      }
    }
    // While up, the peer must have confirmed before packets come later or are expected earlier.
    // AdminDown is announced at the old pace for the same reason: one lost packet must not hide it.
    const hold = this.#polling && (up || this.sessionState === State.AdminDown);
    const { desiredMinTxInterval: newTx, requiredMinRxInterval: newRx } = this;
    this.#txInForce = hold ? Math.min(this.#txInForce, newTx) : newTx;
    this.#rxInForce = hold ? Math.max(this.#rxInForce, newRx) : newRx;
  }

  #endPoll(): void {
    this.#polling = false;
    // In Demand mode no further packet would come.
    this.#finalPending = !this.remoteDemandMode;
  }

  #nextTransmission(): number {
    if (this.#options.role === "passive" && this.remoteDiscr === 0) return Infinity;
    if (this.remoteMinRxInterval === 0) return Infinity;
    const demanded = this.remoteDemandMode && this.sessionState === State.Up &&
      this.remoteSessionState === State.Up;
    if (demanded && !this.#polling) return Infinity;
    return this.#lastTransmitted + this.#jitter * this.transmitInterval;
  }

  /** Transmits at once where the packet would differ from the last one: section 6.8.7. */
  #transmitIfChanged(now: number): void {
    const last = this.#transmitted;
    const same = last.state === this.sessionState && last.diag === this.localDiag &&
      last.yourDiscriminator === this.remoteDiscr && last.detectMult === this.detectMult &&
      last.desiredMinTxInterval === this.desiredMinTxInterval &&
      last.requiredMinRxInterval === this.requiredMinRxInterval;
    if (!same) this.#transmit(now);
  }

  #transmit(now: number, final = false): void {
    if (this.#options.role === "passive" && this.remoteDiscr === 0) return;
    const packet = this.#packet;
    packet.diag = this.localDiag;
    packet.state = this.sessionState;
    packet.poll = this.#polling && !final;
    packet.final = final;
    packet.detectMult = this.detectMult;
    packet.myDiscriminator = this.localDiscr;
    packet.yourDiscriminator = this.remoteDiscr;
    packet.desiredMinTxInterval = this.desiredMinTxInterval;
    packet.requiredMinRxInterval = this.requiredMinRxInterval;
    Object.assign(this.#transmitted, packet);
    // A Final is outside the schedule, or a peer that polls without end would starve our own poll.
    if (!final) {
      this.#lastGap = now - this.#lastTransmitted;
      this.#lastTransmitted = now;
      // Section 6.8.7: 75 to 100 % of the interval, at most 90 % where one loss is a failure.
      this.#jitter = this.detectMult === 1
        ? 0.75 + 0.15 * this.#options.random()
        : 1 - 0.25 * this.#options.random();
    }
    this.#options.send(packet);
  }
}

function checked(timers: Timers): Timers {
  inRange("DesiredMinTxInterval", timers.desiredMinTxInterval, MAX_INTERVAL);
  inRange("RequiredMinRxInterval", timers.requiredMinRxInterval, MAX_INTERVAL);
  inRange("DetectMult", timers.detectMult, 255);
  const { desiredMinTxInterval, requiredMinRxInterval, detectMult } = timers;
  return { desiredMinTxInterval, requiredMinRxInterval, detectMult };
}

function inRange(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 1 || value > max) {
    throw new RangeError(`${name} ${value} is not a whole number from 1 to ${max}`);
  }
}
