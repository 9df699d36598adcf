/**
 * Chat: both ends of each flow send numbered messages at their own pace, the server first. The
 * client compares what comes; the server says in the end what it has received.
 *
 * @module
 */

import { FlowClient, programLine } from "./flow_client.ts";
import type { Progress } from "./measure.ts";
import { messageCount, messageRate } from "./pace.ts";
import { type HostProcess, quote } from "./processes.ts";
import { MESSAGE_SIZE } from "./program/message.ts";
import type { ConversationTask } from "./program/protocol.ts";
import { CHAT_PORT, type ServerRole, startChatServer } from "./servers.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** See the module. */
export class Chat implements Workload {
  readonly port: number = CHAT_PORT;
  readonly commandLine: string;
  readonly #options: WorkloadOptions;
  readonly #task: ConversationTask;
  readonly #client: FlowClient = new FlowClient();

  /** Each flow sends its share of `options.size` in each direction. */
  constructor(options: WorkloadOptions) {
    const { family, flows, size } = options;
    this.#options = options;
    this.#task = {
      address: SERVICE_ADDRESSES[family],
      port: CHAT_PORT,
      flows,
      rate: messageRate(flows),
      messages: messageCount(size, flows),
    };
    this.commandLine = quote(programLine("chat_client", this.#task));
  }

  get progress(): Progress {
    return this.#client.flows.progress;
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  startServer(role: ServerRole): Promise<HostProcess> {
    return startChatServer(this.#options.lab, role, this.#task);
  }

  runClient(): Promise<string | undefined> {
    return this.#client.run(this.#options.lab, "chat_client", this.#task);
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
    return { messages: this.#task.messages * this.#task.flows };
  }
}
