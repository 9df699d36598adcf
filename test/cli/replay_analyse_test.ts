/**
 * `t2cp replay --analyse`, as a user runs it.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type Event, isEvent, parseEvent } from "../../lib/event.ts";
import {
  type Bytes,
  concat,
  enhancedPacket,
  interfaceBlock,
  option,
  pcapHeader,
  pcapRecord,
  section,
} from "../fixture/capture_file.ts";
import { handshake, packetOf, type Spec } from "../fixture/conversation.ts";
import { Bit, Ether, ethernet } from "../fixture/segment.ts";
import { checkout, type Outcome, run, shell } from "./t2cp.ts";

const { ACK, FIN, RST } = Bit;

/** 2024-07-03T01:46:40Z. */
const SECOND = 1_719_971_200;

const specs: Spec[] = [
  ...handshake,
  { from: "client", seq: 1, ack: 1, text: "hello" },
  { from: "client", seq: 1, ack: 1, text: "hello" },
  { from: "server", seq: 1, ack: 6, text: "you", window: 0 },
  { from: "client", flags: FIN | ACK, seq: 6, ack: 4 },
  { from: "server", flags: RST | ACK, seq: 4, ack: 7 },
];
const frames: Bytes[] = specs.map((spec) => ethernet(Ether.IPV4, packetOf(spec)));
const pcap = concat(
  pcapHeader(true),
  ...frames.map((frame, i) => pcapRecord(true, SECOND, i * 1000, frame)),
);

/** Runs the analysis of a file with this content. */
async function analyse(content: Uint8Array, ...flags: string[]): Promise<Outcome> {
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-analyse-" });
  try {
    Deno.writeFileSync(join(directory, "capture"), content);
    const main = join(checkout, "cli", "main.ts");
    const args = ["run", "-A", "--quiet", main, "replay", "capture", "--analyse", ...flags];
    return await run(Deno.execPath(), args, { cwd: directory });
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function eventsOf({ stdout }: Outcome): Event[] {
  return stdout.trimEnd().split("\n").map((line) => {
    const event = parseEvent(line);
    assert.ok(typeof event !== "string", `${event}: ${line}`);
    return event;
  });
}

Deno.test("replay --analyse: a conversation and the totals, in the time of the capture", async () => {
  const outcome = await analyse(pcap);
  assert.equal(outcome.stderr, "");
  assert.equal(outcome.status, 0);
  const [flow, result, ...more] = eventsOf(outcome);
  assert.deepEqual(more, []);
  assert.ok(flow !== undefined && isEvent(flow, "analyse.flow"));
  const { v: _, host: __, client_sent, server_sent, ...rest } = flow;
  assert.deepEqual(rest, {
    type: "analyse.flow",
    by: "replay",
    time: "2024-07-03T01:46:40.007000Z",
    flow: 0,
    client: "10.0.0.1:40000",
    server: "10.0.0.2:80",
    roles_by: "syn",
    began: "2024-07-03T01:46:40.000000Z",
    lasted_ms: 7,
    handshake: "whole",
    handshake_ms: 2,
    ended: "reset",
    reset_by: "server",
    client_isn: 0xffff_ff00,
    server_isn: 1000,
    client_options: [],
    server_options: [],
  });
  const nonzero = (counts: Record<string, number>): object =>
    Object.fromEntries(Object.entries(counts).filter(([, value]) => value > 0));
  assert.deepEqual(nonzero(client_sent), {
    segments: 5,
    bytes: 5,
    retransmissions: 1,
    repeated_bytes: 5,
  });
  assert.deepEqual(nonzero(server_sent), { segments: 3, bytes: 3, zero_windows: 1, resets: 1 });
  assert.ok(result !== undefined && isEvent(result, "analyse.result"));
  assert.equal(result.complete, true);
  assert.equal(result.flows, 1);
  assert.equal(result.frames, 8);
  assert.equal(result.bytes, 8);
});

Deno.test("replay --analyse: the same from every kind of file, and from standard input", async () => {
  const expected = (await analyse(pcap, "--notes")).stdout.split("\n").slice(0, -2).join("\n");
  const nanoseconds = option(false, 9, Uint8Array.of(9));
  const files: Record<string, Uint8Array> = {
    "gzip": gzipSync(pcap),
    "zstd": zstdCompressSync(pcap),
    "big-endian, nanoseconds": concat(
      pcapHeader(false, 0xa1b23c4d),
      ...frames.map((frame, i) => pcapRecord(false, SECOND, i * 1e6, frame)),
    ),
    "pcapng, big-endian, nanoseconds": concat(
      section(false),
      interfaceBlock(false, 1, nanoseconds),
      ...frames.map((frame, i) =>
        enhancedPacket(false, 0, BigInt(SECOND) * 1_000_000_000n + BigInt(i * 1e6), frame)
      ),
    ),
  };
  await Promise.all(
    Object.entries(files).map(async ([kind, file]) => {
      const { stdout, status } = await analyse(file, "--notes");
      assert.equal(status, 0, kind);
      assert.equal(stdout.split("\n").slice(0, -2).join("\n"), expected, kind);
    }),
  );
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-analyse-" });
  try {
    const path = join(directory, "capture");
    Deno.writeFileSync(path, pcap);
    const { stdout } = await shell(`t2cp replay - --analyse --notes <"$FILE"`, { FILE: path });
    assert.equal(stdout.split("\n").slice(0, -2).join("\n"), expected);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("replay --analyse: a broken file gives what is before, then status 65 and the place", async () => {
  const { stdout, stderr, status } = await analyse(pcap.subarray(0, pcap.length - 3));
  assert.equal(status, 65);
  assert.match(
    stderr,
    /^t2cp replay: Block 9 at byte \d+ of "capture" ends after \d+ of its \d+ bytes/,
  );
  const [flow, result] = eventsOf({ stdout, stderr, status });
  assert.ok(flow !== undefined && isEvent(flow, "analyse.flow"));
  assert.equal(flow.ended, "capture");
  assert.ok(result !== undefined && isEvent(result, "analyse.result"));
  assert.equal(result.complete, false);
  assert.equal(result.frames, 7);
});

Deno.test("replay --analyse: a filter, and a table on a terminal", async () => {
  const [result] = eventsOf(await analyse(pcap, "--filter", "udp"));
  assert.ok(result !== undefined && isEvent(result, "analyse.result"));
  assert.equal(result.flows, 0);
  assert.equal(result.totals.filtered, 8);
  const wrong = await analyse(pcap, "--filter", "no filter");
  assert.equal(wrong.status, 64);
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-analyse-" });
  try {
    const path = join(directory, "capture");
    Deno.writeFileSync(path, pcap);
    const { stdout } = await shell(`script -qec "t2cp replay '$FILE' --analyse" /dev/null`, {
      FILE: path,
    });
    assert.match(stdout, /FLOW +CLIENT +SERVER +HANDSHAKE +ENDED/);
    assert.match(
      stdout,
      /0 +10.0.0.1:40000 +10.0.0.2:80 +whole 2.0 ms +reset by server +0.007 +5 +3/,
    );
    assert.match(stdout, /1 flows, 8 frames, 8 bytes, 0 bytes missing/);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
