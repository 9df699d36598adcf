/**
 * A quorum: what several detectors say of one target counts only where enough of them agree.
 *
 * @module
 */
import { formatTime, nowMicros } from "../clock.ts";
import type { Emitter, Event, EventFields, EventType } from "../event.ts";
import type { Evidence } from "../vocabulary/detector.ts";
import type { Task } from "./agenda.ts";
import { type Signal, Target, type TargetReport } from "./target.ts";
import { type EventSink, millis } from "./watched.ts";

/** The most votes that are kept; more are refused and counted. */
const MAX_VOTES = 1024;

/** A detector that holds a target failed. */
interface Vote {
  readonly by: string;
  readonly host: string;
  readonly level: string;
  readonly cause: string;
  readonly time: string;
  readonly lastSeen: string | undefined;
  /** Whether it came from the input. */
  readonly foreign: boolean;
}

/** Settings of a {@linkcode Quorum}. */
export interface QuorumOptions {
  /** So many detectors must agree, 1 or more. */
  require: number;
  /** How long fewer must agree before the target has recovered, microseconds. */
  holdDown: number;
  /** Where the events go. */
  emitter: Emitter;
  /** The name of this host: this detector's own vote has it. */
  host: string;
  /** Monotonic time, microseconds. */
  clock: () => number;
  /** Called where a timer may have moved. */
  settle: (task: Task) => void;
}

/** The votes on one target as a signal. */
class Votes implements Signal {
  readonly votes = new Map<string, Vote>();
  readonly lastGood = undefined;
  readonly #require: number;

  constructor(require: number) {
    this.#require = require;
  }

  get health(): "good" | "bad" {
    return this.votes.size >= this.#require ? "bad" : "good";
  }

  /** What most say; where there is no majority, the host's failure, which is the graver one. */
  get level(): "host" | "application" {
    const hosts = [...this.votes.values()].filter(({ level }) => level === "host").length;
    return 2 * hosts >= this.votes.size ? "host" : "application";
  }

  /** Nobody announces by mistake. */
  get planned(): boolean {
    return [...this.votes.values()].some(({ cause }) => cause === "planned");
  }

  evidence(): Evidence {
    return { signal: "vote" };
  }
}

/**
 * Counts the detectors that hold a target failed, each by its `host` and `by`. Their `failed` events go on as `suspect`,
 * with `vote`, so that what acts on `failed` acts on the quorum's alone.
 */
export class Quorum implements EventSink {
  /** Votes that were not taken because there were too many. */
  refused = 0;
  readonly #options: QuorumOptions;
  readonly #targets = new Map<string, { votes: Votes; target: Target }>();

  /** Nobody has voted. */
  constructor(options: QuorumOptions) {
    this.#options = options;
  }

  /** Takes an event of this process's own signals. */
  emit<T extends EventType>(
    type: T,
    fields: EventFields[T] & { time?: string } & Record<string, unknown>,
  ): void {
    const { emitter, host } = this.#options;
    const event: Event = {
      v: 1,
      time: formatTime(nowMicros()),
      by: "detect",
      host,
      ...fields,
      type,
    };
    if (type === "failed") {
      const { type: _, ...rest } = this.rewrite(event)!;
      emitter.emit("suspect", rest as unknown as EventFields["suspect"] & Record<string, unknown>);
    } else {
      const more: Record<string, unknown> = type === "recovered" ? { vote: "good" } : {};
      emitter.emit(type, { ...fields, ...more });
    }
    this.count(event, false);
  }

  /** What goes on in the place of `event`; undefined where that is the event itself. */
  rewrite(event: Event): Event | undefined {
    return event.type === "failed" ? { ...event, type: "suspect", vote: "failed" } : undefined;
  }

  /** Takes note of what a detector says, on the input where `foreign`. */
  count(event: Event, foreign = true): void {
    const key = `${event.host} ${event.by}`;
    switch (event.type) {
      case "failed":
        this.#vote(key, event, foreign);
        break;
      case "up":
      case "recovered":
        this.#withdraw(String(event.target), key);
        break;
      case "started":
        // It has begun anew and knows nothing.
        for (const name of this.#targets.keys()) this.#withdraw(name, key);
        break;
    }
  }

  /** Withdraws all votes of the input, which has ended. Returns how many there were. */
  end(): number {
    let count = 0;
    for (const [name, { votes }] of this.#targets) {
      for (const [key, { foreign }] of [...votes.votes]) {
        if (!foreign) continue;
        this.#withdraw(name, key);
        count++;
      }
    }
    return count;
  }

  /** For `stats`: the votes on each target. */
  get stats(): object[] {
    return [...this.#targets].map(([target, { votes, target: { state, flaps } }]) => ({
      target,
      state: state === "failed" ? "failed" : "up",
      votes: votes.votes.size,
      flaps,
    }));
  }

  #vote(key: string, event: Event, foreign: boolean): void {
    const name = String(event.target);
    const total = [...this.#targets.values()].reduce((sum, { votes }) => sum + votes.votes.size, 0);
    let entry = this.#targets.get(name);
    const full = total >= MAX_VOTES || this.#targets.size >= MAX_VOTES;
    if (full && !entry?.votes.votes.has(key)) {
      if (this.refused++ === 0) {
        const message = `More than ${MAX_VOTES} votes or targets; what is more does not count`;
        this.#options.emitter.emit("warning", { message });
      }
      return;
    }
    if (entry === undefined) {
      entry = this.#open(name);
      this.#targets.set(name, entry);
    }
    entry.votes.votes.set(key, {
      by: event.by,
      host: event.host,
      level: String(event.level),
      cause: String(event.cause),
      time: event.time,
      lastSeen: typeof event.last_seen === "string" ? event.last_seen : undefined,
      foreign,
    });
    this.#update(entry.target);
  }

  #withdraw(name: string, key: string): void {
    const entry = this.#targets.get(name);
    if (entry?.votes.votes.delete(key)) this.#update(entry.target);
  }

  #update(target: Target): void {
    target.update(this.#options.clock());
    this.#options.settle(target);
  }

  #open(name: string): { votes: Votes; target: Target } {
    const votes = new Votes(this.#options.require);
    const target = new Target({
      holdDown: this.#options.holdDown,
      suspects: false,
      report: (report, now) => this.#report(name, votes, report, now),
    });
    target.signals.push(votes);
    return { votes, target };
  }

  #report(target: string, { votes }: Votes, report: TargetReport, now: number): void {
    const { emitter, require } = this.#options;
    if (report.type === "failed") {
      const { level, cause, flaps } = report;
      const cast = [...votes.values()];
      const evidence = cast.map(({ by, host, lastSeen, ...vote }) => ({
        signal: "vote",
        last: lastSeen,
        by,
        host,
        level: vote.level,
        cause: vote.cause,
        time: vote.time,
      }));
      const last_seen = cast.flatMap(({ lastSeen }) => lastSeen ?? []).toSorted().at(-1);
      const fields = { target, level, cause, evidence, last_seen, flaps };
      emitter.emit("failed", { ...fields, votes: cast.length, require });
    } else if (report.type === "recovered") {
      const { after, since, flaps } = report;
      const fields = { target, after, lasted_ms: millis(now - since), flaps };
      emitter.emit("recovered", { ...fields, votes: votes.size, require });
    }
  }
}
