/**
 * Mending of the capture file that a killed process has left.
 *
 * @module
 */
import { BadCapture } from "./bad_capture.ts";
import { readCapture } from "./open.ts";
import { BLOCK_OVERHEAD, MAX_BLOCK } from "./pcapng.ts";

/**
 * Cuts a file of ours behind its last whole block, if a kill in the middle of a write has left half a block there.
 * `stop` ends the search. Nobody else may write to the file.
 *
 * @returns how many bytes were cut off
 */
export async function mendFile(path: string, stop: AbortSignal): Promise<number> {
  using file = await Deno.open(path, { read: true, write: true });
  const { size } = await file.stat();
  if (await endsWhole(file, size)) return 0;
  await file.seek(0, Deno.SeekMode.Start);
  const whole = await wholeLength(file, path, stop);
  if (whole === undefined) return 0;
  const left = size - whole;
  const claimed = left < 8 ? Infinity : await wordAt(file, whole + 4);
  // A block that is there to its end is broken in another way, and not ours to remove.
  if (claimed <= left || left > MAX_BLOCK) return 0;
  await file.truncate(whole);
  return left;
}

/** Whether the last four bytes are the length of a block that has it at its start, too. */
async function endsWhole(file: Deno.FsFile, size: number): Promise<boolean> {
  if (size < BLOCK_OVERHEAD) return false;
  const length = await wordAt(file, size - 4);
  if (length < BLOCK_OVERHEAD || length > size) return false;
  return await wordAt(file, size - length + 4) === length;
}

async function wordAt(file: Deno.FsFile, at: number): Promise<number> {
  const bytes = new Uint8Array(4);
  await file.seek(at, Deno.SeekMode.Start);
  await file.read(bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** Where the last whole block ends; undefined where all are whole, or none is. */
async function wholeLength(
  file: Deno.FsFile,
  path: string,
  stop: AbortSignal,
): Promise<number | undefined> {
  try {
    using capture = await readCapture(file, path);
    const { reader } = capture;
    while (!stop.aborted && await reader.fill()) {
      while (reader.next());
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof BadCapture)) throw error;
    return error.place.block === 1 ? undefined : error.place.offset;
  }
}
