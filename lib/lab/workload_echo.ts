/**
 * Echo: numbered messages at a steady pace through socat to an echo server; every byte that comes
 * back is compared, and each message's round trip measured.
 *
 * @module
 */

import { formatEndpoint } from "../address.ts";
import { nowMicros } from "../clock.ts";
import { blocksOf } from "./blocks.ts";
import { spread } from "./flows.ts";
import { Progress } from "./measure.ts";
import { messageCount, messageRate } from "./pace.ts";
import { HostProcess, quote } from "./processes.ts";
import { message, MESSAGE_SIZE, MessageCheck } from "./program/message.ts";
import { ECHO_PORT, type ServerRole, startEchoServer } from "./servers.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** See the module. */
export class Echo implements Workload {
  readonly port: number = ECHO_PORT;
  readonly progress: Progress = new Progress();
  readonly commandLine: string;
  readonly #options: WorkloadOptions;
  readonly #argv: string[];
  readonly #count: number;
  readonly #sent: number[] = [];
  readonly #latencies: number[] = [];
  readonly #check: MessageCheck = new MessageCheck(0);
  #stopped = false;
  #client: HostProcess | undefined;

  /** Sends as many whole messages as `options.size` holds. */
  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#count = messageCount(options.size, 1);
    const { family } = options;
    const server = formatEndpoint(SERVICE_ADDRESSES[family], ECHO_PORT);
    this.#argv = ["socat", "-t", "10", "-", `TCP${family}:${server},nodelay`];
    this.commandLine = quote(this.#argv);
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  startServer(role: ServerRole): Promise<HostProcess> {
    const { lab, family, server } = this.#options;
    return startEchoServer(lab, role, family, server);
  }

  async runClient(): Promise<string | undefined> {
    this.#client = HostProcess.start(this.#options.lab, {
      what: "socat",
      role: "client",
      argv: this.#argv,
      stdin: true,
      stdout: true,
    });
    const sending = this.#send(this.#client);
    await this.#receive(this.#client);
    await sending;
    const { success, code } = await this.#client.status;
    if (success) return undefined;
    return `socat ended with status ${code}: ${await this.#client.lastWords()}`;
  }

  async #send(client: HostProcess): Promise<void> {
    const writer = client.stdin.getWriter();
    const start = performance.now();
    try {
      for (let index = 0; index < this.#count && !this.#stopped; index++) {
        const due = start + index * 1000 / messageRate(1);
        const wait = due - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        this.#sent.push(nowMicros());
        await writer.write(message(index));
      }
      await writer.close();
    } catch (error) {
      // The client has ended; its status and last words tell why.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
  }

  async #receive(client: HostProcess): Promise<void> {
    for await (const chunk of blocksOf(client.stdout)) {
      const time = nowMicros();
      this.progress.add(time, chunk.length);
      this.#check.take(chunk);
      while (this.#latencies.length < Math.min(this.#check.complete, this.#sent.length)) {
        this.#latencies.push(time - this.#sent[this.#latencies.length]!);
      }
    }
    this.#stopped = true;
  }

  async stopClient(): Promise<void> {
    await this.#client?.stop();
  }

  verify(_survivor: ServerRole): Promise<boolean> {
    return Promise.resolve(
      this.#check.equal && this.progress.bytes === this.#count * MESSAGE_SIZE,
    );
  }

  waits(trigger: number): number[] {
    return this.progress.waits(trigger);
  }

  details(): Record<string, unknown> {
    return { messages: this.#latencies.length, latency_ms: spread(this.#latencies) };
  }
}
