/**
 * The way in which each kind of probe asks.
 *
 * @module
 */
import type { Attempt } from "./attempt.ts";
import { execAttempt } from "./exec.ts";
import { httpAttempt } from "./http.ts";
import { icmpAttempt } from "./icmp.ts";
import type { ProbeSpec } from "./spec.ts";
import { tcpAttempt } from "./tcp.ts";

/** What a probe does each time. */
export function makeAttempt(spec: ProbeSpec): Attempt {
  switch (spec.kind) {
    case "tcp":
      return tcpAttempt(spec);
    case "http":
      return httpAttempt(spec);
    case "exec":
      return execAttempt(spec);
    case "icmp":
      return icmpAttempt(spec);
  }
}
