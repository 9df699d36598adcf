/**
 * Echo: numbered messages at a steady pace through socat to an echo server; every byte that comes
 * back is compared, and each message's round trip measured.
 *
 * @module
 */

import { nowMicros } from "../clock.ts";
import { maximum, Progress, quantile, toMillis } from "./measure.ts";
import { HostProcess, quote } from "./processes.ts";
import { ECHO_PORT, type ServerRole, startEchoServer } from "./servers.ts";
import { SERVICE_ADDRESS } from "./topology.ts";
import type { Workload, WorkloadOptions } from "./workload.ts";

/** Bytes of one message. */
export const MESSAGE_SIZE = 64;

/** Messages a second. */
export const MESSAGE_RATE = 200;

const CLIENT = ["socat", "-t", "10", "-", `TCP4:${SERVICE_ADDRESS}:${ECHO_PORT},nodelay`];

/** Message number `index`: its number and a filler that depends on it, one line. */
export function message(index: number): Uint8Array<ArrayBuffer> {
  const filler = String.fromCharCode(97 + index % 26).repeat(MESSAGE_SIZE);
  return new TextEncoder().encode(`${index} ${filler}`.slice(0, MESSAGE_SIZE - 1) + "\n");
}

/** See the module. */
export class Echo implements Workload {
  readonly port: number = ECHO_PORT;
  readonly progress: Progress = new Progress();
  readonly commandLine: string = quote(CLIENT);
  readonly #options: WorkloadOptions;
  readonly #count: number;
  readonly #sent: number[] = [];
  readonly #latencies: number[] = [];
  #equal = true;
  #stopped = false;
  #client: HostProcess | undefined;

  /** Sends as many whole messages as `options.size` holds, at least one. */
  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#count = Math.max(1, Math.floor(options.size / MESSAGE_SIZE));
  }

  async startServers(roles: readonly ServerRole[]): Promise<void> {
    for (const role of roles) await startEchoServer(this.#options.lab, role);
  }

  async runClient(): Promise<string | undefined> {
    this.#client = HostProcess.start(this.#options.lab, {
      what: "socat",
      role: "client",
      argv: CLIENT,
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
        const due = start + index * 1000 / MESSAGE_RATE;
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
    for await (const chunk of client.stdout) {
      const time = nowMicros();
      const before = this.progress.bytes;
      this.progress.add(time, chunk.length);
      chunk.forEach((byte, index) => {
        const position = before + index;
        const expected = message(Math.floor(position / MESSAGE_SIZE))[position % MESSAGE_SIZE];
        if (byte !== expected) this.#equal = false;
      });
      const complete = Math.floor(this.progress.bytes / MESSAGE_SIZE);
      while (this.#latencies.length < Math.min(complete, this.#sent.length)) {
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
      this.#equal && this.progress.bytes === this.#count * MESSAGE_SIZE,
    );
  }

  details(): Record<string, unknown> {
    const of = (value: number | null) => toMillis(value ?? undefined);
    return {
      messages: this.#latencies.length,
      latency_ms: {
        p50: of(quantile(this.#latencies, 0.5)),
        p99: of(quantile(this.#latencies, 0.99)),
        max: of(maximum(this.#latencies)),
      },
    };
  }
}
