/**
 * Reading what a client has got, by the process that measures it.
 *
 * @module
 */

/** The most that is read at once. */
const BLOCK = 64 * 1024;

/**
 * What comes on `stream`, each piece valid until the next one is asked for. All are read into the same buffer: with one
 * for each, the collector of garbage would take a processor for 20 ms again and again, and the client would seem to
 * pause.
 */
export async function* blocksOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const reader = stream.getReader({ mode: "byob" });
  try {
    let buffer = new Uint8Array(BLOCK);
    while (true) {
      const { value, done } = await reader.read(buffer);
      if (done) return;
      yield value;
      // The buffer has moved there.
      buffer = new Uint8Array(value.buffer);
    }
  } finally {
    reader.releaseLock();
  }
}
