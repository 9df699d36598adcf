/**
 * What a running command gets from its process: its output, and the wish that it stop.
 *
 * @module
 */
import { Emitter } from "../../lib/event.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import { NdjsonWriter, type Sink } from "../../lib/ndjson.ts";

/** How long a stopping command waits for a reader that does not read, in milliseconds. */
const LAST_WORDS = 1000;

/** A command's output on stdout. */
export interface Output {
  /** The only writer of stdout. */
  readonly writer: NdjsonWriter;
  /** Makes the command's events and gives them to the writer. */
  readonly emitter: Emitter;
  /**
   * Aborted when the command should stop in order: at SIGTERM, SIGINT and SIGHUP (unless ignored,
   * as under nohup), and when stdout's reader has gone.
   */
  readonly stop: AbortSignal;
  /** Aborted at these signals only: for work that must be finished though nobody reads of it. */
  readonly interrupted: AbortSignal;
  /**
   * Writes what is queued and gives the signals their default effect back. Last call of a command;
   * let what it throws through. After a stop signal it waits a second at most.
   *
   * @throws {ReaderGone} where stdout's reader has gone, which ends the process quietly
   * @throws {Failure} where the output cannot be written
   */
  close(): Promise<void>;
}

/** Opens stdout, or another sink, for the events of command `by`, and handles the stop signals from now on. */
export function openOutput(by: string, sink: Sink = Deno.stdout): Output {
  const writer = new NdjsonWriter(sink);
  const emitter = new Emitter(by, writer);
  const signals = stopSignal();
  return {
    writer,
    emitter,
    stop: AbortSignal.any([signals.signal, writer.signal]),
    interrupted: signals.signal,
    async close(): Promise<void> {
      signals.release();
      const closed = emitter.close();
      await (signals.signal.aborted ? within(closed, LAST_WORDS) : closed);
    },
  };
}

/**
 * Runs `work` with stdout, or another sink, for the events of command `by`; its own error counts more than the output's.
 */
export async function withOutput(
  by: string,
  work: (output: Output) => Promise<void>,
  sink?: Sink,
): Promise<void> {
  const output = openOutput(by, sink);
  try {
    await work(output);
  } catch (error) {
    await output.close().catch(() => {});
    throw error;
  }
  await output.close();
}

async function within(closed: Promise<void>, millis: number): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const message = "The reader of the output does not read; its last events are lost";
    late.reject(new Failure(ExitStatus.TEMPORARY, message));
  }, millis);
  try {
    await Promise.race([closed, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Signals that mean: stop in order. */
export interface StopSignal {
  /** Aborted at the first SIGTERM, SIGINT or SIGHUP; the reason is the signal's name. */
  readonly signal: AbortSignal;
  /** Gives the signals their default effect back. */
  release(): void;
}

/** Handles SIGTERM and SIGINT, and SIGHUP unless the parent has it ignored. */
export function stopSignal(): StopSignal {
  const controller = new AbortController();
  const undisturbed = isIgnored(1);
  const names: Deno.Signal[] = ["SIGTERM", "SIGINT", "SIGHUP"];
  const handlers = names.map((name) => {
    const handler = (): void => {
      // Deno catches SIGHUP along with any other signal, so that ignoring it needs a handler, too.
      if (name !== "SIGHUP" || !undisturbed) controller.abort(name);
    };
    Deno.addSignalListener(name, handler);
    return { name, handler };
  });
  return {
    signal: controller.signal,
    release(): void {
      for (const { name, handler } of handlers) Deno.removeSignalListener(name, handler);
    },
  };
}

/** Whether this process was started with the signal ignored. */
function isIgnored(signal: number): boolean {
  try {
    const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1];
    return (BigInt(`0x${mask ?? "0"}`) >> BigInt(signal - 1) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** Resolves once `signal` is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}
