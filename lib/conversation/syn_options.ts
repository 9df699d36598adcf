/**
 * Options of SYN segments.
 *
 * @module
 */

/** What a SYN offers. An option that it lacks is undefined or false. */
export interface SynOptions {
  /** Maximum segment size, in bytes (RFC 9293 section 3.2). */
  mss?: number;
  /** Window scale: a power of two (RFC 7323). */
  wscale?: number;
  /** Selective acknowledgements are permitted (RFC 2018). */
  sack: boolean;
  /** There are timestamps (RFC 7323). */
  timestamps: boolean;
  /** There is a Fast Open cookie, or the request for one (RFC 7413). */
  fastOpen: boolean;
  /** The segment belongs to Multipath TCP (RFC 8684). */
  multipath: boolean;
}

const Kind = { END: 0, NOP: 1, MSS: 2, WSCALE: 3, SACK: 4, TIMESTAMPS: 8, MPTCP: 30, TFO: 34 };
/** A scale above this counts as this (RFC 7323 section 2.3). */
const MAX_WSCALE = 14;

/** Reads the options that stand in `view` from `at` to `end`. What is malformed ends the list, as in the kernel. */
export function readSynOptions(view: DataView, at: number, end: number): SynOptions {
  const options: SynOptions = {
    sack: false,
    timestamps: false,
    fastOpen: false,
    multipath: false,
  };
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === Kind.END) break;
    if (kind === Kind.NOP) {
      at += 1;
      continue;
    }
    if (at + 2 > end) break;
    const size = view.getUint8(at + 1);
    if (size < 2 || at + size > end) break;
    if (kind === Kind.MSS && size === 4) options.mss = view.getUint16(at + 2);
    if (kind === Kind.WSCALE && size === 3) {
      options.wscale = Math.min(view.getUint8(at + 2), MAX_WSCALE);
    }
    if (kind === Kind.SACK && size === 2) options.sack = true;
    if (kind === Kind.TIMESTAMPS && size === 10) options.timestamps = true;
    if (kind === Kind.TFO) options.fastOpen = true;
    if (kind === Kind.MPTCP) options.multipath = true;
    at += size;
  }
  return options;
}
