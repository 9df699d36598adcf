/**
 * Events on the input of a detector: suspicions to look into, and what other detectors say.
 *
 * @module
 */
import type { Emitter } from "../event.ts";
import type { NdjsonWriter } from "../ndjson.ts";
import { passThrough } from "../pipeline.ts";
import type { Detector } from "./detector.ts";
import type { Quorum } from "./votes.ts";

/** The input of a detector. */
export interface DetectInput {
  /** Events, one a line. */
  readonly stream: ReadableStream<Uint8Array>;
  /** Takes the lines that pass through. */
  readonly writer: NdjsonWriter;
  /** Told about lines that are no events. */
  readonly warn: (message: string) => void;
  /** The type of the events that let all probes of their target ask at once. */
  readonly on?: string;
  /** So many detectors must agree on a failure. */
  readonly require?: number;
}

/** Passes the input on until it ends or `stop`, and lets probes and quorum know. */
export async function readInput(
  { stream, writer, warn, on }: DetectInput,
  detector: Detector,
  quorum: Quorum | undefined,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  await passThrough(stream, writer, {
    replace: (event) => quorum?.rewrite(event),
    onEvent: (event) => {
      if (event.type === on) {
        detector.hurry(typeof event.target === "string" ? event.target : undefined);
      }
      quorum?.count(event);
    },
    warn,
    signal: stop,
  });
  if (stop.aborted) return;
  const lost = quorum?.end() ?? 0;
  if (lost > 0) {
    const message = `The input has ended, and ${lost} detectors that held a target failed with it`;
    emitter.emit("warning", { message });
  }
}
