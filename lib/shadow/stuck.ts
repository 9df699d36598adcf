/**
 * Replicas that have stopped following their primary.
 *
 * @module
 */
import type { Emitter } from "../event.ts";
import type { FlowEvent } from "../flow/event.ts";

/** A replica that takes in nothing for this long while it is behind does not follow any more, in milliseconds. */
const PATIENCE = 3000;
/** Flows watched at once; the oldest goes first. A flow that is dropped is watched anew from its next lag on. */
const MAX_WATCHED = 4096;

interface Watched {
  /** The replica's RCV.NXT at its last lag. */
  at: number;
  /** Since when it has stood there, in milliseconds. */
  since: number;
  /** Whether that was reported. */
  reported: boolean;
}

/** Reports a flow as unprotected once its replica has stood still, behind its primary, for long. */
export class StuckWatch {
  readonly #emitter: Emitter;
  readonly #reported: () => void;
  readonly #watched = new Map<string, Watched>();

  /** Reports to `emitter`, and tells `reported` of each report. */
  constructor(emitter: Emitter, reported: () => void) {
    this.#emitter = emitter;
    this.#reported = reported;
  }

  /** Looks at a flow's event; `now` is in milliseconds of a monotonic clock. */
  look(event: FlowEvent, now: number = performance.now()): void {
    const { client, server, from, to } = event;
    const name = `${client} ${server}`;
    if (event.type !== "lag") {
      this.#watched.delete(name);
      return;
    }
    const known = this.#watched.get(name);
    if (known === undefined || known.at !== from) {
      this.#watched.delete(name);
      this.#watched.set(name, { at: from, since: now, reported: known?.reported ?? false });
      const oldest = this.#watched.keys().next().value;
      if (this.#watched.size > MAX_WATCHED && oldest !== undefined) this.#watched.delete(oldest);
      return;
    }
    if (known.reported || now - known.since < PATIENCE) return;
    known.reported = true;
    this.#reported();
    const bytes = (to - from) >>> 0;
    this.#emitter.emit("flow.unprotected", {
      client,
      server,
      reason: `the replica has stopped following; it lacks ${bytes} bytes of the client`,
    });
  }
}
