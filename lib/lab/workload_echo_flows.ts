/**
 * Echo on many flows at once, all of one client; every byte that comes back is compared.
 *
 * @module
 */

import { FlowClient, programLine } from "./flow_client.ts";
import { spread } from "./flows.ts";
import type { Progress } from "./measure.ts";
import { messageCount, messageRate } from "./pace.ts";
import { type HostProcess, quote } from "./processes.ts";
import { MESSAGE_SIZE } from "./program/message.ts";
import type { ConversationTask } from "./program/protocol.ts";
import { ECHO_PORT, type ServerRole, startEchoServer } from "./servers.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** See the module. */
export class EchoFlows implements Workload {
  readonly port: number = ECHO_PORT;
  readonly commandLine: string;
  readonly #options: WorkloadOptions;
  readonly #task: ConversationTask;
  readonly #client: FlowClient = new FlowClient();

  /** Each flow sends its share of `options.size`. */
  constructor(options: WorkloadOptions) {
    const { family, flows, size } = options;
    this.#options = options;
    this.#task = {
      address: SERVICE_ADDRESSES[family],
      port: ECHO_PORT,
      flows,
      rate: messageRate(flows),
      messages: messageCount(size, flows),
    };
    this.commandLine = quote(programLine("echo_client", this.#task));
  }

  get progress(): Progress {
    return this.#client.flows.progress;
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  startServer(role: ServerRole): Promise<HostProcess> {
    const { lab, family, server } = this.#options;
    return startEchoServer(lab, role, family, server);
  }

  runClient(): Promise<string | undefined> {
    return this.#client.run(this.#options.lab, "echo_client", this.#task);
  }

  stopClient(): Promise<void> {
    return this.#client.stop();
  }

  verify(_survivor: ServerRole): Promise<boolean> {
    const { flows, messages } = this.#task;
    return Promise.resolve(
      this.#client.flows.failures === 0 && this.progress.bytes === flows * messages * MESSAGE_SIZE,
    );
  }

  waits(trigger: number): number[] {
    return this.#client.flows.waits(trigger);
  }

  details(): Record<string, unknown> {
    return {
      messages: Math.floor(this.progress.bytes / MESSAGE_SIZE),
      latency_ms: spread(this.#client.flows.latencies()),
    };
  }
}
