/**
 * Download: curl fetches a file of random bytes from nginx; every byte is hashed as it comes.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { formatEndpoint } from "../address.ts";
import { nowMicros } from "../clock.ts";
import { blocksOf } from "./blocks.ts";
import { type Content, makeContent } from "./content.ts";
import { Progress } from "./measure.ts";
import { HostProcess, quote } from "./processes.ts";
import { documentDirectory, type ServerRole, startWebServer, WEB_PORT } from "./servers.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** See the module. */
export class Download implements Workload {
  readonly port: number = WEB_PORT;
  readonly progress: Progress = new Progress();
  readonly commandLine: string;
  readonly #options: WorkloadOptions;
  readonly #argv: string[];
  #content: Content | undefined;
  #sha256: string | undefined;
  #client: HostProcess | undefined;

  /** Prepares nothing yet. */
  constructor(options: WorkloadOptions) {
    this.#options = options;
    const url = `http://${formatEndpoint(SERVICE_ADDRESSES[options.family], WEB_PORT)}/content`;
    this.#argv = ["curl", "--silent", "--show-error", "--fail", url];
    this.commandLine = quote(this.#argv);
  }

  async prepare(): Promise<void> {
    const { scratch, size } = this.#options;
    const directory = documentDirectory(scratch);
    await Deno.mkdir(directory);
    this.#content = await makeContent(`${directory}/content`, size);
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
      stdout: true,
    });
    const hash = createHash("sha256");
    for await (const chunk of blocksOf(this.#client.stdout)) {
      this.progress.add(nowMicros(), chunk.length);
      hash.update(chunk);
    }
    this.#sha256 = hash.digest("hex");
    const { success, code } = await this.#client.status;
    if (success) return undefined;
    return `curl ended with status ${code}: ${await this.#client.lastWords()}`;
  }

  async stopClient(): Promise<void> {
    await this.#client?.stop();
  }

  verify(_survivor: ServerRole): Promise<boolean> {
    return Promise.resolve(
      this.#content !== undefined && this.progress.bytes === this.#content.size &&
        this.#sha256 === this.#content.sha256,
    );
  }

  waits(trigger: number): number[] {
    return this.progress.waits(trigger);
  }

  details(): Record<string, unknown> {
    return {};
  }
}
