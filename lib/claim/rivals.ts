/**
 * Who else claims the service's addresses.
 *
 * @module
 */

/** Another host that claims an address. */
export interface Rival {
  /** The address. */
  address: string;
  /** The MAC address that it claims the address for. */
  mac: string;
}

/** Rivals that are told apart. */
const MAX_RIVALS = 32;

/** A rival that has not been heard for so long is silent, in milliseconds: it was asked several times. */
export const SILENCE = 3000;

/** See the module. All times are milliseconds of a monotonic clock. */
export class Rivals {
  /** Claims of hosts beyond those that are told apart, so far. */
  uncounted = 0;
  readonly #heard = new Map<string, Rival & { last: number }>();

  /** How many there are. */
  get count(): number {
    return this.#heard.size;
  }

  /** A claim was heard at `now`; returns whether it is a new rival's. */
  hear({ address, mac }: Rival, now: number): boolean {
    const key = `${address} ${mac}`;
    const known = this.#heard.get(key);
    if (known !== undefined) {
      known.last = now;
      return false;
    }
    if (this.#heard.size >= MAX_RIVALS) {
      this.uncounted += 1;
      return false;
    }
    this.#heard.set(key, { address, mac, last: now });
    return true;
  }

  /** The rivals that have fallen silent by `now`; they are forgotten. */
  silenced(now: number): Rival[] {
    const gone = [...this.#heard].filter(([, { last }]) => now - last >= SILENCE);
    for (const [key] of gone) this.#heard.delete(key);
    return gone.map(([, { address, mac }]) => ({ address, mac }));
  }

  /** When the next may be taken for silent; Infinity where there is none. */
  get next(): number {
    return Math.min(Infinity, ...[...this.#heard.values()].map(({ last }) => last + SILENCE));
  }
}
