/**
 * Waiting for file descriptors without blocking the event loop.
 *
 * @module
 */
import { constants } from "node:os";
import { SystemError, unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;
const POLLIN = 0x1;
const POLLNVAL = 0x20;
const POLLFD_SIZE = 8;

/** The longest single wait, in microseconds: a process that exits waits for a pending call. */
const MAX_WAIT = 250_000;

/**
 * Waits until one of several file descriptors is readable: `ppoll(2)` on a thread of its own, with
 * microseconds of resolution, and an eventfd(2) that ends the wait early.
 */
export class Poller {
  readonly #wakeup: number;
  readonly #pollfds: Uint8Array<ArrayBuffer>;
  readonly #timeout = new BigInt64Array(2);
  readonly #counter = new BigUint64Array(1);
  #pending: Promise<unknown> | undefined;
  #closed = false;

  /**
   * The descriptors stay the caller's; close them after the poller.
   *
   * @throws {SystemError} where no eventfd can be made
   */
  constructor(fds: readonly number[]) {
    this.#wakeup = unwrap(libc().eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "make an eventfd");
    this.#pollfds = new Uint8Array((fds.length + 1) * POLLFD_SIZE);
    const view = new DataView(this.#pollfds.buffer);
    [this.#wakeup, ...fds].forEach((fd, i) => {
      view.setInt32(i * POLLFD_SIZE, fd, true);
      view.setInt16(i * POLLFD_SIZE + 4, POLLIN, true);
    });
  }

  /**
   * Resolves once a descriptor is readable, {@linkcode Poller.wake} was called, or at most `micros`
   * microseconds have passed; it may resolve early. Only one wait at a time.
   *
   * @throws {SystemError} EBADF where a descriptor was closed
   */
  wait(micros: number): Promise<void> {
    return this.#poll(micros, this.#pollfds.length / POLLFD_SIZE);
  }

  /** Like {@linkcode Poller.wait}, but the descriptors may be readable all the while. */
  rest(micros: number): Promise<void> {
    return this.#poll(micros, 1);
  }

  async #poll(micros: number, count: number): Promise<void> {
    if (this.#closed || this.#pending !== undefined) {
      throw new TypeError("Poller is closed or busy");
    }
    const nanos = BigInt(Math.ceil(Math.min(Math.max(micros, 0), MAX_WAIT) * 1000));
    this.#timeout[0] = nanos / 1_000_000_000n;
    this.#timeout[1] = nanos % 1_000_000_000n;
    this.#pending = libc().ppoll(this.#pollfds, BigInt(count), this.#timeout, null);
    try {
      // Its only failure with sound arguments is EINTR, which is an early end.
      await this.#pending;
    } finally {
      this.#pending = undefined;
    }
    libc().eventfd_read(this.#wakeup, this.#counter);
    const view = new DataView(this.#pollfds.buffer);
    for (let at = 0; at < count * POLLFD_SIZE; at += POLLFD_SIZE) {
      if (view.getInt16(at + 6, true) & POLLNVAL) {
        throw new SystemError("poll file descriptors", constants.errno.EBADF);
      }
    }
  }

  /** Ends the wait that is under way, or else the next one, at once. */
  wake(): void {
    if (!this.#closed) libc().eventfd_write(this.#wakeup, 1n);
  }

  /** Ends the wait that is under way, and releases the poller's own descriptor. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.wake();
    this.#closed = true;
    await this.#pending?.catch(() => {});
    libc().close(this.#wakeup);
  }
}
