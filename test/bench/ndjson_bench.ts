/**
 * What events cost: reading, checking and passing lines, and writing them.
 *
 * @module
 */
import { Emitter } from "../../lib/event.ts";
import { NdjsonWriter, readLines } from "../../lib/ndjson.ts";
import { passThrough } from "../../lib/pipeline.ts";

const LINES = 10_000;
const line = JSON.stringify({
  v: 1,
  type: "flow.open",
  time: "2026-01-31T12:00:00.000250Z",
  by: "shadow",
  host: "backup",
  client: "10.77.1.2:40000",
  server: "10.77.0.100:80",
});
const input = new TextEncoder().encode(`${line}\n`.repeat(LINES));
const nowhere = { write: (bytes: Uint8Array): Promise<number> => Promise.resolve(bytes.length) };

/** The input in chunks as large as a pipe's. */
function stream(): ReadableStream<Uint8Array> {
  const chunks = Array.from(
    { length: Math.ceil(input.length / 65536) },
    (_, i) => input.subarray(i * 65536, (i + 1) * 65536),
  );
  return ReadableStream.from(chunks);
}

Deno.bench({ name: `read ${LINES} lines` }, async () => {
  let seen = 0;
  for await (const item of readLines(stream())) seen = item.number;
  if (seen !== LINES) throw new Error(`${seen} lines`);
});

Deno.bench({ name: `pass ${LINES} events` }, async () => {
  let seen = 0;
  const writer = new NdjsonWriter(nowhere);
  await passThrough(stream(), writer, {
    onEvent: () => void seen++,
    warn: (message) => {
      throw new Error(message);
    },
  });
  await writer.close();
  if (seen !== LINES) throw new Error(`${seen} events`);
});

Deno.bench({ name: `emit ${LINES} events` }, async () => {
  const writer = new NdjsonWriter(nowhere);
  const emitter = new Emitter("shadow", writer, "backup");
  for (let i = 0; i < LINES; i++) {
    emitter.emit("flow.open", { client: "10.77.1.2:40000", server: "10.77.0.100:80" });
    if (i % 1000 === 0) await writer.flush();
  }
  await emitter.close();
});
