/**
 * The scheduling of this process.
 *
 * @module
 */
import { libc } from "./libc_sys.ts";

const SCHED_RR = 2;

/**
 * Lets this process, all its threads and those to come run before all ordinary ones, as
 * `chrt --rr 1` would: sched(7). Returns whether that was permitted.
 *
 * For a process that does little and must do it in time. Where every processor is busy, an ordinary
 * process waits tens of milliseconds for its turn, whatever its nice value.
 */
export function runRealtime(): boolean {
  const param = new Uint8Array(Int32Array.of(1).buffer);
  // The runtime's own threads too: the main thread waits for them when it collects garbage.
  const threads = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => Number(name));
  const results = threads.map((thread) => libc().sched_setscheduler(thread, SCHED_RR, param));
  // Thread 0 is the caller: the one that new threads inherit from.
  return libc().sched_setscheduler(0, SCHED_RR, param) === 0 && results.some((r) => r === 0);
}
