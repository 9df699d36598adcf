/**
 * A client of the recorder's control socket, for tests.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";

/** One line of an answer. */
export type Answer = Record<string, unknown>;

/** Sends lines, one write each, and returns the lines of the answers up to the end of the last. */
export async function askRecorder(
  runDir: string,
  ...requests: (string | object)[]
): Promise<Answer[]> {
  using client = await Deno.connect({ transport: "unix", path: join(runDir, "record.sock") });
  const answers: Answer[] = [];
  const reading = (async () => {
    const decoder = new TextDecoder();
    const bytes = new Uint8Array(1 << 16);
    let [rest, ends] = ["", 0];
    while (ends < requests.length) {
      const length = await client.read(bytes);
      assert.ok(
        length !== null,
        `The socket ended after ${JSON.stringify(answers.at(-1))} ${rest}`,
      );
      const lines = (rest + decoder.decode(bytes.subarray(0, length), { stream: true })).split(
        "\n",
      );
      rest = lines.pop()!;
      answers.push(...lines.map((line) => JSON.parse(line) as Answer));
      ends = answers.filter((answer) => "ok" in answer).length;
    }
  })();
  for (const request of requests) {
    const text = typeof request === "string" ? request : JSON.stringify(request);
    let bytes = new TextEncoder().encode(`${text}\n`);
    while (bytes.length > 0) bytes = bytes.subarray(await client.write(bytes));
  }
  await reading;
  return answers;
}

/** A range of a flow as the recorder has it: its bytes, and what is missing of them. */
export interface Range {
  bytes: Uint8Array;
  missing: { from: number; to: number; reason: string }[];
}

/** Fetches a range, which must be answered without an error. */
export async function fetchRange(
  runDir: string,
  flow: { client: string; server: string },
  from: number,
  to: number,
): Promise<Range> {
  const request = { request: "fetch", client: flow.client, server: flow.server, from, to };
  const answers = await askRecorder(runDir, request);
  assert.deepEqual(answers.pop(), { ok: true });
  const bytes = new Uint8Array(to - from >>> 0);
  const missing: Range["missing"] = [];
  let next = from;
  for (const answer of answers) {
    const { segment, missing: gap } = answer as {
      segment?: { seq: number; data: string };
      missing?: Range["missing"][number];
    };
    assert.equal(segment?.seq ?? gap?.from, next, "in order and without overlaps");
    if (segment !== undefined) {
      const data = Uint8Array.fromBase64(segment.data);
      assert.ok(data.length > 0 && data.length <= 48 << 10);
      bytes.set(data, segment.seq - from >>> 0);
      next = segment.seq + data.length >>> 0;
    } else {
      missing.push(gap!);
      next = gap!.to;
    }
  }
  assert.equal(next, to, "the whole range");
  return { bytes, missing };
}
