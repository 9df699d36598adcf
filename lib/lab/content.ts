/**
 * Random content to transfer, and its check.
 *
 * @module
 */

import { createHash, randomFillSync } from "node:crypto";
import { ExitStatus, Failure } from "../failure.ts";

/** A file of random bytes. */
export interface Content {
  /** Where it is. */
  path: string;
  /** Its size in bytes. */
  size: number;
  /** Its SHA-256 in hexadecimal. */
  sha256: string;
}

const BLOCK = 1 << 20;

/**
 * Writes `size` random bytes to `path`.
 *
 * @throws {Failure} where they cannot be written
 */
export async function makeContent(path: string, size: number): Promise<Content> {
  try {
    return await writeContent(path, size);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Failure(ExitStatus.OS, `Cannot write ${size} bytes to "${path}": ${text}`, {
      mend: "choose a smaller --size, or set TMPDIR to a directory with more room",
      cause: error,
    });
  }
}

async function writeContent(path: string, size: number): Promise<Content> {
  const hash = createHash("sha256");
  using file = await Deno.open(path, { write: true, createNew: true });
  const block = new Uint8Array(BLOCK);
  for (let left = size; left > 0;) {
    const part = block.subarray(0, Math.min(left, BLOCK));
    randomFillSync(part);
    hash.update(part);
    for (let at = 0; at < part.length;) at += await file.write(part.subarray(at));
    left -= part.length;
  }
  return { path, size, sha256: hash.digest("hex") };
}

/** The SHA-256 of a file in hexadecimal; undefined where there is no such file. */
export async function hashFile(path: string): Promise<string | undefined> {
  const hash = createHash("sha256");
  try {
    using file = await Deno.open(path);
    const block = new Uint8Array(BLOCK);
    for (let got = await file.read(block); got !== null; got = await file.read(block)) {
      hash.update(block.subarray(0, got));
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  return hash.digest("hex");
}
