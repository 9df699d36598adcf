/**
 * A client with many flows: one of the lab's own programs, and what it reports.
 *
 * @module
 */

import { MAX_LINE, readLines } from "../ndjson.ts";
import { Flows } from "./flows.ts";
import type { Lab } from "./lab.ts";
import { HostProcess } from "./processes.ts";
import type { Report } from "./program/protocol.ts";

/** The programs by name; each is a file in the directory `program`. */
export type ProgramName = "echo_client" | "chat_client" | "chat_server" | "web_client";

/** The path of a file in the directory `program`. */
export function programFile(name: string): string {
  return decodeURIComponent(new URL(`program/${name}`, import.meta.url).pathname);
}

/** The command line of one of the lab's own programs, told `task`. */
export function programLine(name: ProgramName, task: object): string[] {
  const file = programFile(`${name}.ts`);
  const options = ["--quiet", "--no-config", "--no-lock", "--no-prompt", "--allow-net"];
  return [Deno.execPath(), "run", ...options, file, JSON.stringify(task)];
}

/** Runs a client program on the lab's client. */
export class FlowClient {
  /** What its flows did so far. */
  readonly flows: Flows = new Flows();
  #process: HostProcess | undefined;

  /**
   * Runs the program to its end.
   *
   * @returns undefined, or what went wrong with it or with its flows
   */
  async run(lab: Lab, program: ProgramName, task: object): Promise<string | undefined> {
    const process = HostProcess.start(lab, {
      what: program.replaceAll("_", "-"),
      role: "client",
      argv: programLine(program, task),
      stdout: true,
    });
    this.#process = process;
    for await (const line of readLines(process.stdout, { maxLine: MAX_LINE })) {
      if ("error" in line) continue;
      try {
        this.flows.take(JSON.parse(line.line) as Report);
      } catch (error) {
        // A program that is stopped may leave half a line.
        if (!(error instanceof SyntaxError)) throw error;
      }
    }
    const { success, code } = await process.status;
    if (success) return this.flows.problem();
    return `${process.what} ended with status ${code}: ${await process.lastWords()}`;
  }

  /** Ends the program where it still runs. */
  async stop(): Promise<void> {
    await this.#process?.stop();
  }
}
