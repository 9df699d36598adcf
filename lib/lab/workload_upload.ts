/**
 * Upload: curl sends random bytes, fed by the lab, to nginx, which stores them.
 *
 * @module
 */

import { createHash, randomFillSync } from "node:crypto";
import { formatEndpoint } from "../address.ts";
import { nowMicros } from "../clock.ts";
import { hashFile } from "./content.ts";
import { Progress } from "./measure.ts";
import { HostProcess, quote } from "./processes.ts";
import {
  documentDirectory,
  type ServerRole,
  startWebServer,
  storeDirectory,
  WEB_PORT,
} from "./servers.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** Small, so that the time at which curl takes a block tells when the network took one. */
const BLOCK = 16 * 1024;

/** See the module. A byte counts as moved when curl has taken it. */
export class Upload implements Workload {
  readonly port: number = WEB_PORT;
  readonly progress: Progress = new Progress();
  readonly commandLine: string;
  readonly #options: WorkloadOptions;
  readonly #argv: string[];
  #sha256: string | undefined;
  #client: HostProcess | undefined;

  /** Prepares nothing yet. */
  constructor(options: WorkloadOptions) {
    this.#options = options;
    const server = formatEndpoint(SERVICE_ADDRESSES[options.family], WEB_PORT);
    this.#argv = [
      ...["curl", "--silent", "--show-error", "--fail", "--upload-file", "-"],
      // No pause for a "100 Continue" before the first byte.
      ...["--header", "Expect:", `http://${server}/store/content`],
    ];
    this.commandLine = quote(this.#argv);
  }

  async prepare(): Promise<void> {
    await Deno.mkdir(documentDirectory(this.#options.scratch));
  }

  startServer(role: ServerRole): Promise<HostProcess> {
    const { lab, scratch, server } = this.#options;
    return startWebServer(lab, role, scratch, server);
  }

  async runClient(): Promise<string | undefined> {
    this.#client = HostProcess.start(this.#options.lab, {
      what: "curl",
      role: "client",
      argv: this.#argv,
      stdin: true,
    });
    const feeding = this.#feed(this.#client);
    const { success, code } = await this.#client.status;
    await feeding;
    if (success) return undefined;
    return `curl ended with status ${code}: ${await this.#client.lastWords()}`;
  }

  async #feed(client: HostProcess): Promise<void> {
    const hash = createHash("sha256");
    const writer = client.stdin.getWriter();
    // One for all: see blocksOf() on garbage.
    const buffer = new Uint8Array(BLOCK);
    try {
      for (let left = this.#options.size; left > 0;) {
        const block = randomFillSync(buffer.subarray(0, Math.min(left, BLOCK)));
        await writer.write(block);
        this.progress.add(nowMicros(), block.length);
        hash.update(block);
        left -= block.length;
      }
      await writer.close();
      this.#sha256 = hash.digest("hex");
    } catch (error) {
      // The client has ended; its status and last words tell why.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
  }

  async stopClient(): Promise<void> {
    await this.#client?.stop();
  }

  async verify(survivor: ServerRole): Promise<boolean> {
    const stored = `${storeDirectory(this.#options.scratch, survivor)}/content`;
    return this.#sha256 !== undefined && await hashFile(stored) === this.#sha256;
  }

  waits(trigger: number): number[] {
    return this.progress.waits(trigger);
  }

  details(): Record<string, unknown> {
    return {};
  }
}
