/**
 * What is wrong with a capture file, and where.
 *
 * @module
 */
import { ExitStatus, Failure } from "../failure.ts";

/** A place in a capture file. */
export interface CapturePlace {
  /** The file's name, as the user gave it. */
  file: string;
  /** Number of the block (pcapng) or record (pcap), from 1; the file header of a pcap counts as 1. */
  block: number;
  /** Where the block begins, in bytes from the start of the file, before any compression. */
  offset: number;
}

/** A capture file that cannot be read on. What comes before the place is sound. */
export class BadCapture extends Failure {
  /** Where it is broken. */
  readonly place: CapturePlace;

  /** `what` completes the sentence "Block 3 at byte 120 of FILE …". */
  constructor(place: CapturePlace, what: string, cause?: unknown) {
    super(
      ExitStatus.BAD_INPUT,
      `Block ${place.block} at byte ${place.offset} of "${place.file}" ${what}`,
      { cause },
    );
    this.name = "BadCapture";
    this.place = place;
  }
}
