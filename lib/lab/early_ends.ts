/**
 * Counts the ends that a client got of its connections before it ended them itself: what a dying
 * server's kernel sends, and the client must not see.
 *
 * @module
 */

import type { Family } from "../address.ts";
import { readLines } from "../ndjson.ts";
import { ExitStatus, Failure } from "../failure.ts";
import type { Lab } from "./lab.ts";
import { HostProcess } from "./processes.ts";
import { until } from "./system.ts";

/** Watches for FIN and RST on the client's interface, by tcpdump. */
export class EarlyEnds {
  readonly #process: HostProcess;
  readonly #port: number;
  readonly #fin: boolean;
  readonly #ended: Set<string> = new Set();
  readonly #reading: Promise<void>;
  #count = 0;

  private constructor(process: HostProcess, port: number, fin: boolean) {
    this.#process = process;
    this.#port = port;
    this.#fin = fin;
    this.#reading = this.#read();
  }

  /**
   * Begins to watch the service's `port`; a FIN counts only with `fin`, since some servers close
   * first.
   *
   * @throws {Failure} where tcpdump does not start
   */
  static async begin(lab: Lab, family: Family, port: number, fin: boolean): Promise<EarlyEnds> {
    // In IPv6 the flags are at a fixed place too, behind a header without extensions.
    const flags = family === 4 ? "tcp[tcpflags]" : "ip6[53]";
    const kind = family === 4 ? "tcp" : "ip6 proto 6";
    const process = HostProcess.start(lab, {
      what: "tcpdump",
      role: "client",
      argv: [
        ...["tcpdump", "-i", "eth0", "-nn", "-tt", "-l", "--immediate-mode"],
        `${kind} and port ${port} and ${flags} & 5 != 0`,
      ],
      stdout: true,
    });
    const listens = async () =>
      process.ended || (await process.lastWords()).startsWith("listening on");
    if (!await until(listens, 10_000) || process.ended) {
      throw new Failure(ExitStatus.UNAVAILABLE, "Program tcpdump does not listen on the client", {
        mend: `its last words were "${await process.lastWords()}"`,
      });
    }
    return new EarlyEnds(process, port, fin);
  }

  async #read(): Promise<void> {
    for await (const line of readLines(this.#process.stdout, { maxLine: 4096 })) {
      if (!("error" in line)) this.#take(line.line);
    }
  }

  #take(line: string): void {
    const [, from, to, flags] = / IP6? (\S+) > (\S+): Flags \[([^\]]*)\]/.exec(line) ?? [];
    if (from === undefined || to === undefined || flags === undefined) return;
    const ofServer = from.endsWith(`.${this.#port}`);
    const client = ofServer ? to : from;
    if (this.#ended.has(client)) return;
    if (!ofServer) this.#ended.add(client);
    else if (this.#fin || flags.includes("R")) this.#count++;
  }

  /** Ends the watch; how many FIN and RST have come before the client's own. */
  async end(): Promise<number> {
    await this.#process.stop();
    await this.#reading;
    return this.#count;
  }
}
