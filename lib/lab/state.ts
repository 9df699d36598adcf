/**
 * What a standing lab has on disk: its run directory and the state file in it, by which a later
 * process can take the lab down and end only what the lab started.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";
import { COMMAND_ROLES, type Role } from "./topology.ts";
import type { ProcessId } from "./system.ts";

/** A process that the lab started. */
export interface LabProcess extends ProcessId {
  /** The host it runs on; absent for a pipe that joins two hosts. */
  role?: Role;
  /** What it is, for messages. */
  what: string;
}

/** The content of the state file. */
export interface LabState {
  /** The lab's name. */
  name: string;
  /** When it was built, RFC 3339. */
  created: string;
  /** The process that runs a scenario in it; absent for a lab of `lab up`. */
  owner?: ProcessId;
  /** Whether the lab was the first to need the mount of /run/netns. */
  madeNamespaceMount: boolean;
  /** Directories outside the run directory that go with the lab. */
  scratch: string[];
  /** Processes to end. */
  processes: LabProcess[];
}

/** The directory of lab `name` below the run directory `runDir`. */
export function labDirectory(runDir: string, name: string): string {
  return `${runDir}/lab/${name}`;
}

/**
 * Checks a lab's name: it becomes part of names of namespaces and files.
 *
 * @throws {Failure} where it is unfit
 */
export function checkName(name: string): string {
  if (/^[a-z0-9][a-z0-9-]{0,31}$/.test(name)) return name;
  throw new Failure(ExitStatus.USAGE, `Lab name "${name}" is not valid`, {
    mend: "use up to 32 lower-case letters, digits and hyphens, beginning with no hyphen",
  });
}

/** The names of the labs that have a directory below `runDir`, sorted. */
export function listNames(runDir: string): string[] {
  try {
    return [...Deno.readDirSync(`${runDir}/lab`)]
      .filter((entry) => entry.isDirectory).map((entry) => entry.name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/**
 * Reads the state of lab `name`: undefined where there is none, or none that can be read, as after
 * a crash in the middle of building it.
 */
export function readState(runDir: string, name: string): LabState | undefined {
  try {
    return parseState(Deno.readTextFileSync(`${labDirectory(runDir, name)}/state.json`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Parses a state file; undefined where the text is not one. */
export function parseState(text: string): LabState | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const isId = (id: unknown): boolean =>
    typeof id === "object" && id !== null && "pid" in id && Number.isInteger(id.pid) &&
    "start" in id && Number.isInteger(id.start);
  if (typeof value !== "object" || value === null) return undefined;
  const state = value as Partial<LabState>;
  const valid = typeof state.name === "string" && typeof state.created === "string" &&
    typeof state.madeNamespaceMount === "boolean" &&
    Array.isArray(state.scratch) && state.scratch.every((path) => typeof path === "string") &&
    Array.isArray(state.processes) && state.processes.every(isId) &&
    (state.owner === undefined || isId(state.owner));
  return valid ? state as LabState : undefined;
}

/** Writes the state file anew; a reader sees the old or the new one, never a part. */
export function writeState(runDir: string, state: LabState): void {
  const file = `${labDirectory(runDir, state.name)}/state.json`;
  Deno.writeTextFileSync(`${file}.new`, JSON.stringify(state, null, 2) + "\n", { mode: 0o600 });
  Deno.renameSync(`${file}.new`, file);
}

/**
 * Makes the lab's directory with one run directory for each host that runs commands, and a
 * directory for logs. Making it claims the name: two labs of one name cannot both succeed.
 *
 * @throws {Failure} where a lab of this name exists
 */
export function claimDirectory(runDir: string, name: string): void {
  const directory = labDirectory(runDir, name);
  try {
    Deno.mkdirSync(`${runDir}/lab`, { recursive: true, mode: 0o755 });
    Deno.mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists && isDirectory(directory)) {
      throw alreadyThere(name, error);
    }
    const text = error instanceof Error ? error.message : String(error);
    throw new Failure(ExitStatus.NO_INPUT, `Cannot make directory "${directory}": ${text}`, {
      mend: "choose another --run-dir",
      cause: error,
    });
  }
  for (const part of [...COMMAND_ROLES, "log"]) Deno.mkdirSync(`${directory}/${part}`);
}

function isDirectory(path: string): boolean {
  try {
    return Deno.lstatSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** The failure to report where lab `name` is there already. */
export function alreadyThere(name: string, cause?: unknown): Failure {
  return new Failure(ExitStatus.TEMPORARY, `Lab "${name}" exists already`, {
    mend: `take it down with "t2cp lab down --name ${name}", or choose another --name`,
    cause,
  });
}
