/**
 * BFD sessions and probes as signals of a target.
 *
 * @module
 */
import { diagName, stateName } from "../bfd/packet.ts";
import type { Session } from "../bfd/session.ts";
import type { Evidence } from "../vocabulary/detector.ts";
import type { Prober } from "../probe/prober.ts";
import type { Signal } from "./target.ts";
import type { BfdEvidence, Report } from "./verdict.ts";

/** The heartbeat, as the {@linkcode Report}s of its verdict say. */
export class Heartbeat implements Signal {
  /** A host that works sends heartbeats. */
  readonly level = "host";
  /** As reported last. */
  health: Signal["health"] = "unknown";
  /** Whether the peer went AdminDown. */
  planned = false;
  readonly #session: Session;
  #failure: BfdEvidence | undefined;

  /** The heartbeat of `session`. */
  constructor(session: Session) {
    this.#session = session;
  }

  /** When the last valid packet came; of a failure, the last one before. */
  get lastGood(): number | undefined {
    return this.#failure?.last ?? this.#session.lastReceived;
  }

  /** Takes note of what the verdict says. */
  take(report: Report): void {
    switch (report.type) {
      case "up":
      case "recovered":
        this.health = "good";
        this.planned = false;
        this.#failure = undefined;
        break;
      case "suspect":
        this.health = "late";
        break;
      case "failed":
        this.health = "bad";
        this.planned = report.cause === "planned";
        this.#failure = report.evidence;
        break;
    }
  }

  /** The session's state and diagnostic; the peer's own where it signalled the failure. */
  evidence(wall: (time: number) => string): Evidence {
    const { lastGood } = this;
    return {
      signal: "bfd",
      last: lastGood === undefined ? undefined : wall(lastGood),
      state: this.#failure?.state ?? stateName(this.#session.sessionState),
      diag: this.#failure?.diag ?? diagName(this.#session.localDiag),
    };
  }
}

const HEALTH = { waiting: "unknown", good: "good", failing: "late", dead: "bad" } as const;

/** A probe. */
export class ProbeSignal implements Signal {
  /** A probe asks the application. */
  readonly level = "application";
  /** No probe is told of what is planned. */
  readonly planned = false;
  readonly #kind: string;
  readonly #name: string;
  readonly #prober: Prober;

  /** The probe of this kind and name, as the events call it. */
  constructor(kind: string, name: string, prober: Prober) {
    this.#kind = kind;
    this.#name = name;
    this.#prober = prober;
  }

  /** What its last attempts said. */
  get health(): Signal["health"] {
    return HEALTH[this.#prober.state];
  }

  /** When an attempt last went well. */
  get lastGood(): number | undefined {
    return this.#prober.lastGood;
  }

  /** The probe's state, and why the last attempt failed. */
  evidence(wall: (time: number) => string): Evidence {
    const { lastGood, state, reason } = this.#prober;
    return {
      signal: this.#kind,
      last: lastGood === undefined ? undefined : wall(lastGood),
      probe: this.#name,
      state,
      reason,
    };
  }
}
