/**
 * What a BFD session means for the target that it watches: up, suspect, failed, recovered.
 *
 * A host is taken to have failed when its session goes down after it was up. That is right under
 * the fail-stop assumption: a host that is not heard does not work either.
 *
 * @module
 */
import { Diag, diagName, State, type StateName, stateName } from "../bfd/packet.ts";
import type { Session } from "../bfd/session.ts";

/** One signal that a verdict rests on. Times are those of the session's clock, microseconds. */
export interface BfdEvidence {
  /** Where it comes from. */
  signal: "bfd";
  /** When the signal was last good: the last valid packet. */
  last: number;
  /** The session state that tells of the failure, the peer's own where it signalled it. */
  state: StateName;
  /** The diagnostic that goes with the state, as RFC 5880 section 4.1 spells it. */
  diag: string;
}

/** What a verdict says. Times are those of the session's clock, microseconds. */
export type Report =
  /** The target is heard for the first time. */
  | { type: "up" }
  /** The target is late. */
  | { type: "suspect"; lastSeen: number }
  /** The target has failed; `planned` where it announced that. */
  | { type: "failed"; cause: "planned" | "unplanned"; lastSeen: number; evidence: BfdEvidence }
  /** The target is heard again after it was late or had failed at `since`. */
  | { type: "recovered"; after: "suspect" | "failed"; since: number }
  /** The target has not answered since the start. */
  | { type: "silent" }
  /** The peer's own timers make the detection slower than asked for. */
  | { type: "slow" };

/** Settings of a {@linkcode Verdict}. */
export interface VerdictOptions {
  /** The session to judge. */
  session: Session;
  /** A target is suspect after so many intervals without a packet; never where 0. */
  suspectIntervals: number;
  /** The Detection Time that the operator asks for, microseconds. */
  wantedDetectionTime: number;
  /** When the watching starts. */
  now: number;
  /** Told what there is to say. */
  report: (report: Report, now: number) => void;
}

/** How long a peer may take to answer, or to agree on timers, before one is told: microseconds. */
const PATIENCE = 5_000_000;

/** Judges one session. Times are those of the session's clock, microseconds. */
export class Verdict {
  readonly #options: VerdictOptions;
  readonly #session: Session;
  #state: "waiting" | "up" | "suspect" | "failed" = "waiting";
  /** When the state began. */
  #since: number;
  /** A failure that holds unless the session is up again by then. */
  #doubt: { until: number; failed: Report } | undefined;
  /** When to look once whether all is as it should be, `Infinity` where nobody need look. */
  #checkAt: number;
  #slowTold = false;

  /** Starts to wait for the target. */
  constructor(options: VerdictOptions) {
    this.#options = options;
    this.#session = options.session;
    this.#since = options.now;
    this.#checkAt = options.now + PATIENCE;
  }

  /** Takes note of a valid packet; call it after the session has. */
  heard(now: number): void {
    if (this.#state === "suspect" && this.#session.sessionState === State.Up) this.#recover(now);
  }

  /** Takes note of a new session state; call it before the session forgets when it last heard. */
  changed(from: State, now: number): void {
    const session = this.#session;
    if (session.sessionState === State.Up) {
      this.#checkAt = this.#slowTold ? Infinity : now + PATIENCE;
      this.#doubt = undefined;
      if (this.#state === "failed" || this.#state === "suspect") this.#recover(now);
      else if (this.#state === "waiting") this.#enter("up", now, { type: "up" });
    } else if (from === State.Up && session.sessionState === State.Down) {
      this.#checkAt = Infinity;
      this.#fail(now);
    }
  }

  /** When {@linkcode Verdict.tick} has something to do. */
  nextDeadline(): number {
    return Math.min(this.#checkAt, this.#suspectDeadline(), this.#doubt?.until ?? Infinity);
  }

  /** Says what has become due. */
  tick(now: number): void {
    if (now >= this.#checkAt) {
      this.#checkAt = Infinity;
      this.#check(now);
    }
    if (this.#doubt !== undefined && now >= this.#doubt.until) {
      const { failed } = this.#doubt;
      this.#doubt = undefined;
      this.#enter("failed", now, failed);
    } else if (now >= this.#suspectDeadline()) {
      this.#suspect(now);
    }
  }

  #suspectDeadline(): number {
    const { session, suspectIntervals } = this.#options;
    const { lastReceived } = session;
    if (this.#state !== "up" || suspectIntervals === 0 || lastReceived === undefined) {
      return Infinity;
    }
    const deadline = lastReceived + suspectIntervals * session.receiveInterval;
    return deadline < session.detectionDeadline ? deadline : Infinity;
  }

  #check(now: number): void {
    if (this.#state === "waiting") {
      this.#options.report({ type: "silent" }, now);
    } else if (this.#session.detectionTime > this.#options.wantedDetectionTime) {
      this.#slowTold = true;
      this.#options.report({ type: "slow" }, now);
    }
  }

  #fail(now: number): void {
    const session = this.#session;
    const lastSeen = this.#lastSeen(now);
    const signalled = session.localDiag === Diag.NeighborSignaledSessionDown;
    const evidence: BfdEvidence = {
      signal: "bfd",
      last: lastSeen,
      state: stateName(signalled ? session.remoteSessionState : session.sessionState),
      diag: diagName(signalled ? session.remoteDiag : session.localDiag),
    };
    const planned = signalled && session.remoteSessionState === State.AdminDown;
    const cause = planned ? "planned" : "unplanned";
    const failed: Report = { type: "failed", cause, lastSeen, evidence };
    if (planned || !signalled || !this.#wasLate(now)) {
      this.#enter("failed", now, failed);
      return;
    }
    this.#doubt = { until: now + this.#options.wantedDetectionTime, failed };
    if (this.#state === "up") this.#suspect(now);
  }

  /**
   * Whether the peer missed our packets because this process did not run. That says nothing about
   * the peer, which lives: it gets a Detection Time to come up again.
   */
  #wasLate(now: number): boolean {
    const { transmitInterval, detectMult, remoteDiag } = this.#session;
    const missed = remoteDiag === Diag.ControlDetectionTimeExpired;
    return missed &&
      this.#session.transmitGap(now) >= Math.max(1, detectMult - 1) * transmitInterval;
  }

  #suspect(now: number): void {
    this.#enter("suspect", now, { type: "suspect", lastSeen: this.#lastSeen(now) });
  }

  #recover(now: number): void {
    const after = this.#state === "suspect" ? "suspect" : "failed";
    this.#enter("up", now, { type: "recovered", after, since: this.#since });
  }

  #enter(state: "up" | "suspect" | "failed", now: number, report: Report): void {
    this.#state = state;
    this.#since = now;
    this.#options.report(report, now);
  }

  #lastSeen(now: number): number {
    return this.#session.lastReceived ?? now;
  }
}
