/**
 * Watches that a command's programs stay where it put them.
 *
 * @module
 */
import type { Emitter } from "../event.ts";
import { Failure } from "../failure.ts";
import type { Instance } from "./instance.ts";

/** Between two looks, in milliseconds. */
const INTERVAL = 1000;

/** Attaches an instance's programs again where someone has detached them, and says so. */
export class AttachmentGuard {
  readonly #instance: Instance;
  readonly #emitter: Emitter;
  #next = performance.now() + INTERVAL;
  #failed = "";

  /** Looks after `instance`, and reports to `emitter`. */
  constructor(instance: Instance, emitter: Emitter) {
    this.#instance = instance;
    this.#emitter = emitter;
  }

  /** Looks if it is time to; `now` is in milliseconds of a monotonic clock. */
  look(now: number = performance.now()): void {
    if (now < this.#next) return;
    this.#next = now + INTERVAL;
    try {
      const places = this.#instance.repair();
      this.#failed = "";
      if (places.length === 0) return;
      this.#emitter.emit("warning", {
        message: `The programs were missing at ${places.join(", ")}, and are attached again`,
      });
    } catch (error) {
      const message = error instanceof Failure ? error.line : String(error);
      if (message === this.#failed) return;
      this.#failed = message;
      this.#emitter.emit("warning", { message: `The programs are not attached: ${message}` });
    }
  }
}
