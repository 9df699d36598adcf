/**
 * What the workloads have in common: a server on each host, one client, and a check of the content.
 *
 * @module
 */

import type { Family } from "../address.ts";
import type { Lab } from "./lab.ts";
import type { Progress } from "./measure.ts";
import type { HostProcess } from "./processes.ts";
import type { ServerName } from "./scenario.ts";
import type { ServerRole } from "./servers.ts";

/** Where and how much a workload transfers. */
export interface WorkloadOptions {
  /** The lab it runs in. */
  lab: Lab;
  /** A directory for large files. */
  scratch: string;
  /** The IP version. */
  family: Family;
  /** The server. */
  server: ServerName;
  /** How many flows there are. */
  flows: number;
  /** Bytes to transfer, of all flows together. */
  size: number;
}

/** One transfer, or conversation, between a client and a server. */
export interface Workload {
  /** The port of the service. */
  readonly port: number;
  /** What the client has moved so far. */
  readonly progress: Progress;
  /** The client's command line, for people. */
  readonly commandLine: string;
  /** Makes the content. */
  prepare(): Promise<void>;
  /** Starts the server on `role`; resolves once it listens. */
  startServer(role: ServerRole): Promise<HostProcess>;
  /**
   * Runs the client to its end.
   *
   * @returns undefined, or what went wrong with the client
   */
  runClient(): Promise<string | undefined>;
  /** Ends a client that is still running. */
  stopClient(): Promise<void>;
  /** Whether what arrived is what was sent; `survivor` is the server that saw the end. */
  verify(survivor: ServerRole): Promise<boolean>;
  /**
   * How long flows waited for their first new byte since the takeover's `trigger`, in microseconds;
   * empty where there was none. The longest of them is how long the takeover took.
   */
  waits(trigger: number): number[];
  /** Further fields of the result. */
  details(): Record<string, unknown>;
}
