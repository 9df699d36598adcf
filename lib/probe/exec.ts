/**
 * Probes that run a shell command.
 *
 * @module
 */
import { ordinaryLine } from "../../ffi/scheduler.ts";
import { type Attempt, type ProbeCounters, within } from "./attempt.ts";
import type { ExecProbe } from "./spec.ts";

/** How much of the output is kept to say why a command failed, in bytes. */
const KEPT = 1024;

/** How much of that is said, in characters. */
const SHOWN = 120;

/** How long an output may take to end once its command and all that it started have, in milliseconds. */
const DRAIN = 100;

/**
 * Whether a command exits with status 0. It runs in a session of its own, so that it is ended with all that it has
 * started. Its output is read to its end, lest the command wait for a reader, and dropped but for its beginning.
 */
export function execAttempt({ command }: ExecProbe): Attempt {
  // Deno's own way to a new session copies the process: setsid(1) costs the heartbeats a third of the time.
  const shell = ["/bin/sh", "-c", `exec 2>&1\n${command}`];
  return async (signal, counters) => {
    let child: Deno.ChildProcess;
    // The heartbeats' priority is not for the command.
    const [program, args] = ordinaryLine("setsid", shell);
    try {
      child = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "null" })
        .spawn();
    } catch (error) {
      return `It cannot be run: ${error instanceof Error ? error.message : error}`;
    }
    const kill = (): void => {
      if (killAll(child.pid)) counters.killed++;
    };
    const output = new Output(child.stdout, counters);
    signal.addEventListener("abort", kill, { once: true });
    try {
      if (signal.aborted) kill();
      const status = await child.status;
      signal.removeEventListener("abort", kill);
      // What it has left behind.
      if (killSession(child.pid) && !signal.aborted) counters.killed++;
      const said = await output.end();
      if (status.success) return undefined;
      const how = status.signal === null
        ? `Exit status ${status.code}`
        : `Ended by ${status.signal}`;
      return said === "" ? how : `${how}: ${said}`;
    } finally {
      signal.removeEventListener("abort", kill);
    }
  };
}

/** What a command prints. */
class Output {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #counters: ProbeCounters;
  readonly #drained: Promise<void>;
  readonly #kept = new Uint8Array(KEPT);
  #length = 0;

  constructor(stream: ReadableStream<Uint8Array>, counters: ProbeCounters) {
    this.#reader = stream.getReader();
    this.#counters = counters;
    this.#drained = this.#drain();
  }

  /** Its first line, once it has ended; whoever still holds it open is not waited for. */
  async end(): Promise<string> {
    await within(this.#drained, DRAIN);
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
        this.#counters.discarded_bytes += value.length - wanted;
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
