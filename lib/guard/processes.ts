/**
 * The service's processes: which they are, and whether they live.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { SystemError } from "../../ffi/errno.ts";
import { closeProcess, haveEnded, openProcess } from "../../ffi/process.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** Where the numbers of the service's main processes come from. */
export interface ProcessSources {
  /** Given by the user. */
  readonly pids: readonly number[];
  /** Files with a number each; a server that starts anew writes another. */
  readonly pidFiles: readonly string[];
  /** systemd's units. */
  readonly units: readonly string[];
}

/** Asks systemd for the main process of a unit; undefined where it has none now. */
export type UnitAsker = (unit: string) => Promise<number | undefined>;

interface Main {
  /** Readable once the process has ended. */
  descriptor: number;
  /** What to call it. */
  source: string;
}

/** The main processes that live, watched by a descriptor each and by the BPF programs. */
export class MainProcesses implements Disposable {
  readonly #sources: ProcessSources;
  readonly #watched: BpfMap;
  readonly #askUnit: UnitAsker;
  readonly #living = new Map<number, Main>();

  /** The programs report the end of those in map `watched`. */
  constructor(sources: ProcessSources, watched: BpfMap, askUnit: UnitAsker) {
    this.#sources = sources;
    this.#watched = watched;
    this.#askUnit = askUnit;
    // Those of an earlier start.
    const earlier = watched.entries();
    for (let i = 0; i < earlier.count; i++) watched.delete(earlier.keys.slice(i * 4, i * 4 + 4));
  }

  /** Whether the user has named any source. */
  get named(): boolean {
    const { pids, pidFiles, units } = this.#sources;
    return pids.length + pidFiles.length + units.length > 0;
  }

  /** The numbers of those that live. */
  get pids(): number[] {
    return [...this.#living.keys()];
  }

  /** Their descriptors, each readable once its process has ended. */
  get descriptors(): number[] {
    return [...this.#living.values()].map(({ descriptor }) => descriptor);
  }

  /**
   * Watches the processes as they are at the start.
   *
   * @throws {Failure} with status NO_INPUT where one of them does not live
   */
  async start(): Promise<void> {
    for (const pid of this.#sources.pids) {
      if (!this.#add(pid, `process ${pid}`)) throw absent(`There is no process ${pid}`);
    }
    for (const path of this.#sources.pidFiles) {
      const pid = readPidFile(path);
      if (pid === undefined) throw absent(`File "${path}" holds no process number`);
      if (!this.#add(pid, path)) throw absent(`Process ${pid} of "${path}" does not live`);
    }
    for (const unit of this.#sources.units) {
      const pid = await this.#askUnit(unit);
      if (pid === undefined || !this.#add(pid, unit)) {
        throw absent(`Unit "${unit}" has no main process`);
      }
    }
  }

  /** Looks for processes that have taken the place of those that have ended, and returns their number. */
  async renew(): Promise<number> {
    const had = this.#living.size;
    const missing = (source: string): boolean =>
      ![...this.#living.values()].some((main) => main.source === source);
    for (const path of this.#sources.pidFiles.filter(missing)) {
      const pid = readPidFile(path);
      if (pid !== undefined) this.#add(pid, path);
    }
    for (const unit of this.#sources.units.filter(missing)) {
      const pid = await this.#askUnit(unit);
      if (pid !== undefined) this.#add(pid, unit);
    }
    return this.#living.size - had;
  }

  /** Whether all main processes live, as far as any are named. */
  get complete(): boolean {
    const { pids, pidFiles, units } = this.#sources;
    return this.#living.size >= new Set([...pids, ...pidFiles, ...units]).size;
  }

  /** The numbers of those whose descriptors say that they have ended. */
  ended(): number[] {
    const living = [...this.#living];
    const ended = haveEnded(living.map(([, { descriptor }]) => descriptor));
    return living.filter((_, index) => ended[index]).map(([pid]) => pid);
  }

  /** Forgets a process that has ended; false where it is no main process. */
  remove(pid: number): boolean {
    const main = this.#living.get(pid);
    if (main === undefined) return false;
    this.#living.delete(pid);
    this.#watched.delete(keyOf(pid));
    closeProcess(main.descriptor);
    return true;
  }

  /** Stops watching. */
  [Symbol.dispose](): void {
    for (const pid of this.pids) this.remove(pid);
  }

  #add(pid: number, source: string): boolean {
    if (this.#living.has(pid)) return true;
    try {
      this.#living.set(pid, { descriptor: openProcess(pid), source });
    } catch (error) {
      if (error instanceof SystemError && ["ESRCH", "EINVAL"].includes(error.code)) return false;
      throw error;
    }
    this.#watched.update(keyOf(pid), new Uint8Array(4));
    return true;
  }
}

function keyOf(pid: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new Uint32Array([pid]).buffer);
}

function absent(message: string): Failure {
  return new Failure(ExitStatus.NO_INPUT, message, { mend: "start the service first" });
}

/** The number in a pid file; undefined where there is no such file, or none in it. */
export function readPidFile(path: string): number | undefined {
  try {
    const text = Deno.readTextFileSync(path).trim();
    return /^[1-9][0-9]{0,9}$/.test(text) ? Number(text) : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** How a process ended, for a person, by the number that wait(2) gives; undefined where that is not known. */
export function describeExit(code: number): string {
  const signal = code & 0x7f;
  return signal === 0 ? `status ${code >> 8 & 0xff}` : `signal ${signal}`;
}

const SIGHUP = 1;
const SIGINT = 2;
const SIGTERM = 15;

/** Whether a process ended against its will; the same rule as in ffi/bpf/guard.h. */
export function isCrash(code: number): boolean {
  const signal = code & 0x7f;
  return signal === 0 ? code !== 0 : ![SIGHUP, SIGINT, SIGTERM].includes(signal);
}
