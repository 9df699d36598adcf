/**
 * The bytes that the mirror's program and user space share, as `ffi/bpf/mirror_layout.h` pins them; beside those of
 * every program in `lib/flow/layout.ts`.
 *
 * @module
 */

/** The mark of resets of the primary that were held back, on their way again. */
export const MARK_RESET = 0x74326373;

/** Flag of `struct mirror_control`: copy the primary's segments whole. */
export const MIRROR_PAYLOAD = 2;

/** Flag of `struct mirror_control`: tell the client only what both servers have acknowledged. */
export const MIRROR_COMMIT = 4;

/** Flag of `struct mirror_control`: look for clients that the primary does not answer. */
export const MIRROR_ANSWERS = 8;

/** `struct mirror_control`: offsets and size. */
export const MIRROR_CONTROL = {
  primary_mac: 0,
  backup_mac: 6,
  own_mac: 12,
  flags: 20,
  commit_timeout: 24,
  hold_resets: 28,
  size: 32,
} as const;

/** Values of `enum reset_state`. */
export const ResetState = { HELD: 0, PASSED: 1, DROPPED: 2 } as const;

/** `struct reset`: offsets and size. */
export const RESET = { since_ns: 0, seq: 8, ack: 12, flags: 16, state: 17, size: 24 } as const;

/** `struct signals`: offsets and size. */
export const SIGNALS = { resets_noted: 0, resets: 8, size: 520 } as const;

/** `struct waiting`: offsets and size. */
export const WAITING = { since_ns: 0, hash: 8, key: 12, size: 64 } as const;

/** Elements of the map `waiting`. */
export const MAX_WAITING = 256;

/** `struct commit`: offsets and size. */
export const COMMIT = {
  iss: 0,
  primary_ack: 4,
  primary_right: 8,
  primary_end: 12,
  primary_tsval: 16,
  replica_ack: 20,
  replica_right: 24,
  told_ack: 28,
  told_right: 32,
  replica_tsecr: 36,
  waiting_ns: 40,
  client_end: 48,
  lifted: 52,
  wscale: 60,
  options: 61,
  client_fin: 62,
  primary_fin: 63,
  size: 64,
} as const;

/** `struct hearing`: offsets and size. */
export const HEARING = { heard_ns: 0, silent: 8, size: 16 } as const;

/** Names of `enum mirror_counter`, in its order. */
export const mirrorCounters: readonly string[] = [
  "to_primary",
  "to_primary_bytes",
  "from_primary",
  "from_primary_bytes",
  "failed",
  "events_lost",
  "commit_frames",
  "commit_ignored",
  "limited",
  "withheld",
  "committed",
  "flows_unprotected",
  "resets",
  "resets_held",
  "resets_passed",
  "resets_dropped",
  "resets_not_held",
];
