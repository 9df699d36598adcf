import assert from "node:assert/strict";
import { join } from "node:path";
import { formatEndpoint } from "../../lib/address.ts";
import { BadCapture } from "../../lib/capture/bad_capture.ts";
import { type AnalyseReport, runAnalyse } from "../../lib/conversation/analyse.ts";
import type { Conversation, ConversationSink } from "../../lib/conversation/conversation.ts";
import { readConversations } from "../../lib/conversation/read.ts";
import type { AnalyseResultFields } from "../../lib/vocabulary/analyse.ts";
import { concat, readAll } from "../fixture/capture_file.ts";
import { captureFolder, followStreams, hasTshark } from "../fixture/tshark.ts";

/** The index of the real captures: for each, what its columns say. */
const index: Map<string, Record<string, string>> = new Map();
if (captureFolder !== undefined) {
  const [head = "", ...lines] = Deno.readTextFileSync(join(captureFolder, "INDEX.tsv")).trim()
    .split("\n");
  const columns = head.split("\t");
  for (const line of lines) {
    const cells = line.split("\t");
    const row = Object.fromEntries(columns.map((column, i) => [column, cells[i] ?? ""]));
    index.set(row.file!, row);
  }
}

/** What the analysis of a file says, with its error. */
async function analyse(file: string): Promise<{
  flows: Conversation[];
  result: AnalyseResultFields;
  error: unknown;
}> {
  const flows: Conversation[] = [];
  let result: AnalyseResultFields | undefined;
  const report: AnalyseReport = {
    flow: (conversation) => void flows.push(conversation),
    note() {},
    result: (fields) => void (result = fields),
    warn: (message) => assert.fail(`${file}: ${message}`),
    busy: () => undefined,
  };
  const options = { file, filter: "", servers: [], notes: true };
  let error: unknown;
  try {
    await runAnalyse(options, report, new AbortController().signal);
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(result !== undefined, file);
  return { flows, result, error };
}

/** Checks that every frame and every segment is somewhere in the account. */
function checkAccount(flows: Conversation[], result: AnalyseResultFields, frames: number): void {
  const { totals } = result;
  const sum = (name: "segments" | "bytes" | "missing_bytes"): number =>
    flows.reduce((all, { client, server }) => all + client.counts[name] + server.counts[name], 0);
  assert.equal(result.frames, frames);
  assert.equal(result.flows, flows.length);
  assert.equal(totals.segments, sum("segments") + totals.late!);
  assert.equal(result.bytes, sum("bytes"));
  assert.equal(result.missing_bytes, sum("missing_bytes"));
  assert.equal(totals.malformed, 0);
}

Deno.test({
  name: "analysis: real captures (T2CP_PCAPS) get a complete account",
  ignore: index.size === 0,
  async fn() {
    for (const [name, row] of index) {
      const file = join(captureFolder!, name);
      const { flows, result, error } = await analyse(file);
      assert.equal(error, undefined, name);
      assert.equal(result.complete, true, name);
      checkAccount(flows, result, (await readAll(Deno.readFileSync(file))).frames.length);
      assert.equal(result.totals.segments, Number(row.tcp_segments), name);
      assert.equal(flows.length, Number(row.flows), name);
    }
  },
});

Deno.test({
  name: "analysis: real captures (T2CP_PCAPS) that are cut get an account up to block and offset",
  ignore: index.size === 0,
  async fn() {
    const directory = Deno.makeTempDirSync({ prefix: "t2cp-analyse-" });
    try {
      const file = join(directory, "cut");
      for (const name of index.keys()) {
        const whole = Deno.readFileSync(join(captureFolder!, name));
        Deno.writeFileSync(file, whole.subarray(0, whole.length - 1));
        const { flows, result, error } = await analyse(file);
        assert.ok(error instanceof BadCapture, name);
        assert.equal(error.status, 65);
        assert.match(error.message, /^Block \d+ at byte \d+ of ".*" ends after \d+/, name);
        assert.equal(result.complete, false, name);
        const before = await readAll(whole.subarray(0, error.place.offset));
        assert.equal(before.error, undefined, name);
        checkAccount(flows, result, before.frames.length);
      }
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  },
});

/** A stream as the tracker tells it. */
interface Told {
  conversation: Conversation;
  /** The bytes of each end, by endpoint, up to the first that the capture lacks. */
  sent: Map<string, Uint8Array[]>;
  lacking: Set<string>;
}

async function toldOf(file: string): Promise<Told[]> {
  const all: Told[] = [];
  const sink: ConversationSink = {
    open(conversation) {
      all[conversation.number] = { conversation, sent: new Map(), lacking: new Set() };
    },
    data({ number }, { address, port }, memory, at, length) {
      const { sent, lacking } = all[number]!;
      const end = formatEndpoint(address, port);
      if (lacking.has(end)) return;
      sent.set(end, [...sent.get(end) ?? [], memory.slice(at, at + length)]);
    },
    missing({ number }, { address, port }) {
      const { sent, lacking } = all[number]!;
      const end = formatEndpoint(address, port);
      // To tshark, a stream begins with its first captured byte.
      if (sent.has(end)) lacking.add(end);
    },
    finish() {},
    close() {},
  };
  const warn = (message: string): void => assert.fail(message);
  await readConversations({ file, warn }, sink, new AbortController().signal);
  return all;
}

Deno.test({
  name:
    "analysis: real captures (T2CP_PCAPS) with losses, reordering, wrap, IPv6 and VLAN: the bytes that tshark follows",
  ignore: index.size === 0 || !hasTshark,
  async fn() {
    const wanted = ["retx", "gap", "sack", "zero_window", "wrap", "vlan"];
    const names = [...index].filter(([name, row]) =>
      wanted.some((column) => row[column] !== "0") || /ipv6|reorder|urg/.test(name)
    ).map(([name]) => name);
    let whole = 0;
    for (const name of names) {
      const file = join(captureFolder!, name);
      const ours = await toldOf(file);
      const theirs = await followStreams(file, ours.length);
      assert.equal(theirs.length, ours.length, name);
      for (const [i, { sent, lacking, conversation }] of ours.entries()) {
        const { nodes, sent: followed, lacks } = theirs[i]!;
        // Where nothing acknowledges, tshark stops at a hole and does not say so.
        if (lacks) assert.ok(lacking.size > 0, `${name}, stream ${i}`);
        for (const { endpoint } of [conversation.client, conversation.server]) {
          const bytes = concat(...sent.get(endpoint) ?? []);
          const node = nodes.indexOf(endpoint);
          const expected = followed[node] ?? new Uint8Array(0);
          assert.deepEqual(bytes, expected, `${name}, stream ${i}, ${endpoint}`);
        }
        if (lacking.size === 0) whole++;
      }
    }
    assert.ok(whole >= names.length, "most streams are whole");
  },
});
