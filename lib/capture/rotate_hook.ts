/**
 * The command that is run for each finished file.
 *
 * @module
 */
import { ordinaryLine } from "../../ffi/scheduler.ts";

/** Bounds of {@linkcode RotateHook}. */
export interface HookBounds {
  /** How many commands run at once. */
  atOnce: number;
  /** How many files wait for their command; more are passed over. */
  waiting: number;
  /** How long a command may run, in milliseconds. */
  runTime: number;
  /** How long the end waits for the commands that are left, in milliseconds. */
  lastWait: number;
}

const BOUNDS: HookBounds = { atOnce: 2, waiting: 100, runTime: 300_000, lastWait: 10_000 };
/** How long a command that was told to end may take, in milliseconds. */
const GRACE = 1000;

/** Runs a shell command for each finished file, at the lowest priority. Whatever becomes of it, nobody waits. */
export class RotateHook {
  readonly #command: string;
  readonly #warn: (message: string) => void;
  readonly #bounds: HookBounds;
  readonly #ending = new AbortController();
  readonly #waiting: string[] = [];
  readonly #running = new Set<Promise<void>>();

  /**
   * `command` is the shell's; the file's path becomes its last argument, and `T2CP_FILE` in its environment. What goes
   * wrong is told to `warn`.
   */
  constructor(
    command: string,
    warn: (message: string) => void,
    bounds: Partial<HookBounds> = {},
  ) {
    this.#command = command;
    this.#warn = warn;
    this.#bounds = { ...BOUNDS, ...bounds };
  }

  /** Runs the command for the file at `path`, now or when an earlier one has ended. */
  run(path: string): void {
    if (this.#waiting.length >= this.#bounds.waiting) {
      this.#warn(`The rotation command was not run for "${path}": too many files wait for it`);
      return;
    }
    this.#waiting.push(path);
    this.#start();
  }

  /** Resolves when all commands have ended; those that take too long are ended, and those that wait are left out. */
  async close(): Promise<void> {
    const timer = setTimeout(() => this.#end(), this.#bounds.lastWait);
    while (this.#running.size > 0) await Promise.race(this.#running);
    clearTimeout(timer);
  }

  #end(): void {
    const left = this.#waiting.splice(0).length;
    if (left > 0) this.#warn(`The rotation command was not run for ${left} files, since t2cp ends`);
    this.#ending.abort();
  }

  #start(): void {
    while (this.#running.size < this.#bounds.atOnce && this.#waiting.length > 0) {
      const path = this.#waiting.shift()!;
      const run = this.#execute(path).then((problem) => {
        this.#running.delete(run);
        if (problem !== undefined) this.#warn(`The rotation command ${problem} for "${path}"`);
        this.#start();
      });
      this.#running.add(run);
    }
  }

  /** What went wrong, if something did. */
  async #execute(path: string): Promise<string | undefined> {
    let child: Deno.ChildProcess;
    // What it prints must not get among the events.
    const shell = ["sh", "-c", `exec >&2; ${this.#command} "$@"`, "sh", path];
    const [program, args] = ordinaryLine("nice", ["-n", "19", ...shell]);
    try {
      child = new Deno.Command(program, {
        args,
        env: { T2CP_FILE: path },
        stdin: "null",
        stdout: "null",
        stderr: "inherit",
        // A process group of its own, so that all of it can be ended, and a Ctrl-C is not its.
        detached: true,
      }).spawn();
    } catch (error) {
      return `could not be started (${error instanceof Error ? error.message : error})`;
    }
    let killer: ReturnType<typeof setTimeout> | undefined;
    const end = (): void => {
      signalGroup(child.pid, "SIGTERM");
      killer ??= setTimeout(() => signalGroup(child.pid, "SIGKILL"), GRACE);
    };
    const timer = setTimeout(end, this.#bounds.runTime);
    this.#ending.signal.addEventListener("abort", end);
    const { code } = await child.status;
    this.#ending.signal.removeEventListener("abort", end);
    clearTimeout(timer);
    clearTimeout(killer);
    if (killer !== undefined) return "took too long and was ended";
    return code === 0 ? undefined : `ended with status ${code}`;
  }
}

function signalGroup(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-pid, signal);
  } catch {
    // It has ended by itself.
  }
}
