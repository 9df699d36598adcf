/**
 * The time stamps of a pcapng interface.
 *
 * @module
 */

/** Units a second where an interface does not say: microseconds. */
const MICROSECONDS = 6;

/**
 * Makes seconds and nanoseconds of an interface's 64-bit time stamps. The upper half of a stamp rarely changes, so that
 * only its change costs an arithmetic of 64 bits.
 */
export class InterfaceClock {
  /** The result of {@linkcode InterfaceClock.read}: whole seconds since the Unix epoch. */
  seconds = 0;
  /** The result of {@linkcode InterfaceClock.read}: what is past `seconds`, in nanoseconds, below 1e9. */
  nanos = 0;
  readonly #unitsExact: bigint;
  readonly #units: number;
  readonly #offset: number;
  /** Nanoseconds a unit where that is a whole number, else 0. */
  readonly #scale: number;
  #high = -1;
  /** Seconds and remaining units at low half 0 of the present high half. */
  #base = 0;
  #rest = 0;

  /**
   * `resolution` is the value of if_tsresol: a negative power of 10, or with the top bit of 2. `offset` is if_tsoffset,
   * in seconds. A resolution that 64 bits cannot hold counts as 2^-64, as Wireshark has it.
   */
  constructor(resolution: number = MICROSECONDS, offset: number = 0) {
    const power = resolution & 0x7f;
    const units = (resolution & 0x80) !== 0 ? 2n ** BigInt(power) : 10n ** BigInt(power);
    this.#unitsExact = units < 1n << 64n ? units : (1n << 64n) - 1n;
    this.#units = Number(this.#unitsExact);
    this.#offset = offset;
    this.#scale = (resolution & 0x80) === 0 && power <= 9 ? 10 ** (9 - power) : 0;
  }

  /** Reads the stamp of two halves into `seconds` and `nanos`. */
  read(high: number, low: number): void {
    if (this.#scale === 0) return this.#readExactly(high, low);
    if (high !== this.#high) {
      const stamp = BigInt(high) << 32n;
      this.#high = high;
      this.#base = Number(stamp / this.#unitsExact) + this.#offset;
      this.#rest = Number(stamp % this.#unitsExact);
    }
    const units = this.#rest + low;
    const seconds = Math.floor(units / this.#units);
    this.seconds = this.#base + seconds;
    this.nanos = (units - seconds * this.#units) * this.#scale;
  }

  #readExactly(high: number, low: number): void {
    const stamp = BigInt(high) << 32n | BigInt(low);
    this.seconds = Number(stamp / this.#unitsExact) + this.#offset;
    this.nanos = Number(stamp % this.#unitsExact * 1_000_000_000n / this.#unitsExact);
  }
}
