/**
 * What the healing of one flow needs from the healer of all.
 *
 * @module
 */
import type { FlowEnds } from "../flow/layout.ts";
import type { Healing } from "./healing.ts";
import type { Injection } from "./injection.ts";
import type { Ledger } from "./ledger.ts";
import type { Range } from "./ranges.ts";
import type { RecorderClient } from "./recorder_client.ts";

/** What a healing gets from its surroundings. */
export interface Surroundings {
  /** Where bytes come from. */
  readonly recorder: Pick<RecorderClient, "fetch" | "hasRoom" | "connected">;
  /** Where they go. */
  readonly injection: Injection;
  /** What is written down. */
  readonly ledger: Ledger;
  /** Whether the end has come, and nothing may be touched any more. */
  readonly stopped: boolean;
  /** Whether the backup has taken over. */
  readonly settling: boolean;
  /** The time in milliseconds of a monotonic clock. */
  now(): number;
  /** Told of each gap that the replica has acknowledged. */
  onHealed(flow: FlowEnds, gap: Range, bytes: number, took: number): void;
  /** Told once that the flow has lost its protection. */
  onUnprotected(flow: FlowEnds, reason: string): void;
  /** Told that the flow waits for room in the connection to the recorder. */
  onWaiting(healing: Healing): void;
  /** Told that there may be room again. */
  onRoom(): void;
}
