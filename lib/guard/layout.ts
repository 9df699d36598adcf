/**
 * The bytes that the guard's programs and user space share, as `ffi/bpf/guard_layout.h` pins them.
 *
 * @module
 */
import { textOf } from "../../ffi/c_string.ts";

/** The mark of the resets that user space sends when it lets a flow go. */
export const MARK_RELEASE = 0x74326375;

/** `struct guard_control`: offsets and size. */
export const GUARD_CONTROL = { netns_cookie: 0, release_ns: 8, own_mac: 16, size: 24 } as const;

/** `struct guarded`: offsets and size. */
export const GUARDED = { crashed_ns: 0, moved_ns: 8, crashed_tgid: 16, size: 24 } as const;

/** `struct held`: offsets and size. */
export const HELD = {
  since_ns: 0,
  tgid: 8,
  snd_una: 12,
  snd_nxt: 16,
  rcv_nxt: 20,
  hidden: 24,
  size: 32,
} as const;

/** `struct crash`: offsets and size. */
export const CRASH = { start_ns: 0, since_ns: 8, exit_code: 16, flows: 20, size: 24 } as const;

/** `struct guard_event`: offsets and size. */
export const GUARD_EVENT = {
  type: 0,
  tgid: 4,
  ns: 8,
  exit_code: 16,
  name: 20,
  size: 40,
} as const;

/** The types of `enum guard_event_type`, by number. */
export const guardEventTypes = [undefined, "crash", "exit", "listen"] as const;

/** Names of `enum guard_counter`, in its order. */
export const guardCounters: readonly string[] = [
  "guarded",
  "guarded_older",
  "older_refused",
  "crashes",
  "held",
  "orderly",
  "hidden_fin",
  "hidden_rst",
  "hidden_data",
  "hidden_other",
  "hidden_unknown",
  "expired",
  "replaced",
  "claims",
  "table_full",
  "events_lost",
];

/** A record of the ring buffer. */
export interface GuardEvent {
  /** What it says, one of {@linkcode guardEventTypes}. */
  type: "crash" | "exit" | "listen";
  /** The process. */
  pid: number;
  /** CLOCK_MONOTONIC in nanoseconds. */
  ns: number;
  /** How it ended, as wait(2) gives it. */
  exitCode: number;
  /** The process's name, 15 bytes at most. */
  name: string;
}

/** Reads a `struct guard_event`; undefined where its type is not known. */
export function readGuardEvent(view: DataView): GuardEvent | undefined {
  if (view.byteLength < GUARD_EVENT.size) return undefined;
  const type = guardEventTypes[view.getUint32(GUARD_EVENT.type, true)];
  if (type === undefined) return undefined;
  const name = new Uint8Array(view.buffer, view.byteOffset + GUARD_EVENT.name, 16);
  return {
    type,
    pid: view.getUint32(GUARD_EVENT.tgid, true),
    ns: Number(view.getBigUint64(GUARD_EVENT.ns, true)),
    exitCode: view.getUint32(GUARD_EVENT.exit_code, true),
    name: textOf(name),
  };
}
