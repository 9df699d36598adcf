/**
 * Cuts the primary off, at a moment that is known to a fraction of a millisecond.
 *
 * @module
 */

import { nowMicros } from "../clock.ts";
import { ExitStatus, Failure } from "../failure.ts";
import type { Lab } from "./lab.ts";
import { spawn } from "./system.ts";

/**
 * A cut of the primary's link at the switch, as when its cable is pulled or its power fails:
 * nothing reaches the primary any more, and nothing of it gets out. The program that will do it
 * runs already and waits for its line, so that its start does not delay the cut.
 */
export class LinkCut {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #output: Promise<Deno.CommandOutput> | undefined;

  /** Prepares the cut in `lab`. */
  constructor(lab: Lab) {
    this.#child = spawn(lab.inRole("gateway", ["ip", "-batch", "-"]), {
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    });
    this.#writer = this.#child.stdin.getWriter();
  }

  /**
   * Cuts the link.
   *
   * @returns microseconds since the epoch just before the cut
   * @throws {Failure} where the system refuses
   */
  async cut(): Promise<number> {
    const time = nowMicros();
    await this.#writer.write(new TextEncoder().encode("link set primary down\n"));
    const { success, stderr } = await this.#end();
    if (success) return time;
    const text = new TextDecoder().decode(stderr).trim().split("\n")[0];
    throw new Failure(ExitStatus.OS, `Cannot cut the primary's link: ${text}`);
  }

  /** Gives up the cut where it has not been made. */
  async cancel(): Promise<void> {
    await this.#end();
  }

  #end(): Promise<Deno.CommandOutput> {
    // Its end comes with that of its input.
    this.#output ??= this.#writer.close().catch(() => {}).then(() => this.#child.output());
    return this.#output;
  }
}
