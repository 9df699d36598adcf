/**
 * When a claimed address is announced: at once and some times more, at rest now and then, and against a rival.
 *
 * @module
 */

/** How often an address is announced. */
export interface AnnounceOptions {
  /** How many announcements there are, the first included; at least 1. */
  count: number;
  /** From the first to the second, in milliseconds; each further pause is twice as long as the one before. */
  interval: number;
  /** From one to the next after that, in milliseconds, without end; 0 for none. */
  refresh: number;
}

/** What is announced unless someone says otherwise: now, and 50, 150, 350, 750 and 1550 ms later. */
export const ANNOUNCE: AnnounceOptions = { count: 6, interval: 50, refresh: 0 };

/** The least pause between two announcements against a rival, in milliseconds; it doubles up to the longest. */
const DEFENCE = { shortest: 100, longest: 10_000 } as const;

/** See the module. All times are milliseconds of a monotonic clock. */
export class Agenda {
  readonly #options: AnnounceOptions;
  /** Announcements of the series that are left, and the pause before the next one. */
  #left = 0;
  #pause = 0;
  #next = Infinity;
  /** The pause that the next defence must keep from the last announcement. */
  #defence: number = DEFENCE.shortest;
  #last = -Infinity;

  /** Nothing is due before {@linkcode Agenda.begin}. */
  constructor(options: AnnounceOptions) {
    this.#options = options;
  }

  /** When the next announcement is due; Infinity for none. */
  get next(): number {
    return this.#next;
  }

  /** Whether the series is over. */
  get over(): boolean {
    return this.#left === 0;
  }

  /** The first announcement of a series is made at `now`; the others follow. */
  begin(now: number): void {
    this.#left = this.#options.count;
    this.#pause = this.#options.interval;
    this.#made(now);
  }

  /** Whether one is due at `now`; it is taken for made then. */
  take(now: number): boolean {
    if (now < this.#next) return false;
    this.#made(now);
    return true;
  }

  /**
   * A rival has claimed the address at `now`: an announcement is due as soon as the bound allows, which leaves it longer
   * each time (RFC 5227 section 2.4: two hosts that both defend an address must not flood the link).
   */
  defend(now: number): void {
    const due = Math.max(now, this.#last + this.#defence);
    if (due >= this.#next) return;
    this.#next = due;
    this.#defence = Math.min(this.#defence * 2, DEFENCE.longest);
  }

  /** The rival has fallen silent: the neighbours may have heard it last. */
  repeat(now: number): void {
    this.#defence = DEFENCE.shortest;
    this.#left = this.#options.count + 1;
    this.#pause = this.#options.interval;
    this.#next = now;
  }

  #made(now: number): void {
    this.#last = now;
    if (this.#left > 0) this.#left -= 1;
    if (this.#left > 0) {
      this.#next = now + this.#pause;
      this.#pause *= 2;
    } else {
      this.#next = this.#options.refresh > 0 ? now + this.#options.refresh : Infinity;
    }
  }
}
