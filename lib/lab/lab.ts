/**
 * A standing lab: build it, run things in its hosts, cut its primary off, take it down.
 *
 * @module
 */

import { formatTime, nowMicros } from "../clock.ts";
import { ExitStatus, Failure } from "../failure.ts";
import {
  createNetwork,
  existingNamespaces,
  holdNamespaces,
  inRole,
  namespaceInode,
  namespaceInodes,
  namespaceMountExists,
  removeNamespaceMount,
  removeNamespaces,
} from "./namespaces.ts";
import { throwIfInterrupted } from "./interrupt.ts";
import {
  alreadyThere,
  checkName,
  claimDirectory,
  labDirectory,
  type LabProcess,
  type LabState,
  listNames,
  readState,
  writeState,
} from "./state.ts";
import { endProcesses, identify, isAlive, mountsBelow, processesIn, run } from "./system.ts";
import type { Role } from "./topology.ts";

/** What {@linkcode Lab.create} needs to know. */
export interface LabOptions {
  /** The lab's name, see `checkName`. */
  name: string;
  /** The run directory that holds all labs, such as `/run/t2cp`. */
  runDir: string;
  /** Whether the calling process owns the lab, so that its death makes the lab stale. */
  owned: boolean;
}

/** One lab that stands. */
export class Lab {
  /** The lab's name. */
  readonly name: string;
  /** The run directory that holds all labs. */
  readonly runDir: string;
  /** The lab's own directory. */
  readonly directory: string;
  readonly #state: LabState;
  #leaving = false;

  private constructor(runDir: string, state: LabState) {
    this.name = state.name;
    this.runDir = runDir;
    this.directory = labDirectory(runDir, state.name);
    this.#state = state;
  }

  /**
   * Builds a lab. Where a step fails, everything is removed again.
   *
   * @throws {Failure} where the name is taken or the system refuses a step
   */
  static async create(options: LabOptions, signal: AbortSignal): Promise<Lab> {
    const name = checkName(options.name);
    requireRoot();
    if (existingNamespaces(name).length > 0) throw alreadyThere(name);
    claimDirectory(options.runDir, name);
    const state: LabState = {
      name,
      created: formatTime(nowMicros()),
      ...(options.owned ? { owner: identify(Deno.pid)! } : {}),
      madeNamespaceMount: !namespaceMountExists(),
      scratch: [],
      processes: [],
    };
    const lab = new Lab(options.runDir, state);
    try {
      writeState(options.runDir, state);
      await createNetwork(name);
      throwIfInterrupted(signal);
    } catch (error) {
      await takeDown(options.runDir, name);
      throw error;
    }
    return lab;
  }

  /**
   * The lab of that name that stands.
   *
   * @throws {Failure} where there is none
   */
  static open(runDir: string, name: string): Lab {
    const state = readState(runDir, checkName(name));
    if (state === undefined || existingNamespaces(name).length === 0) {
      throw new Failure(ExitStatus.UNAVAILABLE, `Lab "${name}" does not stand`, {
        mend: `build it with "t2cp lab up --name ${name}"`,
      });
    }
    return new Lab(runDir, state);
  }

  /** The run directory for commands of t2cp on host `role`. */
  roleDirectory(role: "gateway" | "primary" | "backup"): string {
    return `${this.directory}/${role}`;
  }

  /** The file that holds what the process called `what` wrote to standard error. */
  logFile(what: string): string {
    return `${this.directory}/log/${what}.log`;
  }

  /** The command line that runs `argv` on host `role`. */
  inRole(role: Role, argv: readonly string[]): string[] {
    return inRole(this.name, role, argv);
  }

  /** The inode number of the network namespace of host `role`. */
  network(role: Role): number | undefined {
    return namespaceInode(this.name, role);
  }

  /** Notes a started process, so that the lab's end ends it too. */
  addProcess(process: LabProcess): void {
    this.#state.processes.push(process);
    writeState(this.runDir, this.#state);
  }

  /** Makes a directory for large files, outside the run directory, that goes with the lab. */
  makeScratch(): string {
    const path = Deno.makeTempDirSync({ prefix: `t2cp-lab-${this.name}-` });
    this.#state.scratch.push(path);
    writeState(this.runDir, this.#state);
    return path;
  }

  /** Leaves the lab to itself: it stands on after its owner's end. */
  release(): void {
    delete this.#state.owner;
    writeState(this.runDir, this.#state);
  }

  /**
   * Refuses to start anything more once the lab is being taken down.
   *
   * @throws {Failure}
   */
  requireStanding(): void {
    if (!this.#leaving) return;
    throw new Failure(ExitStatus.TEMPORARY, `Lab "${this.name}" is being taken down`);
  }

  /** Takes the lab down, see {@linkcode takeDown}. */
  async down(): Promise<void> {
    this.#leaving = true;
    await takeDown(this.runDir, this.name);
  }

  /**
   * Cuts the primary's link at the switch, as when its cable is pulled or its power fails: nothing
   * reaches the primary any more, and nothing of it gets out.
   *
   * @returns microseconds since the epoch just before the cut
   */
  async failHost(): Promise<number> {
    const time = nowMicros();
    await run(this.inRole("gateway", ["ip", "link", "set", "primary", "down"]));
    return time;
  }
}

/**
 * Removes everything of lab `name`: its processes (those it noted, and all in its namespaces),
 * mounts below its directory, namespaces, scratch directories, and its directory. Removes what
 * there is, also of a lab that was only half built.
 *
 * @returns false where there was nothing of that name
 * @throws {Failure} naming what could not be removed
 */
export async function takeDown(runDir: string, name: string): Promise<boolean> {
  const directory = labDirectory(runDir, checkName(name));
  const state = readState(runDir, name);
  const held = holdNamespaces(name);
  try {
    return await takeDownHeld(runDir, name, directory, state);
  } finally {
    for (const namespace of held) namespace.close();
  }
}

async function takeDownHeld(
  runDir: string,
  name: string,
  directory: string,
  state: LabState | undefined,
): Promise<boolean> {
  const inodes = namespaceInodes(name);
  if (!exists(directory) && inodes.size === 0) return false;

  const problems: string[] = [];
  const attempt = async (what: string, step: () => unknown): Promise<void> => {
    try {
      await step();
    } catch (error) {
      problems.push(`${what}: ${error instanceof Error ? error.message : error}`);
    }
  };

  const noted = (state?.processes ?? []).filter(isAlive);
  const inside = processesIn(inodes).filter(({ pid }) => !noted.some((id) => id.pid === pid));
  for (const id of await endProcesses([...noted, ...inside])) {
    problems.push(`process ${id.pid} does not end`);
  }
  // What has just ended may have started children meanwhile.
  await endProcesses(processesIn(inodes), 0);
  for (const point of mountsBelow(directory)) {
    await attempt(`mount "${point}"`, () => run(["umount", point]));
  }
  await attempt("namespaces", () => removeNamespaces(name));
  // Someone else may have entered a namespace just before it lost its name.
  await endProcesses(processesIn(inodes), 0);
  for (const path of state?.scratch ?? []) {
    await attempt(`directory "${path}"`, () => remove(path));
  }
  if (state?.madeNamespaceMount) await removeNamespaceMount();
  // The state file goes last, so that what is left can be tried again.
  if (problems.length === 0) await attempt(`directory "${directory}"`, () => remove(directory));
  await removeIfEmpty(`${runDir}/lab`);
  await removeIfEmpty(runDir);
  if (problems.length > 0) {
    throw new Failure(ExitStatus.OS, `Lab "${name}" is not all gone: ${problems.join(", ")}`, {
      mend: `try "t2cp lab down --name ${name}" again`,
    });
  }
  return true;
}

/** How a lab is doing: standing for anyone, used by a living process, or left by a dead one. */
export type LabCondition = "standing" | "in use" | "stale";

/** One line of {@linkcode listLabs}. */
export interface LabSummary {
  /** The lab's name. */
  name: string;
  /** How it is doing. */
  condition: LabCondition;
  /** When it was built, RFC 3339; empty where its state is lost. */
  created: string;
  /** The process that uses it. */
  pid?: number;
}

/** All labs below `runDir`, sorted by name. */
export function listLabs(runDir: string): LabSummary[] {
  return listNames(runDir).map((name) => {
    const state = readState(runDir, name);
    if (state === undefined) return { name, condition: "stale", created: "" };
    const owner = state.owner !== undefined && isAlive(state.owner) ? state.owner.pid : undefined;
    if (owner !== undefined) {
      return { name, condition: "in use", created: state.created, pid: owner };
    }
    const stands = state.owner === undefined && existingNamespaces(name).length > 0;
    return { name, condition: stands ? "standing" : "stale", created: state.created };
  });
}

/**
 * Refuses to touch a lab that a living process uses.
 *
 * @throws {Failure} naming that process
 */
export function requireUnused(runDir: string, name: string): void {
  const owner = readState(runDir, checkName(name))?.owner;
  if (owner === undefined || !isAlive(owner)) return;
  throw new Failure(ExitStatus.TEMPORARY, `Lab "${name}" is in use by process ${owner.pid}`, {
    mend: `end that process (kill ${owner.pid}), and it takes the lab down`,
  });
}

/**
 * Refuses to go on without root.
 *
 * @throws {Failure} where the process is not root
 */
export function requireRoot(): void {
  if (Deno.uid() === 0) return;
  throw new Failure(ExitStatus.NO_PERMISSION, "The lab needs root for its network namespaces", {
    mend: "run it as root",
  });
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function removeIfEmpty(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch {
    // Somebody else's files are there, or it is gone already.
  }
}
