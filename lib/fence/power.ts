/**
 * The command that goes with a fence: power fencing, for one.
 *
 * @module
 */
import { runShell } from "../host/shell.ts";
import type { FenceExecFields } from "../vocabulary/fence.ts";

/** What is run once the fence is up. */
export interface PowerFence {
  /** For `sh -c`. */
  readonly command: string;
  /** How long it may take, in milliseconds. */
  readonly timeout: number;
  /** Whether the fence counts only once it has ended with status 0. */
  readonly required: boolean;
}

/** Runs the command, with `env` besides this process's environment. */
export async function runPowerFence(
  { command, timeout }: PowerFence,
  env: Record<string, string>,
): Promise<FenceExecFields> {
  const start = performance.now();
  const late = AbortSignal.timeout(timeout);
  const { status, signal, said } = await runShell(command, late, env);
  const inTime = !late.aborted;
  return {
    ok: inTime && status === 0,
    ...(inTime && status !== undefined ? { status } : {}),
    ...(inTime && signal !== undefined ? { signal } : {}),
    timeout: !inTime,
    ...(said === "" ? {} : { output: said }),
    took_ms: Math.round((performance.now() - start) * 1000) / 1000,
  };
}
