/**
 * Probes that run a shell command.
 *
 * @module
 */
import { runShell } from "../host/shell.ts";
import type { Attempt } from "./attempt.ts";
import type { ExecProbe } from "./spec.ts";

/** Whether a command exits with status 0; see {@linkcode runShell}. */
export function execAttempt({ command }: ExecProbe): Attempt {
  return async (signal, counters) => {
    const end = await runShell(command, signal);
    counters.killed += end.killed;
    counters.discarded_bytes += end.discarded;
    if (end.status === 0) return undefined;
    const { status, said } = end;
    if (status === undefined && end.signal === undefined) return said;
    const how = status === undefined ? `Ended by ${end.signal}` : `Exit status ${status}`;
    return said === "" ? how : `${how}: ${said}`;
  };
}
