/**
 * The bytes that the fence's program and user space share, as `ffi/bpf/fence_layout.h` pins them.
 *
 * @module
 */

/** `struct fence_control`: offsets and size. */
export const FENCE_CONTROL = { since_ns: 0, primary_mac: 8, size: 16 } as const;

/** Names of `enum fence_counter`, in its order. */
export const fenceCounters: readonly string[] = [
  "dropped_tcp",
  "dropped_arp",
  "dropped_nd",
  "dropped_icmp",
  "dropped_other",
  "passed",
];
