/**
 * Decompression of an input as it is read.
 *
 * @module
 */
import { createGunzip, createZstdDecompress } from "node:zlib";
import type { Compression } from "./compression.ts";
import type { ByteSource } from "./window.ts";

/** How much compressed data is read at once, in bytes. */
const CHUNK = 1 << 16;

/** A source of the decompressed bytes of `source`, which stays the caller's. Holds a few hundred KiB. */
export class Decompressor implements ByteSource, Disposable {
  readonly #source: ByteSource;
  readonly #stream: ReturnType<typeof createGunzip>;
  #piece: Uint8Array | null = null;
  #error: Error | undefined;
  #ended = false;
  #wake = Promise.withResolvers<void>();

  /** Decompresses what `source` gives. */
  constructor(source: ByteSource, compression: Compression) {
    this.#source = source;
    // With a mark of one byte, no piece is decompressed before the last one was taken: what came before an error
    // is not lost, and a piece that expands a thousandfold does not fill the memory.
    const options = { chunkSize: CHUNK, readableHighWaterMark: 1, writableHighWaterMark: 1 };
    this.#stream = compression === "gzip"
      ? createGunzip(options)
      : createZstdDecompress(options) as ReturnType<typeof createGunzip>;
    const wake = (): void => {
      this.#wake.resolve();
      this.#wake = Promise.withResolvers<void>();
    };
    this.#stream.on("readable", wake);
    this.#stream.on("end", () => {
      this.#ended = true;
      wake();
    });
    this.#stream.on("error", (error) => {
      this.#error = error;
      wake();
    });
    this.#feed().catch((error) => {
      this.#error = error;
      wake();
    });
  }

  /** Reads decompressed bytes; throws the stream's own error once all that came before it was read. */
  async read(into: Uint8Array): Promise<number | null> {
    while (this.#piece === null) {
      this.#piece = this.#stream.read();
      if (this.#piece !== null) break;
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return null;
      await this.#wake.promise;
    }
    const part = this.#piece.subarray(0, into.length);
    into.set(part);
    this.#piece = part.length < this.#piece.length ? this.#piece.subarray(part.length) : null;
    return part.length;
  }

  /** Ends the decompression. */
  [Symbol.dispose](): void {
    this.#stream.destroy();
  }

  async #feed(): Promise<void> {
    while (!this.#stream.destroyed) {
      const chunk = new Uint8Array(CHUNK);
      const count = await this.#source.read(chunk);
      if (count === null) break;
      await new Promise<void>((resolve) =>
        this.#stream.write(chunk.subarray(0, count), () => resolve())
      );
    }
    this.#stream.end();
  }
}
