/**
 * Which end of a captured segment is a service.
 *
 * @module
 */
import { type Service, to16Bytes } from "../address.ts";

/** The second and third word of an IPv4-mapped address (RFC 4291 section 2.5.5.2). */
const MAPPED = 0x0000ffff;

/** Puts the address at `at` of a frame into `words`, from `to` on: four words, IPv4 in its IPv4-mapped form. */
export function addressWords(
  frame: DataView,
  family: 4 | 6,
  at: number,
  words: Int32Array,
  to: number,
): void {
  if (family === 4) {
    words[to] = 0;
    words[to + 1] = 0;
    words[to + 2] = MAPPED;
    words[to + 3] = frame.getInt32(at);
    return;
  }
  words[to] = frame.getInt32(at);
  words[to + 1] = frame.getInt32(at + 4);
  words[to + 2] = frame.getInt32(at + 8);
  words[to + 3] = frame.getInt32(at + 12);
}

/** A set of addresses with ports. */
export class ServiceSet {
  readonly #ports = new Uint8Array(65536);
  readonly #entries: { words: Int32Array; port: number }[];

  /** The protocol of `services` does not matter. */
  constructor(services: readonly Service[]) {
    this.#entries = services.map(({ address, port }) => {
      const view = new DataView(to16Bytes(address).buffer);
      this.#ports[port] = 1;
      return { words: Int32Array.from({ length: 4 }, (_, i) => view.getInt32(i * 4)), port };
    });
  }

  /** Whether `port` and the address at `at` of a frame are a service. */
  has(frame: DataView, family: 4 | 6, at: number, port: number): boolean {
    if (this.#ports[port] === 0) return false;
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[i]!;
      if (entry.port !== port) continue;
      const { words } = entry;
      if (family === 4) {
        if (words[3] === frame.getInt32(at) && words[2] === MAPPED && words[1] === 0) return true;
      } else if (
        words[3] === frame.getInt32(at + 12) && words[2] === frame.getInt32(at + 8) &&
        words[1] === frame.getInt32(at + 4) && words[0] === frame.getInt32(at)
      ) {
        return true;
      }
    }
    return false;
  }
}
