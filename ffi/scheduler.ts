/**
 * The scheduling of this process, and of the programs that it starts.
 *
 * @module
 */
import { libc } from "./libc_sys.ts";

const SCHED_OTHER = 0;
const SCHED_RR = 2;
const SCHED_RESET_ON_FORK = 0x40000000;

/** Whether {@linkcode runRealtime} is in force. */
let realtime = false;

/**
 * Lets this process, all its threads and those to come run before all ordinary ones, as
 * `chrt --rr 1` would: sched(7). Returns whether that was permitted. Programs that it starts inherit it, but for those
 * that {@linkcode ordinaryLine} starts.
 *
 * For a process that does little and must do it in time. Where every processor is busy, an ordinary
 * process waits tens of milliseconds for its turn, whatever its nice value.
 */
export function runRealtime(): boolean {
  return realtime = setPolicy(SCHED_RR, 1);
}

/**
 * The same for the threads that this process has now, but neither for later ones, such as those that wait for
 * descriptors or write to stdout, nor for what it starts: for one that starts programs everywhere.
 */
export function runRealtimeAlone(): boolean {
  return setPolicy(SCHED_RR | SCHED_RESET_ON_FORK, 1);
}

/** Takes {@linkcode runRealtime} back: this process shares the processors like any other. */
export function runOrdinary(): void {
  realtime = false;
  setPolicy(SCHED_OTHER, 0);
}

/**
 * The command line that runs `program` with ordinary priority, whatever that of this process is. The new process becomes
 * an ordinary one only as chrt(1): Deno waits until it executes something, and must not wait for its turn.
 */
export function ordinaryLine(program: string, args: readonly string[]): [string, string[]] {
  return realtime ? ["chrt", ["--other", "0", program, ...args]] : [program, [...args]];
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
