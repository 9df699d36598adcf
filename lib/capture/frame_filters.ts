/**
 * Which frames of a capture are looked at.
 *
 * @module
 */
import { FrameFilter } from "../../ffi/frame_filter.ts";
import { PcapError } from "../../ffi/libpcap.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { isReadableLink, LinkType } from "../packet/link.ts";
import type { CaptureReader } from "./reader.ts";

/** Refuses frames of link types that cannot be read, and those that do not pass the user's filter. */
export class FrameFilters implements Disposable {
  /** How many frames did not pass. */
  refused = 0;
  readonly #text: string;
  readonly #warn: (message: string) => void;
  /** By link type; undefined where frames of it cannot be read. */
  readonly #filters = new Map<number, FrameFilter | "all" | undefined>();
  #lastLink = -1;
  #last: FrameFilter | "all" | undefined;

  /**
   * `text` is a filter in pcap-filter(7)'s language, empty for all; `warn` hears of link types that cannot be read.
   *
   * @throws {Failure} with status USAGE where the filter is none
   */
  constructor(text: string, warn: (message: string) => void) {
    this.#text = text;
    this.#warn = warn;
    // What is wrong for every link type is said before anything is read.
    if (text !== "") this.#of(LinkType.ETHERNET);
  }

  /** Whether the reader's present frame passes. */
  take(reader: CaptureReader): boolean {
    const filter = reader.linkType === this.#lastLink ? this.#last : this.#of(reader.linkType);
    if (filter === "all") return true;
    const passes = filter?.takes(frameOf(reader), reader.length) === true;
    if (!passes) this.refused++;
    return passes;
  }

  /** Releases the filters. */
  [Symbol.dispose](): void {
    for (const filter of this.#filters.values()) {
      if (filter instanceof FrameFilter) filter[Symbol.dispose]();
    }
  }

  #of(linkType: number): FrameFilter | "all" | undefined {
    if (!this.#filters.has(linkType)) this.#filters.set(linkType, this.#make(linkType));
    this.#lastLink = linkType;
    this.#last = this.#filters.get(linkType);
    return this.#last;
  }

  #make(linkType: number): FrameFilter | "all" | undefined {
    if (!isReadableLink(linkType)) {
      this.#warn(`Frames of link type ${linkType} cannot be read, and are left out`);
      return undefined;
    }
    if (this.#text === "") return "all";
    try {
      return new FrameFilter(this.#text, linkType);
    } catch (error) {
      if (!(error instanceof PcapError)) throw error;
      const mend = "see pcap-filter(7)";
      throw new Failure(ExitStatus.USAGE, error.message, { mend, cause: error });
    }
  }
}

function frameOf({ view, offset, captured }: CaptureReader): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer, view.byteOffset + offset, captured);
}
