/**
 * The user space of `mirror --unanswered` and `--resets`: it looks at what the programs have noted, and says `suspect`.
 *
 * @module
 */
import { monotonicMicros } from "../../ffi/clock.ts";
import { formatService, type Service } from "../address.ts";
import { formatTime, nowMicros } from "../clock.ts";
import type { Emitter } from "../event.ts";
import { SIGNALS } from "./layout.ts";
import type { Instance } from "../program/instance.ts";
import { repeat } from "../program/repeat.ts";
import { type Limits, ResetBursts, type Suspicion, Unanswered } from "./suspicion.ts";

/** Between two looks, in milliseconds. */
const PAUSE = 10;

/** Settings of a {@linkcode PassiveWatch}. */
export interface PassiveOptions extends Limits {
  /** What the events call the primary. */
  target: string;
  /** The services, in the order of their places in {@linkcode SIGNALS}.resets. */
  services: readonly Service[];
}

/** See the module. */
export class PassiveWatch implements Disposable {
  readonly #emitter: Emitter;
  readonly #target: string;
  readonly #opened = new DisposableStack();
  readonly #watches: { look(now: number): Iterable<Suspicion> }[] = [];
  readonly #counts = { unanswered: 0, resets: 0 };

  /** Looks at the maps of `instance`, whose programs have the flags for it. */
  constructor(instance: Instance, emitter: Emitter, options: PassiveOptions) {
    const { unanswered, resets, target, services } = options;
    this.#emitter = emitter;
    this.#target = target;
    if (unanswered !== undefined) {
      const slots = this.#opened.use(instance.map("waiting").mapValues());
      this.#watches.push(new Unanswered(slots.buffer, unanswered));
    }
    if (resets !== undefined) {
      const signals = this.#opened.use(instance.map("signals").mapValues());
      const counts = new BigUint64Array(signals.buffer, SIGNALS.resets, services.length);
      this.#watches.push(new ResetBursts(counts, services.map(formatService), resets));
    }
  }

  /** How many suspicions there were, by counter. */
  get counters(): Record<string, number> {
    const { unanswered, resets } = this.#counts;
    return { suspected_unanswered: unanswered, suspected_resets: resets };
  }

  /** Looks again and again, until this is disposed of. */
  start(): void {
    if (this.#watches.length > 0) this.#opened.use(repeat(() => this.#look(), PAUSE));
  }

  #look(): void {
    const now = monotonicMicros();
    for (const watch of this.#watches) {
      for (const suspicion of watch.look(now)) this.#tell(suspicion, now);
    }
  }

  #tell(suspicion: Suspicion, now: number): void {
    this.#counts[suspicion.reason] += 1;
    const { reason, server, count } = suspicion;
    const since = suspicion.reason === "unanswered"
      ? { since: formatTime(nowMicros() - now + suspicion.since) }
      : {};
    this.#emitter.emit("suspect", { target: this.#target, reason, server, ...since, count });
  }

  /** Ends the looking. */
  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}
