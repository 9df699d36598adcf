/**
 * What a fence notes in the run directory.
 *
 * @module
 */
import { ExitStatus, Failure } from "../failure.ts";
import { type InstanceRecord, readRecord, writeRecord } from "../program/run_dir.ts";

/** The name of the record, the lock and the control socket. */
export const FENCE = "fence";

/** The name of the control socket in the run directory. */
export const FENCE_SOCKET = "fence.sock";

/** Where the program is, what it is for, and what else was changed. */
export interface FenceRecord extends InstanceRecord {
  /** The program's number. */
  program: number;
  /** Where the services' neighbour entries were pointed; absent where they were left alone. */
  backup?: string;
  /** The command that runs since the fence was put up, and whether somebody waits for it; absent where none does. */
  running?: RunningCommand;
}

/** A command that runs: the fence counts once it has succeeded, or does already. */
export type RunningCommand = "required" | "beside";

/** The record under `runDir`; undefined where there is none. */
export function readFenceRecord(runDir: string): FenceRecord | undefined {
  const record = readRecord(runDir, FENCE);
  return record === undefined ? undefined : { program: 0, ...record };
}

/** Writes the record. */
export function writeFenceRecord(runDir: string, record: FenceRecord): void {
  writeRecord(runDir, FENCE, record);
}

/**
 * Refuses to go on where the run directory belongs to a fence on another interface.
 *
 * @throws {Failure} with status UNAVAILABLE
 */
export function requireSameFence(record: FenceRecord | undefined, interfaceName: string): void {
  if (record === undefined || record.interface === interfaceName) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `The run directory belongs to a fence on interface "${record.interface}"`,
    { mend: "t2cp fence --release first, or name another directory with --run-dir" },
  );
}
