/**
 * Sleep on the event loop's own thread.
 *
 * @module
 */
import { libc } from "./libc_sys.ts";

const POLLIN = 0x1;
const POLLFD_SIZE = 8;

/**
 * Sleeps without a turn of the event loop, which costs a process that finds its caches cold a third of a millisecond,
 * and wakes as soon as the loop has something to do: the descriptors by which it waits, those of epoll(7), are readable
 * then. Timers alone do not wake it.
 */
export class Doze {
  readonly #pollfds: Uint8Array<ArrayBuffer>;
  readonly #count: bigint;

  /** Looks for the descriptors by which this process's event loop waits. */
  constructor() {
    const fds = [...Deno.readDirSync("/proc/self/fd")]
      .map(({ name }) => name)
      .filter((name) => target(name) === "anon_inode:[eventpoll]");
    this.#count = BigInt(fds.length);
    this.#pollfds = new Uint8Array(fds.length * POLLFD_SIZE);
    const view = new DataView(this.#pollfds.buffer);
    fds.forEach((fd, i) => {
      view.setInt32(i * POLLFD_SIZE, Number(fd), true);
      view.setInt16(i * POLLFD_SIZE + 4, POLLIN, true);
    });
  }

  /** Sleeps for so many milliseconds. Whether the loop has had nothing to do; it must get its turn else. */
  sleep(millis: number): boolean {
    return this.#count > 0n && libc().poll(this.#pollfds, this.#count, Math.ceil(millis)) === 0;
  }
}

function target(fd: string): string {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "";
  }
}
