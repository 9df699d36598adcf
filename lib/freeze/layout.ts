/**
 * The bytes that the freezing of flows shares with the BPF programs, as `ffi/bpf/freeze_layout.h` pins them.
 *
 * @module
 */

/** The mark of segments that become an advertisement to the client, whatever they say. */
export const MARK_FROZEN = 0x74326374;

/** `struct frozen`: offsets and size. */
export const FROZEN = { own_mac: 0, flags: 6, size: 8 } as const;

/** Bits of the flags of a `struct frozen`. */
export const FrozenFlag = { REVOCABLE: 1, THAWING: 2 } as const;
