/**
 * Which end of a conversation is the server, where no SYN says it.
 *
 * @module
 */
import type { RolesBy } from "./conversation.ts";

/** An end that is known to be a server's. */
export interface KnownServer {
  /** Its address; undefined for any. */
  readonly address?: string;
  /** Its port. */
  readonly port: number;
}

/** An end of a conversation. */
export interface End {
  /** Its address. */
  readonly address: string;
  /** Its port. */
  readonly port: number;
}

/** Ports below this are assigned to services, and no client gets one by itself (RFC 6335). */
const FIRST_USER_PORT = 1024;

/** Decides for the first segment of a conversation, from `source` to `destination`. */
export function decideRoles(
  source: End,
  destination: End,
  servers: readonly KnownServer[],
): { sourceIsClient: boolean; by: RolesBy } {
  const isKnown = (end: End): boolean =>
    servers.some(({ address, port }) =>
      port === end.port && (address === undefined || address === end.address)
    );
  const fromKnown = isKnown(source);
  const toKnown = isKnown(destination);
  if (fromKnown !== toKnown) return { sourceIsClient: toKnown, by: "service" };
  const low = Math.min(source.port, destination.port);
  if (low < FIRST_USER_PORT && source.port !== destination.port) {
    return { sourceIsClient: destination.port === low, by: "port" };
  }
  return { sourceIsClient: true, by: "first" };
}
