/**
 * Shell commands of the user's, run so that they can be ended with all that they have started.
 *
 * @module
 */
import { ordinaryLine } from "../../ffi/scheduler.ts";
import { within } from "../clock.ts";

/** How much of the output is kept to say why a command failed, in bytes. */
const KEPT = 1024;

/** How much of that is said, in characters. */
const SHOWN = 120;

/** How long an output may take to end once its command and all that it started have, in milliseconds. */
const DRAIN = 100;
/** It is waited for in so many parts: time in which this process did not run ends one of them only. */
const PARTS = 10;

/** How a command has ended. */
export interface ShellEnd {
  /** Its exit status; absent where a signal has ended it, or it could not be run. */
  status?: number;
  /** The signal that has ended it. */
  signal?: string;
  /** The first line of its output, or why it could not be run; empty where there is none. */
  said: string;
  /** How often something was ended by force: the command, or what it had left behind. */
  killed: number;
  /** Bytes of output that were dropped. */
  discarded: number;
}

/**
 * Runs `command` by `sh -c` in a session of its own, and ends all of it once `signal` is aborted. Its output is read to
 * its end, lest the command wait for a reader, and dropped but for its beginning.
 */
export async function runShell(
  command: string,
  signal: AbortSignal,
  env: Record<string, string> = {},
): Promise<ShellEnd> {
  // Deno's own way to a new session copies the process: setsid(1) costs a third of the time.
  const shell = ["/bin/sh", "-c", `exec 2>&1\n${command}`];
  // This process's priority is not for the command.
  const [program, args] = ordinaryLine("setsid", shell);
  const counts = { killed: 0, discarded: 0 };
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, { args, env, stdin: "null", stdout: "piped", stderr: "null" })
      .spawn();
  } catch (error) {
    return {
      said: `It cannot be run: ${error instanceof Error ? error.message : error}`,
      ...counts,
    };
  }
  const kill = (): void => {
    if (killAll(child.pid)) counts.killed++;
  };
  const output = new Output(child.stdout);
  signal.addEventListener("abort", kill, { once: true });
  try {
    if (signal.aborted) kill();
    const status = await child.status;
    signal.removeEventListener("abort", kill);
    // What it has left behind.
    if (killSession(child.pid) && !signal.aborted) counts.killed++;
    const said = await output.end();
    const end = { said, killed: counts.killed, discarded: output.discarded };
    return status.signal === null
      ? { status: status.code, ...end }
      : { signal: status.signal, ...end };
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

/** What a command prints. */
class Output {
  /** Bytes that were dropped. */
  discarded = 0;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #drained: Promise<void>;
  readonly #kept = new Uint8Array(KEPT);
  #length = 0;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
    this.#drained = this.#drain();
  }

  /** Its first line, once it has ended; whoever still holds it open is not waited for. */
  async end(): Promise<string> {
    let open = true;
    const drained = this.#drained.then(() => open = false);
    for (let part = 0; open && part < PARTS; part++) await within(drained, DRAIN / PARTS);
    await this.#reader.cancel().catch(() => {});
    await this.#drained;
    const text = new TextDecoder().decode(this.#kept.subarray(0, this.#length));
    return text.trimStart().split("\n", 1)[0]!.trimEnd().slice(0, SHOWN);
  }

  async #drain(): Promise<void> {
    try {
      while (true) {
        const { value, done } = await this.#reader.read();
        if (done) return;
        const wanted = Math.min(value.length, KEPT - this.#length);
        this.#kept.set(value.subarray(0, wanted), this.#length);
        this.#length += wanted;
        this.discarded += value.length - wanted;
      }
    } catch {
      // What was printed is for the reason only.
    }
  }
}

/** Ends a command and its session, also before it has become one. Returns whether there was anything to end. */
function killAll(pid: number): boolean {
  const session = killSession(pid);
  return kill(pid) || session;
}

/** Ends all processes of the group that a session's leader began. */
function killSession(pid: number): boolean {
  return kill(-pid);
}

function kill(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGKILL");
    return true;
  } catch {
    // There is nobody any more.
    return false;
  }
}
