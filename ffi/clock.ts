/**
 * The kernel's clocks.
 *
 * @module
 */
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const CLOCK_MONOTONIC = 1;

const timespec = new BigInt64Array(2);
const bytes = new Uint8Array(timespec.buffer);

/** CLOCK_MONOTONIC in microseconds, the clock of BPF's `bpf_ktime_get_ns`. */
export function monotonicMicros(): number {
  unwrap(libc().clock_gettime(CLOCK_MONOTONIC, bytes), "read the clock");
  return Number(timespec[0]) * 1e6 + Number(timespec[1]) / 1e3;
}
