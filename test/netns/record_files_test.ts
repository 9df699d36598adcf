/**
 * The recorder's capture files, in the lab: whole at any moment, and no harm where they cannot be written.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { ExitStatus } from "../../lib/failure.ts";
import { readAll, type ReadFrame } from "../fixture/capture_file.ts";
import { frameList, hasTshark } from "../fixture/tshark.ts";
import { poll } from "../fixture/wait.ts";
import { askRecorder } from "./record_socket.ts";
import { assertRefused, assertSameBytes, ECHO, onStage, type Stage } from "./stage.ts";
import type { Process } from "./two_hosts.ts";

const PIECE = 50_000;

interface Recording {
  recorder: Process;
  runDir: string;
  directory: string;
  /** Paths of the capture files, in order. */
  files(): string[];
}

async function record(stage: Stage, ...args: string[]): Promise<Recording> {
  const runDir = stage.lab.roleDirectory("gateway");
  const directory = join(runDir, "files");
  const place = ["--interface", "br0", "--service", ECHO, "--budget", "64M", "--run-dir", runDir];
  const recorder = stage.start("gateway", "record", ...place, "--write", directory, ...args);
  const started = await recorder.next("started");
  assert.equal(started["write"], directory);
  const files = (): string[] =>
    [...Deno.readDirSync(directory)].map(({ name }) => join(directory, name)).toSorted();
  return { recorder, runDir, directory, files };
}

/** Lets the client echo random bytes, piece by piece: client and server write before they read. */
async function echo(stage: Stage, size: number): Promise<Uint8Array> {
  const sent = randomFillSync(new Uint8Array(size));
  const connection = stage.connect(7);
  for (let at = 0; at < size; at += PIECE) {
    const piece = sent.subarray(at, at + PIECE);
    await connection.write(piece);
    await connection.read(piece.length);
  }
  await connection.end();
  return sent;
}

async function framesOf(path: string): Promise<ReadFrame[]> {
  const { frames, error } = await readAll(Deno.readFileSync(path));
  assert.equal(error, undefined);
  return frames;
}

/** The payload to or from port 7, put in its place by sequence numbers. */
function payload(frames: readonly ReadFrame[], side: "source" | "destination"): Uint8Array {
  const segments = frames.flatMap(({ data }) => {
    const view = new DataView(data.buffer);
    if (view.getUint16(12) !== 0x0800 || view.getUint8(23) !== 6) return [];
    const tcp = 14 + (view.getUint8(14) & 15) * 4;
    if (view.getUint16(side === "source" ? tcp : tcp + 2) !== 7) return [];
    const bytes = data.subarray(tcp + (view.getUint8(tcp + 12) >> 4) * 4, 14 + view.getUint16(16));
    return bytes.length === 0 ? [] : [{ seq: view.getUint32(tcp + 4), bytes }];
  });
  const first = segments[0]?.seq ?? 0;
  const placed = segments.map(({ seq, bytes }) => ({ at: seq - first | 0, bytes }));
  const whole = new Uint8Array(Math.max(0, ...placed.map(({ at, bytes }) => at + bytes.length)));
  for (const { at, bytes } of placed) whole.set(bytes, at);
  return whole;
}

onStage("record: a capture file has both directions, whole and with their times", async (stage) => {
  await stage.echoServers();
  const before = Date.now() / 1000;
  const { recorder, files } = await record(stage);
  const sent = await echo(stage, 1_000_000);
  assert.equal((await recorder.end("SIGTERM")).code, 0);

  const [path, ...others] = files();
  assert.deepEqual(others, []);
  assert.equal(Deno.statSync(path!).mode! & 0o777, 0o600);
  const frames = await framesOf(path!);
  assertSameBytes(payload(frames, "destination"), sent);
  assertSameBytes(payload(frames, "source"), sent);
  for (const { seconds } of frames) assert.ok(Math.abs(seconds - before) < 60);
  const stats = recorder.events.at(-1)!;
  assert.equal(stats["files"], 1);
  assert.equal(stats["written_frames"], frames.length);
  assert.equal(stats["written_bytes"], Deno.statSync(path!).size);
  assert.equal(stats["unwritten_frames"], 0);
  if (hasTshark) assert.equal((await frameList(path!)).length, frames.length);
});

onStage(
  "record: files rotate by size, so many are kept, and each is given to the command",
  async (stage) => {
    await stage.echoServers();
    const log = join(stage.scratch, "finished");
    const command = `f() { echo "$1" >>${log}; }; f`;
    const args = ["--rotate-size", "1M", "--keep", "3", "--rotate-exec", command];
    const { recorder, files } = await record(stage, ...args, "--snaplen", "2000");
    for (let i = 0; i < 4; i++) await echo(stage, 1_500_000);
    assert.equal((await recorder.end("SIGTERM")).code, 0);

    const stats = recorder.events.at(-1)!;
    const finished = Deno.readTextFileSync(log).trimEnd().split("\n").toSorted();
    assert.equal(finished.length, stats["files"]);
    assert.deepEqual(finished.slice(-3), files());
    for (const path of files()) {
      assert.ok(Deno.statSync(path).size <= 1 << 20);
      for (const { data } of await framesOf(path)) assert.ok(data.length <= 2000);
    }
  },
);

onStage("record: a file rotates by time", async (stage) => {
  await stage.echoServers();
  const { recorder, files } = await record(stage, "--rotate-time", "0.2");
  await echo(stage, 100);
  await poll("the second file", () => files().length >= 2);
  assert.ok((await framesOf(files()[0]!)).length > 0);
  assert.equal((await recorder.end("SIGINT")).code, 0);
});

onStage("record: what was written is whole after SIGKILL", async (stage) => {
  await stage.echoServers();
  const { recorder, files } = await record(stage);
  const connection = stage.connect(7);
  assert.equal(await connection.echo("hello"), "hello");
  // Frames are in the file a tenth of a second later, though no other follows.
  const frames = await poll("the frames in the file", async () => {
    const frames = await framesOf(files()[0]!);
    return frames.length >= 4 && payload(frames, "source").length === 6 ? frames : undefined;
  });
  await recorder.end("SIGKILL");
  assert.deepEqual((await framesOf(files()[0]!)).slice(0, frames.length), frames);
  if (hasTshark) assert.ok((await frameList(files()[0]!)).length >= frames.length);
});

onStage(
  "record: a full disk is reported once, the recorder goes on, and so do the files later",
  async (stage) => {
    await stage.echoServers();
    const runDir = stage.lab.roleDirectory("gateway");
    const directory = join(runDir, "files");
    Deno.mkdirSync(directory);
    // The lab's end takes it down.
    const mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory];
    assert.ok((await new Deno.Command("mount", { args: mount }).output()).success);
    const { recorder, files } = await record(stage);
    await echo(stage, 2_000_000);
    const warning = await recorder.next("warning");
    assert.match(
      String(warning["message"]),
      /^Cannot write capture files to ".*" at present: .*No space/,
    );
    for (const path of files()) await framesOf(path);
    const [{ stats }] = await askRecorder(runDir, { request: "stats" }) as [
      { stats: Record<string, number> },
    ];
    assert.ok(stats.seen! >= 2_000_000 && stats.unwritten_frames! > 0);

    for (const path of files()) Deno.removeSync(path);
    const seen = recorder.events.length;
    await poll("the files to be written again", async () => {
      await echo(stage, 10);
      return recorder.events.slice(seen).some(({ type }) => type === "warning");
    });
    const again = recorder.events.slice(seen).find(({ type }) => type === "warning")!;
    assert.match(String(again["message"]), /are written to ".*" again; \d+ frames are in none$/);
    assert.equal((await recorder.end("SIGTERM")).code, 0);
    const warnings = recorder.events.filter(({ type }) => type === "warning");
    assert.equal(warnings.length, 2, JSON.stringify(warnings));
  },
);

onStage(
  "record: wrong flags about files, and a directory that cannot be written to",
  async (stage) => {
    const place = ["--interface", "br0", "--service", ECHO, "--run-dir", stage.runDir];
    const refused = async (status: number, line: RegExp, ...args: string[]): Promise<void> => {
      assertRefused(await stage.t2cp("gateway", "record", ...place, ...args), status, line);
    };
    await refused(ExitStatus.USAGE, /need "--write"/, "--snaplen", "100");
    await refused(ExitStatus.USAGE, /no files to keep/, "--write", stage.scratch, "--keep", "2");
    await refused(ExitStatus.OS, /Cannot write capture files/, "--write", "/proc/t2cp");
  },
);
