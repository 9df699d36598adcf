/**
 * Makes the primary fail, at a moment that is known to a fraction of a millisecond.
 *
 * @module
 */

import { nowMicros } from "../clock.ts";
import { ExitStatus, Failure } from "../failure.ts";
import type { Lab } from "./lab.ts";
import type { HostProcess } from "./processes.ts";
import type { FailureName } from "./scenario.ts";
import { spawn } from "./system.ts";

/** A failure that is prepared, so that it needs no time when it is due. */
export interface Fault {
  /**
   * Makes the primary fail.
   *
   * @returns microseconds since the epoch just before the failure
   * @throws {Failure} where the system refuses
   */
  make(): Promise<number>;
  /** Gives it up where it has not been made. */
  cancel(): Promise<void>;
}

/** What a failure is for a person, in a word or two. */
export const FAULT_LABELS: Readonly<Record<Exclude<FailureName, "none">, string>> = {
  host: "primary cut off",
  process: "server killed",
  hang: "server stopped",
  planned: "switch-over asked for",
};

/** Prepares a failure of the primary, or of `server`, which runs on it; a planned one is `switchOver`, which returns when it began. */
export function prepareFault(
  lab: Lab,
  failure: Exclude<FailureName, "none">,
  server: HostProcess,
  switchOver: () => Promise<number>,
): Fault {
  switch (failure) {
    case "host":
      return new LinkCut(lab);
    case "process":
      return new ServerSignal(server, "SIGKILL");
    case "hang":
      return new ServerSignal(server, "SIGSTOP");
    case "planned":
      return new PlannedEnd(server, switchOver);
  }
}

/** A switch-over while the primary lives. Its server is stopped later, as an administrator would. */
class PlannedEnd implements Fault {
  readonly #server: HostProcess;
  readonly #switchOver: () => Promise<number>;

  constructor(server: HostProcess, switchOver: () => Promise<number>) {
    this.#server = server;
    this.#switchOver = switchOver;
  }

  async make(): Promise<number> {
    const time = await this.#switchOver();
    this.#server.signalAll("SIGTERM");
    return time;
  }

  cancel(): Promise<void> {
    return Promise.resolve();
  }
}

/** A signal to all processes of the server at once. */
class ServerSignal implements Fault {
  readonly #server: HostProcess;
  readonly #signal: Deno.Signal;

  constructor(server: HostProcess, signal: Deno.Signal) {
    this.#server = server;
    this.#signal = signal;
  }

  make(): Promise<number> {
    const time = nowMicros();
    if (this.#server.signalAll(this.#signal)) return Promise.resolve(time);
    const { what } = this.#server;
    throw new Failure(ExitStatus.UNAVAILABLE, `Server "${what}" has ended before its failure`);
  }

  cancel(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * A cut of the primary's link at the switch, as when its cable is pulled or its power fails:
 * nothing reaches the primary any more, and nothing of it gets out. The program that will do it
 * runs already and waits for its line, so that its start does not delay the cut.
 */
class LinkCut implements Fault {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #output: Promise<Deno.CommandOutput> | undefined;

  constructor(lab: Lab) {
    this.#child = spawn(lab.inRole("gateway", ["ip", "-batch", "-"]), {
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    });
    this.#writer = this.#child.stdin.getWriter();
  }

  async make(): Promise<number> {
    const time = nowMicros();
    await this.#writer.write(new TextEncoder().encode("link set primary down\n"));
    const { success, stderr } = await this.#end();
    if (success) return time;
    const text = new TextDecoder().decode(stderr).trim().split("\n")[0];
    throw new Failure(ExitStatus.OS, `Cannot cut the primary's link: ${text}`);
  }

  async cancel(): Promise<void> {
    await this.#end();
  }

  #end(): Promise<Deno.CommandOutput> {
    // Its end comes with that of its input.
    this.#output ??= this.#writer.close().catch(() => {}).then(() => this.#child.output());
    return this.#output;
  }
}
