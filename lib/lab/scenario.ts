/**
 * What a lab scenario is made of.
 *
 * @module
 */

import type { Family } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import type { Progress } from "./measure.ts";
import type { Point } from "./quantity.ts";

/** The workloads by name. */
export const WORKLOADS = ["download", "upload", "echo", "chat", "connections"] as const;

/** The name of a workload. */
export type WorkloadName = typeof WORKLOADS[number];

/** The failures by name. */
export const FAILURES = ["host", "process", "hang", "planned", "none"] as const;

/** The name of a failure. */
export type FailureName = typeof FAILURES[number];

/** The servers by name. */
export const SERVERS = ["nginx", "socat", "python", "threaded", "deno"] as const;

/** The name of a server. */
export type ServerName = typeof SERVERS[number];

/** Which servers a workload can have; the first unless told otherwise. */
const WORKLOAD_SERVERS: Readonly<Record<WorkloadName, readonly [ServerName, ...ServerName[]]>> = {
  download: ["nginx", "python", "threaded"],
  upload: ["nginx", "python", "threaded"],
  echo: ["socat", "python", "threaded"],
  chat: ["deno"],
  connections: ["nginx", "python", "threaded"],
};

/**
 * The server of a workload, `wish` unless undefined.
 *
 * @throws {Failure} with status USAGE where the workload cannot have it
 */
export function serverOf(workload: WorkloadName, wish: ServerName | undefined): ServerName {
  const servers = WORKLOAD_SERVERS[workload];
  if (wish === undefined) return servers[0];
  if (servers.includes(wish)) return wish;
  throw new Failure(ExitStatus.USAGE, `Server "${wish}" cannot serve workload "${workload}"`, {
    mend: `choose ${servers.join(" or ")}`,
  });
}

/** What is to be run. */
export interface Scenario {
  /** What the client does. */
  workload: WorkloadName;
  /** What serves it. */
  server: ServerName;
  /** What fails. */
  failure: FailureName;
  /** The IP version. */
  family: Family;
  /** How many flows the client has. */
  flows: number;
  /** Bytes to transfer, of all flows together. */
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
  /** Whether the client is told only what both servers have acknowledged. */
  commit: boolean;
  /** Freeze the flows until the takeover; false unless given. */
  freeze?: boolean;
  /** Silence the primary before a takeover; false unless given. */
  fence?: boolean;
  /** Record at the gateway and heal the replicas. */
  heal: boolean;
  /** The share of the copies that get lost on their way to the backup, 0 to 1. */
  tapLoss: number;
  /** For how long before the failure every copy gets lost, in milliseconds. */
  blackout: number;
}

/** The measurements of one run; durations in milliseconds, null where there is none. */
export interface Measures {
  /** Whether all was as it should be. */
  ok: boolean;
  /** What the client did. */
  workload: WorkloadName;
  /** What served it. */
  server: ServerName;
  /** What failed. */
  failure: FailureName;
  /** The IP version. */
  family: Family;
  /** How many flows the client had. */
  flows: number;
  /** Whether exactly what was sent arrived. */
  sha256_equal: boolean;
  /** The client's longest silence, around the failure where there was one. */
  stall_ms: number | null;
  /** The longest silence that overlaps the time from the failure until just after the takeover. */
  pause_ms: number | null;
  /** From the failure to the `failed` event. */
  detect_ms: number | null;
  /** From the takeover's trigger to the first new byte at the client, of the slowest flow. */
  takeover_ms: number | null;
  /** The same of all flows, where there are several at once. */
  takeover_flows_ms?: TakeoverSpread;
  /** What the takeover took by its own account. */
  took_ms: number | null;
  /** Bytes that the client moved. */
  bytes: number;
  /** Bytes a second over the whole transfer. */
  throughput: number | null;
  /** Bytes a second before the failure. */
  throughput_before: number | null;
  /** Bytes a second after the first new byte. */
  throughput_after: number | null;
  /** FIN and RST segments that the client got too early; absent where nobody looked. */
  early_ends?: number;
  /** What was healed; absent where nobody healed. */
  healing?: HealingMeasures;
  /** Why the run is not ok. */
  problem?: string;
  /** Further fields of the workload. */
  [field: string]: unknown;
}

/** What was lost on the tap and healed. */
export interface HealingMeasures {
  /** Copies that were dropped. */
  dropped: number;
  /** Gaps that the shadow reported. */
  gaps: number;
  /** Gaps that were healed, reported or not. */
  healed: number;
  /** Their bytes. */
  healed_bytes: number;
  /** Bytes that were lost for good. */
  lost_bytes: number;
  /** The median of the times from gap to acknowledgement, in milliseconds; null where there was none. */
  took_ms: number | null;
  /** The longest of them. */
  took_ms_max: number | null;
}

/** When the flows had their first new byte, in milliseconds since the takeover's trigger. */
export interface TakeoverSpread {
  /** How many flows had one. */
  flows: number;
  /** The first. */
  first: number | null;
  /** The median. */
  p50: number | null;
  /** The 99th percentile. */
  p99: number | null;
  /** The last. */
  last: number | null;
}

/** The client's progress, and the moments of a run in microseconds since the epoch. */
export interface Trace {
  /** What the client moved, and when. */
  progress: Progress;
  /** Just before the failure. */
  cut?: number;
  /** When the detector said so. */
  failed?: number;
  /** When the takeover began. */
  trigger?: number;
  /** When every connection had been woken. */
  active?: number;
  /** When the service's address had been announced. */
  address?: number;
  /** The client's first new byte since the trigger. */
  firstByte?: number;
}

/** What one run gives. */
export interface RunOutcome {
  /** Its measurements. */
  measures: Measures;
  /** What they were computed from. */
  trace: Trace;
}
