/**
 * The recorder's capture files.
 *
 * @module
 */
import type { Capture } from "../../ffi/capture.ts";
import { formatService, type Service } from "../address.ts";
import type { InterfaceInfo, SectionInfo } from "../capture/blocks.ts";
import type { SeriesOptions } from "../capture/file_series.ts";
import { CaptureWriter } from "../capture/writer.ts";
import type { Emitter } from "../event.ts";
import { LinkType } from "../packet/link.ts";

/** What the user says of the files. */
export interface FileOptions extends
  Pick<
    SeriesOptions,
    "directory" | "rotateSize" | "rotateTime" | "keep" | "rotateExec"
  > {
  /** Bytes kept of each frame. */
  snaplen: number;
  /** The program that the files name, with its version. */
  application: string;
}

/** What was captured, for the files to say. */
export interface Origin {
  /** The interface. */
  interface: string;
  /** Whose traffic is captured. */
  services: readonly Service[];
  /** A filter that frames passed besides; empty for none. */
  filter: string;
}

/**
 * Begins to write files of what `capture` gives.
 *
 * @throws {Failure} where that cannot be
 */
export async function openCaptureFiles(
  options: FileOptions,
  origin: Origin,
  capture: Capture,
  emitter: Emitter,
): Promise<CaptureWriter> {
  const writer = await CaptureWriter.open({
    ...options,
    ...originInfo(origin, capture.link, options.snaplen, options.application),
    statistics: () => ({ ...capture.stats(), delivered: writer.received }),
    warn: (message) => emitter.emit("warning", { message }),
  });
  return writer;
}

/** What a capture says of its origin; `link` is the interface's link type. */
export function originInfo(
  origin: Origin,
  link: number,
  snaplen: number,
  application: string,
): { section: SectionInfo; interface: InterfaceInfo } {
  const services = origin.services.map(formatService).join(", ");
  return {
    section: { hardware: Deno.build.arch, os: `Linux ${Deno.osRelease()}`, application },
    interface: {
      name: origin.interface,
      linkType: link === LinkType.RAW_DLT ? LinkType.RAW : link,
      snaplen,
      filter: filterText(origin),
      comment: origin.services.length === 1 ? `Service ${services}` : `Services ${services}`,
    },
  };
}

/** The counters of `stats`. */
export function fileCounters({ counters }: CaptureWriter): Record<string, number> {
  const { files, frames, bytes, lost } = counters;
  return { files, written_frames: frames, written_bytes: bytes, unwritten_frames: lost };
}

/** The capture's filter as a person would write it. */
function filterText({ services, filter }: Origin): string {
  const each = services.map(({ address, port }) => `(host ${address} and tcp port ${port})`);
  const any = each.join(" or ");
  return filter === "" ? any : `(${any}) and (${filter})`;
}
