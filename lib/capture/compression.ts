/**
 * How captures are compressed.
 *
 * @module
 */

/** The ways of compression that are understood. */
export type Compression = "gzip" | "zstd";

/** How the input that begins with `bytes` is compressed, if it is. */
export function compressionOf(bytes: Uint8Array): Compression | undefined {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return "gzip";
  const isZstd = bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd;
  return isZstd ? "zstd" : undefined;
}
