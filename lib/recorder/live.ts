/**
 * The capture of a service's traffic on an interface, and what may go wrong with it.
 *
 * @module
 */
import { Capture } from "../../ffi/capture.ts";
import { PcapError } from "../../ffi/libpcap.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import type { Service } from "../address.ts";
import type { Emitter } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { largestOffload } from "../host/links.ts";
import { LinkType } from "../packet/link.ts";
import { serviceFilters } from "./filter.ts";

/** How long the kernel gathers frames, in milliseconds. */
const DELAY = 1;
/** Milliseconds between two warnings of one kind. */
const WARNING_PAUSE = 1000;
/** The most that is taken of a frame, as libpcap does. */
const MAX_SNAPLEN = 262_144;
/** Ethernet's header with two tags. */
const LINK_HEADER = 22;

/** What to capture. */
export interface LiveOptions {
  /** The interface. */
  interface: string;
  /** Whose traffic; TCP only. */
  services: readonly Service[];
  /** A filter that frames have to pass too, in pcap-filter(7)'s language; empty for none. */
  filter: string;
  /** Frames for this MAC address are left out. */
  except: string | undefined;
  /** Bytes kept of a service's frames; all of the clients' are. */
  serverSnaplen: number;
  /** Bytes of the kernel's ring. */
  buffer: number;
}

/**
 * Begins to capture.
 *
 * @throws {Failure} where the interface or the filter is of no use
 * @throws {PcapError} without permission
 */
export function openServiceCapture(options: LiveOptions): Capture {
  const filters = (link: number) => {
    // Other links have a header that only libpcap's own captures show.
    if (link !== LinkType.ETHERNET && link !== LinkType.RAW_DLT) {
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `Interface "${options.interface}" has link type ${link}, which cannot be read`,
        { mend: "name one with Ethernet or IP" },
      );
    }
    return serviceFilters({ ...options, snaplen: MAX_SNAPLEN }, link);
  };
  const { interface: name, buffer } = options;
  try {
    const largest = Math.min(largestOffload() + LINK_HEADER, MAX_SNAPLEN);
    return new Capture(name, { filters, bufferSize: buffer, largest, delay: DELAY });
  } catch (error) {
    if (!(error instanceof PcapError) || !error.message.includes("filter")) throw error;
    throw new Failure(ExitStatus.USAGE, error.message, {
      mend: "see pcap-filter(7)",
      cause: error,
    });
  }
}

/**
 * Says that interface `name` went down.
 *
 * @throws {Failure} where it has gone: nothing will come any more
 */
export function reportDown(name: string, emitter: Emitter): void {
  if (interfaceIndex(name) === 0) {
    throw new Failure(ExitStatus.UNAVAILABLE, `Interface "${name}" has gone`, {
      mend: "start t2cp record again when it is back",
    });
  }
  emitter.emit("warning", { message: `Interface "${name}" went down; nothing is captured` });
}

/** Says at once when the kernel drops frames, and at most once a second from then on. */
export class LossWatch {
  readonly #emitter: Emitter;
  readonly #interface: string;
  #seen = 0;
  #quietUntil = -Infinity;

  /** Emits warnings about interface `interfaceName`. */
  constructor(emitter: Emitter, interfaceName: string) {
    this.#emitter = emitter;
    this.#interface = interfaceName;
  }

  /** `dropped` frames were lost so far; `now` is in milliseconds. */
  look(dropped: number, now: number): void {
    const count = dropped - this.#seen;
    if (count <= 0 || now < this.#quietUntil) return;
    this.#seen = dropped;
    this.#quietUntil = now + WARNING_PAUSE;
    this.#emitter.emit("warning", {
      message: `The capture on interface "${this.#interface}" lost ${count} frames`,
      counter: "kernel_dropped",
      count,
    });
  }
}
