/**
 * A capture as a stream: what its reader gets, and what it is told of the rest.
 */
import assert from "node:assert/strict";
import { readCapture } from "../../lib/capture/open.ts";
import { StreamOutput } from "../../lib/capture/stream_output.ts";
import { CaptureWriter } from "../../lib/capture/writer.ts";
import { ReaderGone } from "../../lib/ndjson.ts";
import { concat, sourceOf } from "../fixture/capture_file.ts";
import { poll } from "../fixture/wait.ts";

/** A sink that takes nothing while it is held. */
class Pipe {
  readonly parts: Uint8Array[] = [];
  gone = false;
  #free = Promise.resolve();

  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#free = promise;
    return resolve;
  }

  async write(bytes: Uint8Array): Promise<number> {
    if (this.gone) throw new Deno.errors.BrokenPipe();
    const copy = bytes.slice(0, 100_000);
    await this.#free;
    this.parts.push(copy);
    return copy.length;
  }
}

function follow(pipe: Pipe, batch: number): {
  output: StreamOutput;
  writer: CaptureWriter<StreamOutput["counters"]>;
  warnings: string[];
} {
  const warnings: string[] = [];
  const output: StreamOutput = new StreamOutput(pipe, {
    section: { hardware: "x86_64", os: "Linux", application: "t2cp" },
    interface: { name: "eth0", linkType: 1, snaplen: 65_535, filter: "tcp", comment: "service" },
    statistics: () => ({
      received: 7,
      dropped: 2 + output.counters.lost,
      interfaceDropped: 1,
      delivered: 5,
    }),
  });
  const writer = new CaptureWriter(output, {
    snaplen: 65_535,
    batch,
    interval: 5,
    warn: (message) => warnings.push(message),
    words: { slow: "slow", caughtUp: (lost) => `caught up, ${lost} lost` },
  });
  return { output, writer, warnings };
}

const memory = new DataView(new ArrayBuffer(70_000));

Deno.test("capture: a stream has its header at once, and frames soon", async () => {
  const pipe = new Pipe();
  const { writer, output } = follow(pipe, 1 << 16);
  await poll("the header", () => Promise.resolve(pipe.parts.length === 2));
  writer.receive(memory, 0, 100, 100, 1, 2);
  await poll("the frame", () => Promise.resolve(pipe.parts.length === 3));
  assert.equal(output.counters.frames, 1);
  await writer.close();
  const bytes = concat(...pipe.parts);
  assert.equal(output.counters.bytes, bytes.length);
  using capture = await readCapture(sourceOf(bytes), "x");
  const { reader } = capture;
  while (await reader.fill()) while (reader.next());
  assert.deepEqual([reader.frames, reader.lost], [1, 3]);
});

Deno.test("capture: a reader that stalls costs frames, which are counted in the stream", async () => {
  const pipe = new Pipe();
  const { writer, output, warnings } = follow(pipe, 1 << 20);
  await poll("the header", () => Promise.resolve(pipe.parts.length === 2));
  const release = pipe.hold();
  const sent = 1000;
  for (let i = 0; i < sent; i++) writer.receive(memory, 0, 60_000, 60_000, 1, 2);
  const { lost } = output.counters;
  assert.ok(lost > 0 && lost < sent, String(lost));
  assert.deepEqual(warnings, ["slow"]);
  release();
  await writer.close();
  assert.deepEqual(warnings, ["slow", `caught up, ${lost} lost`]);
  using capture = await readCapture(sourceOf(concat(...pipe.parts)), "x");
  const { reader } = capture;
  while (await reader.fill()) while (reader.next());
  assert.deepEqual([reader.frames, reader.lost], [sent - lost, lost + 3]);
});

Deno.test("capture: that the reader has gone is told, and costs the frames alone", async () => {
  const pipe = new Pipe();
  pipe.gone = true;
  const { writer, output } = follow(pipe, 1 << 16);
  await poll("the end", () => Promise.resolve(output.signal.aborted));
  assert.ok(output.signal.reason instanceof ReaderGone);
  writer.receive(memory, 0, 100, 100, 1, 2);
  await writer.close();
  assert.deepEqual(output.counters, { frames: 0, bytes: 0, lost: 1 });
});
