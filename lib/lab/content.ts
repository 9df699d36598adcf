/**
 * Random content to transfer, and its check.
 *
 * @module
 */

import { createHash, randomFillSync } from "node:crypto";

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

/** Writes `size` random bytes to `path`. */
export async function makeContent(path: string, size: number): Promise<Content> {
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
