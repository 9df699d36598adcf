/**
 * Takes frames out of a live capture as they come.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { type Capture, type FrameReceiver, PcapError } from "../../ffi/libpcap.ts";
import { Poller } from "../../ffi/poller.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** Longest wait for frames, in microseconds; a stop waits no longer. */
const WAIT = 250_000;
/** Rest after frames came, in milliseconds, so that a flood costs few wake-ups; a request does not wait for it. */
const REST = 5;
/** Frames that are taken before the sockets get their turn. */
const BATCH = 2048;

/** See the module. */
export class Intake {
  readonly #capture: Capture;
  readonly #receive: FrameReceiver;
  readonly #warn: (message: string) => void;

  /** `warn` hears that the interface went down. */
  constructor(capture: Capture, receive: FrameReceiver, warn: (message: string) => void) {
    this.#capture = capture;
    this.#receive = receive;
    this.#warn = warn;
  }

  /**
   * Takes what the kernel has ready, about `limit` frames at most.
   *
   * @throws {Failure} with status UNAVAILABLE where the interface has gone
   */
  drain(limit: number): void {
    for (let left = limit; left > 0; left -= BATCH) {
      if (this.#batch() < BATCH) return;
    }
  }

  /**
   * Takes all frames until `stop` is aborted; calls `each` after each batch, and four times a second at least.
   *
   * @throws {Failure} with status UNAVAILABLE where the interface has gone
   */
  async pump(each: () => void, stop: AbortSignal): Promise<void> {
    const poller = new Poller([this.#capture.fd]);
    const wake = (): void => poller.wake();
    stop.addEventListener("abort", wake);
    try {
      while (!stop.aborted) {
        await poller.wait(WAIT);
        while (true) {
          const frames = this.#batch();
          each();
          if (frames < BATCH || stop.aborted) break;
          await new Promise((resolve) => setImmediate(resolve));
        }
        await new Promise((resolve) => setTimeout(resolve, REST));
      }
    } finally {
      stop.removeEventListener("abort", wake);
      await poller.close();
    }
  }

  #batch(): number {
    try {
      return this.#capture.drain(this.#receive, BATCH);
    } catch (error) {
      if (!(error instanceof PcapError)) throw error;
      // libpcap says so once each time; the capture goes on when the interface is up again.
      if (/went down/.test(error.message)) {
        this.#warn(error.message);
        return 0;
      }
      if (!/disappeared/.test(error.message)) throw error;
      throw new Failure(ExitStatus.UNAVAILABLE, error.message, {
        mend: "start it again when the interface is back",
        cause: error,
      });
    }
  }
}
