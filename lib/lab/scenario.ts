/**
 * What a lab scenario is made of.
 *
 * @module
 */

import type { Point } from "./quantity.ts";

/** The workloads by name. */
export const WORKLOADS = ["download", "upload", "echo"] as const;

/** The name of a workload. */
export type WorkloadName = typeof WORKLOADS[number];

/** The failures by name. */
export const FAILURES = ["host", "none"] as const;

/** The name of a failure. */
export type FailureName = typeof FAILURES[number];

/** What is to be run. */
export interface Scenario {
  /** What the client does. */
  workload: WorkloadName;
  /** What fails. */
  failure: FailureName;
  /** Bytes to transfer. */
  size: number;
  /** Bytes a second of payload between gateway and client; 0 for no limit. */
  rate: number;
  /** Bits a second of the primary's link; 0 for no limit. */
  link: number;
  /** The heartbeat's interval in milliseconds. */
  interval: number;
  /** How many heartbeats may be missing. */
  multiplier: number;
  /** When the failure comes. */
  after: Point;
  /** Without t2cp, for comparison. */
  plain: boolean;
}
