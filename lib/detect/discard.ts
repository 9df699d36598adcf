/**
 * Why received packets are discarded, and what that means for a person.
 *
 * @module
 */
import type { FormatReason } from "../bfd/packet.ts";
import type { SessionReason } from "../bfd/session.ts";

/** Why a received packet is discarded; every reason is counted. */
export type DiscardReason =
  | FormatReason
  | SessionReason
  /** TTL or hop limit below the least one: RFC 5881 section 5. */
  | "ttl"
  /** Your Discriminator names no session, or one of another peer. */
  | "unknown-discriminator"
  /** The sender is no peer of ours. */
  | "unknown-peer"
  /** Sent to a multicast address. */
  | "multicast"
  /** There are as many sessions as there may be. */
  | "too-many-sessions"
  /** More peers ask for a session within a second than may. */
  | "too-many-newcomers";

/** What each reason means, behind "Discarded a packet from …: ". */
export const MEANINGS: Readonly<Record<DiscardReason, string>> = {
  "truncated": "it is shorter than a BFD Control packet",
  "bad-version": "its version is not 1",
  "bad-length": "its Length is too small",
  "length-beyond-payload": "its Length exceeds what arrived",
  "zero-detect-mult": "its Detect Mult is 0",
  "multipoint": "its Multipoint bit is set",
  "zero-my-discriminator": "its My Discriminator is 0",
  "zero-your-discriminator": "its Your Discriminator is 0 while its session is up",
  "bad-authentication-length": "its authentication section has a wrong length",
  "wrong-discriminator": "its Your Discriminator is that of another session",
  "unexpected-authentication": "it is authenticated and this side uses no authentication",
  "missing-authentication": "it is not authenticated",
  "wrong-authentication-type": "its Auth Type is not this side's",
  "wrong-authentication-key-id": "its Auth Key ID is not this side's",
  "authentication-sequence": "its sequence number is used up or too far ahead, as in a replay",
  "authentication-mismatch": "it was made with another key",
  "admin-down": "this side's session is administratively down",
  "ttl": "it passed more routers than it may",
  "unknown-discriminator": "its Your Discriminator names no session, such as one of an earlier run",
  "unknown-peer": "its sender is no peer of ours",
  "multicast": "it was sent to a multicast address",
  "too-many-sessions": "there are as many sessions as there may be",
  "too-many-newcomers": "too many peers ask for a session at once",
};
