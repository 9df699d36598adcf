/**
 * The kernel's clocks.
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const CLOCK_MONOTONIC = 1;
const CLOCK_THREAD_CPUTIME_ID = 3;

const timespec = new BigInt64Array(2);
const bytes = new Uint8Array(timespec.buffer);

/** CLOCK_MONOTONIC in microseconds, the clock of BPF's `bpf_ktime_get_ns`. */
export function monotonicMicros(): number {
  return read(CLOCK_MONOTONIC);
}

/** Processor time that the calling thread has had, in microseconds: it stands still while others run. */
export function threadMicros(): number {
  return read(CLOCK_THREAD_CPUTIME_ID);
}

function read(clock: number): number {
  unwrap(libc().clock_gettime(clock, bytes), "read the clock");
  return Number(timespec[0]) * 1e6 + Number(timespec[1]) / 1e3;
}
