/**
 * Connections: one short HTTP connection after the other, at a steady pace, each for another
 * document from nginx than those around it; every byte is compared. Those begun while nobody answers
 * are up to the client's retransmission of its SYN.
 *
 * @module
 */

import { FlowClient, programLine } from "./flow_client.ts";
import { spread } from "./flows.ts";
import type { Progress } from "./measure.ts";
import { CONNECTION_RATE } from "./pace.ts";
import { type HostProcess, quote } from "./processes.ts";
import { FLOW_MESSAGES, messages } from "./program/message.ts";
import type { WebTask } from "./program/protocol.ts";
import { documentDirectory, type ServerRole, startWebServer, WEB_PORT } from "./servers.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** How many documents there are at most; so many connections have each one of its own. */
const DOCUMENTS = 100;

/** See the module. */
export class Connections implements Workload {
  readonly port: number = WEB_PORT;
  readonly commandLine: string;
  readonly #options: WorkloadOptions;
  readonly #task: WebTask;
  readonly #client: FlowClient = new FlowClient();

  /** Each document is an equal share of `options.size`. */
  constructor(options: WorkloadOptions) {
    const { family, flows, size } = options;
    this.#options = options;
    this.#task = {
      address: SERVICE_ADDRESSES[family],
      port: WEB_PORT,
      rate: CONNECTION_RATE,
      connections: flows,
      documents: Math.min(flows, DOCUMENTS),
      size: Math.floor(size / flows),
    };
    this.commandLine = quote(programLine("web_client", this.#task));
  }

  get progress(): Progress {
    return this.#client.flows.progress;
  }

  async prepare(): Promise<void> {
    const { lab, scratch } = this.#options;
    const directory = documentDirectory(scratch);
    await Deno.mkdir(directory);
    const { documents, size } = this.#task;
    for (let number = 0; number < documents; number++) {
      // Once the lab is being taken down, no file may come up in what is being removed.
      await new Promise((resolve) => setTimeout(resolve));
      lab.requireStanding();
      Deno.writeFileSync(`${directory}/${number}`, messages(number * FLOW_MESSAGES, size));
    }
  }

  startServer(role: ServerRole): Promise<HostProcess> {
    const { lab, scratch, server } = this.#options;
    return startWebServer(lab, role, scratch, server);
  }

  runClient(): Promise<string | undefined> {
    return this.#client.run(this.#options.lab, "web_client", this.#task);
  }

  stopClient(): Promise<void> {
    return this.#client.stop();
  }

  verify(_survivor: ServerRole): Promise<boolean> {
    const { flows } = this.#client;
    const { connections, size } = this.#task;
    return Promise.resolve(
      flows.failures === 0 && flows.ended === connections &&
        this.progress.bytes === connections * size,
    );
  }

  /** The first of all: when the others get something is decided by the client's timers. */
  waits(trigger: number): number[] {
    return this.progress.waits(trigger);
  }

  details(): Record<string, unknown> {
    const { flows } = this.#client;
    return {
      connections: flows.ended,
      failures: flows.failures,
      duration_ms: spread(flows.durations()),
    };
  }
}
