/**
 * Opening of capture files: of either format, compressed or not, or standard input.
 *
 * @module
 */
import { BadCapture } from "./bad_capture.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { compressionOf } from "./compression.ts";
import { isPcap, PcapReader } from "./pcap_reader.ts";
import { isPcapng, PcapngReader } from "./pcapng_reader.ts";
import type { CaptureReader } from "./reader.ts";
import { type ByteSource, Window } from "./window.ts";

/** The name that stands for standard input. */
export const STDIN = "-";

/** Bytes that tell what a file is. */
const MAGIC = 4;

/** A capture file that is being read. */
export interface OpenCapture extends Disposable {
  /** Its frames. */
  readonly reader: CaptureReader;
}

/**
 * Opens the capture file at `path`, or standard input where that is `-`.
 *
 * @throws {Failure} with NO_INPUT or NO_PERMISSION where the file cannot be read
 * @throws {BadCapture} where it is no capture file
 */
export async function openCapture(path: string): Promise<OpenCapture> {
  const file = path === STDIN ? undefined : await openFile(path);
  try {
    const read = await readCapture(file === undefined ? Deno.stdin : sourceOf(file), path);
    return {
      reader: read.reader,
      [Symbol.dispose]: () => {
        read[Symbol.dispose]();
        file?.close();
      },
    };
  } catch (error) {
    file?.close();
    throw error;
  }
}

/**
 * Begins to read a capture from `source`, which stays the caller's; `name` is its name for messages.
 *
 * @throws {BadCapture} where it is none
 */
export async function readCapture(source: ByteSource, name: string): Promise<OpenCapture> {
  const first = new Window(source);
  await first.fill(MAGIC);
  const compression = compressionOf(first.bytes.subarray(0, first.end));
  if (compression === undefined) return { reader: readerOf(first, name), [Symbol.dispose]() {} };
  // node:zlib takes a tenth of the start of a command, and most captures do not need it.
  const { Decompressor } = await import("./decompress.ts");
  const decompressor = new Decompressor(rest(first, source), compression);
  try {
    const window = new Window(decompressor);
    // What is broken shows again, with its place, when the reader asks for the same bytes.
    await window.fill(MAGIC).catch(() => {});
    return {
      reader: readerOf(window, name),
      [Symbol.dispose]: () => decompressor[Symbol.dispose](),
    };
  } catch (error) {
    decompressor[Symbol.dispose]();
    throw error;
  }
}

function readerOf(window: Window, name: string): CaptureReader {
  if (window.end >= MAGIC) {
    if (isPcapng(window.view)) return new PcapngReader(window, name);
    if (isPcap(window.view)) return new PcapReader(window, name);
  }
  const what = window.end === 0
    ? "is missing, for there are no bytes"
    : "begins neither a pcap nor a pcapng";
  throw new BadCapture({ file: name, block: 1, offset: 0 }, what);
}

/** What `window` has, then what follows it in `source`. */
function rest(window: Window, source: ByteSource): ByteSource {
  return {
    read(into: Uint8Array): Promise<number | null> {
      if (window.at === window.end) return source.read(into);
      const part = window.bytes.subarray(window.at, Math.min(window.end, window.at + into.length));
      into.set(part);
      window.at += part.length;
      return Promise.resolve(part.length);
    },
  };
}

/** A regular file always has its bytes; reading them here takes less than to have another thread do it. */
function sourceOf(file: Deno.FsFile): ByteSource {
  if (!file.statSync().isFile) return file;
  return { read: (into) => file.read(into), readNow: (into) => file.readSync(into) };
}

async function openFile(path: string): Promise<Deno.FsFile> {
  try {
    const file = await Deno.open(path);
    if ((await file.stat()).isDirectory) {
      file.close();
      throw new Failure(ExitStatus.NO_INPUT, `Capture "${path}" is a directory`, {
        mend: "name a pcap or pcapng file",
      });
    }
    return file;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Failure(ExitStatus.NO_INPUT, `Capture "${path}" does not exist`, {
        mend: `name a pcap or pcapng file, or "-" for standard input`,
        cause: error,
      });
    }
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
      throw new Failure(ExitStatus.NO_PERMISSION, `Capture "${path}" may not be read`, {
        mend: "run as its owner, or as root",
        cause: error,
      });
    }
    throw error;
  }
}
