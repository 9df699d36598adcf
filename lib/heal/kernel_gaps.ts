/**
 * The gaps that the shadow's programs tell the healer of, without a way through the shadow's process and a pipe.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { Poller } from "../../ffi/poller.ts";
import { RingBuffer } from "../../ffi/ring_buffer.ts";
import { type FlowEvent, readFlowEvent } from "../flow/event.ts";

/** Longest wait for a gap, in microseconds; an end waits no longer. */
const WAIT = 250_000;

/** Reads the map `gaps` for as long as it is not disposed of. What was in it before is left out: it is old. */
export class KernelGaps implements AsyncDisposable {
  readonly #ring: RingBuffer;
  readonly #poller: Poller;
  readonly #running: Promise<void>;
  #closed = false;
  #failure: unknown;

  /** Gives each gap to `receive` at once. `map` must stay open for as long as this object is used. */
  constructor(map: BpfMap, receive: (gap: FlowEvent) => void) {
    this.#ring = new RingBuffer(map);
    this.#ring.drain(() => {});
    this.#poller = new Poller([this.#ring.fd]);
    this.#running = this.#run(receive).catch((error) => void (this.#failure = error));
  }

  /**
   * Does nothing while gaps are read.
   *
   * @throws what has ended the reading, if anything has: a failure of the ring buffer, or of the receiver
   */
  requireRunning(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Ends the reading. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#poller.close();
    await this.#running;
    this.#ring[Symbol.dispose]();
  }

  async #run(receive: (gap: FlowEvent) => void): Promise<void> {
    while (!this.#closed) {
      await this.#poller.wait(WAIT);
      this.#ring.drain((record) => {
        const event = readFlowEvent(record);
        if (event !== undefined) receive(event);
      });
    }
  }
}
