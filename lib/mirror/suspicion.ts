/**
 * What the clients' traffic says of the primary: that it does not answer, or that it resets many connections.
 *
 * @module
 */
import { readFlowKey } from "../flow/layout.ts";
import { MAX_WAITING, WAITING } from "./layout.ts";

/** What is suspected of a service. Times are those of CLOCK_MONOTONIC, microseconds. */
export type Suspicion =
  /** `count` of the looked-at clients wait, the first since `since`. */
  | { reason: "unanswered"; server: string; since: number; count: number }
  /** The primary sent `count` resets within a second. */
  | { reason: "resets"; server: string; count: number };

/** When to suspect. */
export interface Limits {
  /** Microseconds for which a client may wait; for ever unless given. */
  unanswered?: number;
  /** How many resets within a second are too many; any number is not unless given. */
  resets?: number;
}

/** What many resets must come within, in microseconds. */
const SECOND = 1_000_000;
/** A client that has waited so much longer than the limit is forgotten: it may be gone, and others need its slot. */
const FORGOTTEN = 5_000_000;
/** Between two suspicions of a service for the same reason, in microseconds. */
const REST = 1_000_000;

/** Tells each suspicion once, until there is no reason for it any more. */
class Once {
  readonly #told = new Map<string, number>();

  /** Whether to tell at `now` what holds of each server of `current`. */
  *tell<T>(current: ReadonlyMap<string, T>, now: number): Generator<[server: string, what: T]> {
    for (const [server, until] of this.#told) {
      if (!current.has(server) && now >= until) this.#told.delete(server);
    }
    for (const [server, what] of current) {
      if (this.#told.has(server)) continue;
      this.#told.set(server, now + REST);
      yield [server, what];
    }
  }
}

/** Looks for clients that wait, in the slots of the map `waiting`. */
export class Unanswered {
  readonly #since: BigUint64Array;
  readonly #view: DataView;
  readonly #limit: number;
  readonly #once = new Once();

  /** `slots` are shared with the programs; `limit` is in microseconds. */
  constructor(slots: ArrayBuffer, limit: number) {
    this.#since = new BigUint64Array(slots, 0, MAX_WAITING * WAITING.size / 8);
    this.#view = new DataView(slots);
    this.#limit = limit;
  }

  /** What is to be said at `now`. */
  *look(now: number): Generator<Suspicion> {
    const late = new Map<string, { since: number; count: number }>();
    for (let slot = 0; slot < MAX_WAITING; slot++) {
      const at = slot * WAITING.size / 8;
      const taken = this.#since[at]!;
      if (taken === 0n) continue;
      const since = Number(taken) / 1000;
      if (now - since < this.#limit) continue;
      const { server } = readFlowKey(this.#view, slot * WAITING.size + WAITING.key);
      const known = late.get(server);
      late.set(server, {
        since: Math.min(known?.since ?? since, since),
        count: (known?.count ?? 0) + 1,
      });
      if (now - since >= this.#limit + FORGOTTEN) {
        Atomics.compareExchange(this.#since, at, taken, 0n);
      }
    }
    for (const [server, what] of this.#once.tell(late, now)) {
      yield { reason: "unanswered", server, ...what };
    }
  }
}

/** Looks for bursts of resets, in the counts of the map `signals`. */
export class ResetBursts {
  readonly #counts: BigUint64Array;
  readonly #limit: number;
  readonly #services: {
    server: string;
    total: bigint;
    recent: { time: number; count: number }[];
  }[];
  readonly #once = new Once();

  /** `counts` are shared with the programs, one for each of `servers`; those before now do not matter. */
  constructor(counts: BigUint64Array, servers: readonly string[], limit: number) {
    this.#counts = counts;
    this.#limit = limit;
    this.#services = servers.map((server, place) => ({
      server,
      total: Atomics.load(counts, place),
      recent: [],
    }));
  }

  /** What is to be said at `now`. */
  *look(now: number): Generator<Suspicion> {
    const many = new Map<string, number>();
    for (const [place, service] of this.#services.entries()) {
      const total = Atomics.load(this.#counts, place);
      const { recent } = service;
      if (total !== service.total) {
        recent.push({ time: now, count: Number(total - service.total) });
        service.total = total;
      }
      while (recent.length > 0 && now - recent[0]!.time >= SECOND) recent.shift();
      const count = recent.reduce((sum, { count }) => sum + count, 0);
      if (count >= this.#limit) many.set(service.server, count);
    }
    for (const [server, count] of this.#once.tell(many, now)) {
      yield { reason: "resets", server, count };
    }
  }
}
