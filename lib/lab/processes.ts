/**
 * Starts the processes of a lab, each on its host.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";
import type { Lab } from "./lab.ts";
import { endProcesses, identify, type ProcessId, spawn, until } from "./system.ts";
import type { Role } from "./topology.ts";

/**
 * The search path for what runs in a lab: this checkout first, so that `t2cp` is its launcher, then
 * the directory of the running Deno, which the launcher needs.
 */
export function commandPath(): string {
  const checkout = decodeURIComponent(new URL("../..", import.meta.url).pathname).replace(
    /\/$/,
    "",
  );
  const runtime = Deno.execPath().replace(/\/[^/]*$/, "");
  return [checkout, runtime, Deno.env.get("PATH") ?? "/usr/sbin:/usr/bin:/sbin:/bin"].join(":");
}

/** A command line as one would type it at a shell. */
export function quote(argv: readonly string[]): string {
  return argv.map((word) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
  ).join(" ");
}

/** What to start. */
export interface ProcessSpec {
  /** A name for messages and the log file. */
  what: string;
  /** The host; absent for a command line that enters its hosts itself. */
  role?: Role;
  /** Program and arguments. */
  argv: readonly string[];
  /** Whether the lab writes to its standard input; else that is empty. */
  stdin?: boolean;
  /** Whether the lab reads its standard output; else that goes to the log. */
  stdout?: boolean;
}

/** A process of a lab. What it writes to standard error is in its log file. */
export class HostProcess {
  /** Its name for messages. */
  readonly what: string;
  /** Its identity; undefined where it ended at once. */
  readonly id: ProcessId | undefined;
  /** Resolves at its end. */
  readonly status: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #log: string;
  readonly #network: number | undefined;
  #ended = false;

  private constructor(
    what: string,
    child: Deno.ChildProcess,
    log: string,
    network: number | undefined,
  ) {
    this.what = what;
    this.#network = network;
    this.#child = child;
    this.#log = log;
    this.id = identify(child.pid);
    this.status = child.status.then((status) => {
      this.#ended = true;
      return status;
    });
  }

  /** Starts a process and notes it in the lab's state. */
  static start(lab: Lab, spec: ProcessSpec): HostProcess {
    lab.requireStanding();
    const log = lab.logFile(spec.what);
    const network = spec.role === undefined ? networkOf(Deno.pid) : lab.network(spec.role);
    const argv = spec.role === undefined ? spec.argv : lab.inRole(spec.role, spec.argv);
    const redirect = spec.stdout ? 'exec 2>>"$0"' : 'exec >>"$0" 2>&1';
    const child = spawn(["sh", "-c", `${redirect}; exec "$@"`, log, ...argv], {
      env: { PATH: commandPath(), NO_COLOR: "1" },
      stdin: spec.stdin ? "piped" : "null",
      stdout: spec.stdout ? "piped" : "null",
      stderr: "null",
      // Of its own group, so that a Ctrl-C at the terminal reaches the lab alone.
      detached: true,
    });
    const process = new HostProcess(spec.what, child, log, network);
    if (process.id !== undefined) {
      lab.addProcess({
        ...process.id,
        what: spec.what,
        ...(spec.role === undefined ? {} : { role: spec.role }),
      });
    }
    return process;
  }

  /** Its standard output; only where the lab reads it. */
  get stdout(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#child.stdout;
  }

  /** Its standard input; only where the lab writes it. */
  get stdin(): WritableStream<Uint8Array<ArrayBuffer>> {
    return this.#child.stdin;
  }

  /** Whether it has entered its host; before that it sees the machine's own network. */
  get inPlace(): boolean {
    return this.id !== undefined && networkOf(this.id.pid) === this.#network;
  }

  /** Whether it has ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The last line of its log; empty where there is none. */
  async lastWords(): Promise<string> {
    const text = await Deno.readTextFile(this.#log).catch(() => "");
    return text.trimEnd().split("\n").at(-1)!;
  }

  /** The failure to report where it has ended though it should not. */
  async unexpectedEnd(): Promise<Failure> {
    const { code } = await this.status;
    const words = await this.lastWords();
    return new Failure(
      ExitStatus.UNAVAILABLE,
      `Process "${this.what}" ended with status ${code}${words === "" ? "" : `: ${words}`}`,
    );
  }

  /** Sends `signal` to the process and its children, to all at once; false where it has ended. */
  signalAll(signal: Deno.Signal): boolean {
    if (this.#ended) return false;
    try {
      Deno.kill(-this.#child.pid, signal);
      return true;
    } catch {
      return false;
    }
  }

  /** Sends SIGTERM to the process and its children, and SIGKILL to it after `grace` ms. */
  async stop(grace = 10_000): Promise<void> {
    this.signalAll("SIGTERM");
    if (this.id !== undefined) await endProcesses([this.id], grace);
    await this.status;
  }
}

/**
 * Waits until `process` has a TCP listener on `port` in its network namespace.
 *
 * @throws {Failure} where it ends before, or takes longer than thirty seconds
 */
export async function waitForListener(process: HostProcess, port: number): Promise<void> {
  const listens = await until(() => {
    return process.ended || process.inPlace && hasListener(process.id!.pid, port);
  }, 30_000);
  if (process.ended) throw await process.unexpectedEnd();
  if (listens) return;
  throw new Failure(ExitStatus.UNAVAILABLE, `Server "${process.what}" does not listen`, {
    mend: `its last words were "${await process.lastWords()}"`,
  });
}

/** The inode number of the network namespace of process `pid`; undefined where it is gone. */
function networkOf(pid: number): number | undefined {
  try {
    return Deno.statSync(`/proc/${pid}/ns/net`).ino ?? undefined;
  } catch {
    return undefined;
  }
}

/** Whether something in the network namespace of process `pid` listens on TCP port `port`. */
function hasListener(pid: number, port: number): boolean {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return ["tcp", "tcp6"].some((table) => {
    try {
      return Deno.readTextFileSync(`/proc/${pid}/net/${table}`).split("\n").some((line) => {
        const [, local, , state] = line.trim().split(/\s+/);
        return state === "0A" && local!.endsWith(suffix);
      });
    } catch {
      return false;
    }
  });
}
