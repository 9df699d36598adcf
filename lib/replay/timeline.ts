/**
 * When what was captured is due again.
 *
 * @module
 */

/** Settings of {@linkcode Timeline}. */
export interface Pace {
  /** How much faster than captured; `Infinity` for as fast as possible. */
  readonly speed: number;
  /** The longest pause of the capture that is kept, in seconds; `Infinity` for all. */
  readonly idleCap: number;
}

/**
 * Maps times of the capture to times of the play, in milliseconds since its begin. What was captured later is never due
 * earlier, also where the capture's clock went backwards.
 */
export class Timeline {
  readonly #speed: number;
  readonly #cap: number;
  readonly #now: () => number;
  #last: number | undefined;
  #at: number | undefined;

  /** Of that pace. The first frame is due when it is read, by the clock `now` of the play: traffic may yet have to begin. */
  constructor(pace: Pace, now: () => number) {
    this.#now = now;
    this.#speed = pace.speed;
    this.#cap = pace.idleCap * 1e6;
  }

  /** When that is due which was captured at `micros`, in microseconds. */
  due(micros: number): number {
    let at = this.#at ?? this.#now();
    const pause = this.#last === undefined ? 0 : micros - this.#last;
    if (pause > 0) at += Math.min(pause, this.#cap) / this.#speed / 1000;
    if (this.#last === undefined || pause > 0) this.#last = micros;
    return this.#at = at;
  }

  /** The capture begins anew, behind its end. */
  rewind(): void {
    this.#last = undefined;
  }
}
