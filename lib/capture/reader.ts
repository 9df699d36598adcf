/**
 * Reading of capture files, one frame after the other, with no allocation a frame.
 *
 * @module
 */
import { BadCapture, type CapturePlace } from "./bad_capture.ts";
import { MAX_BLOCK } from "./pcapng.ts";
import type { Window } from "./window.ts";

/**
 * A cursor over the frames of a capture file:
 *
 * ```ts ignore
 * while (reader.fillNow() || await reader.fill()) {
 *   while (reader.next()) {
 *     use(reader.view, reader.offset, reader.captured);
 *   }
 * }
 * ```
 *
 * The fields describe the frame that {@linkcode CaptureReader.next} has moved to; `view` and `offset` are valid until the
 * next call.
 */
export abstract class CaptureReader {
  /** The memory that has the frame. */
  view: DataView<ArrayBuffer>;
  /** Where in `view` the frame begins. */
  offset = 0;
  /** How many bytes of the frame there are. */
  captured = 0;
  /** How many bytes it had on the wire, as the file says. */
  length = 0;
  /** Its time, in whole seconds since the Unix epoch; 0 in blocks that have no time. */
  seconds = 0;
  /** What its time is past `seconds`, in nanoseconds, below 1e9. */
  nanos = 0;
  /** What kind of frame it is, a LINKTYPE_ number. */
  linkType = 0;
  /** Number of its interface in its section, from 0. */
  interfaceId = 0;
  /** How many frames there were so far, this one included. */
  frames = 0;
  /** How many frames the capture itself says were lost when it was made, so far. */
  lost = 0;
  /** How many blocks there were so far; for a pcap, records and the file header. */
  protected block = 0;
  /** How many bytes must be in the window for the next step. */
  protected need = 1;
  /** The part of the file in memory; `at` is where the next block begins. */
  protected readonly window: Window;
  readonly #file: string;

  /** Reads what `window` slides over; `file` is the name for messages. */
  constructor(window: Window, file: string) {
    this.window = window;
    this.view = window.view;
    this.#file = file;
  }

  /**
   * Moves to the next frame. False where more of the file must be in memory first.
   *
   * @throws {BadCapture}
   */
  abstract next(): boolean;

  /**
   * Gets more of the file into memory, for {@linkcode CaptureReader.next}. False at the end of the file.
   *
   * @throws {BadCapture} where the file ends within a block
   */
  async fill(): Promise<boolean> {
    const { window } = this;
    let filled: boolean;
    try {
      filled = await window.fill(this.need);
    } catch (error) {
      throw error instanceof Error && "code" in error && isDamage(error.code)
        ? new BadCapture(this.place, `cannot be decompressed: ${error.message}`, error)
        : error;
    }
    this.view = window.view;
    if (filled) return true;
    const left = window.end - window.at;
    if (left === 0) return false;
    const known = this.need > 12 ? ` of its ${this.need}` : "";
    throw this.bad(`ends after ${left}${known} bytes, with the file`);
  }

  /**
   * Gets more of the file into memory where that takes no waiting, and says whether it did. Where not,
   * {@linkcode CaptureReader.fill} does, or tells of the end.
   */
  fillNow(): boolean {
    const filled = this.window.fillNow(this.need);
    this.view = this.window.view;
    return filled;
  }

  /** Where the next block begins. */
  get place(): CapturePlace {
    return { file: this.#file, block: this.block + 1, offset: this.window.offset };
  }

  /** What is wrong with the next block. */
  protected bad(what: string): BadCapture {
    return new BadCapture(this.place, what);
  }

  /** A length that would take too much memory. */
  protected tooLarge(claimed: number): BadCapture {
    return this.bad(`claims ${claimed} bytes, more than ${MAX_BLOCK}`);
  }
}

/** Whether an error's code says that compressed data is broken (zlib's, Zstandard's). */
function isDamage(code: unknown): boolean {
  return typeof code === "string" && /^(Z_|ZSTD_|ERR_)/.test(code);
}
