/**
 * The scheduling of this process.
 *
 * @module
 */
import { libc } from "./libc_sys.ts";

const SCHED_OTHER = 0;
const SCHED_RR = 2;
const SCHED_RESET_ON_FORK = 0x40000000;

/**
 * Lets this process, all its threads and those to come run before all ordinary ones, as
 * `chrt --rr 1` would: sched(7). Returns whether that was permitted.
 *
 * For a process that does little and must do it in time. Where every processor is busy, an ordinary
 * process waits tens of milliseconds for its turn, whatever its nice value.
 */
export function runRealtime(): boolean {
  return setPolicy(SCHED_RR, 1);
}

/**
 * The same for the threads that this process has now, but not for what it starts from now on: for one that runs
 * programs of the user's.
 */
export function runRealtimeAlone(): boolean {
  return setPolicy(SCHED_RR | SCHED_RESET_ON_FORK, 1);
}

/** Takes {@linkcode runRealtime} back: this process shares the processors like any other. */
export function runOrdinary(): void {
  setPolicy(SCHED_OTHER, 0);
}

function setPolicy(policy: number, priority: number): boolean {
  const param = new Uint8Array(Int32Array.of(priority).buffer);
  // Thread 0 is the caller, from which new threads inherit.
  if (libc().sched_setscheduler(0, policy, param) !== 0) return false;
  // The runtime's other threads too: the main thread waits for them when it collects garbage.
  for (const { name } of Deno.readDirSync("/proc/self/task")) {
    libc().sched_setscheduler(Number(name), policy, param);
  }
  return true;
}
