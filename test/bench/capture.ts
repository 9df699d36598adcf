/**
 * Reading of capture files against tcpdump: the processor time of each for the same file of mixed frames, read to
 * nowhere. Needs tcpdump.
 *
 *     deno task bench:capture [MEGABYTES [ROUNDS]]
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openCapture } from "../../lib/capture/open.ts";
import { median } from "../../lib/lab/measure.ts";
import { pcapHeader, pcapRecord } from "../fixture/capture_file.ts";

const [first = "1000", second = "5"] = Deno.args;
if (first === "--read") await read(second);
else await compare(Number(first), Number(second));

/** Reads a file as fast as it can; run in a process of its own. */
async function read(path: string): Promise<void> {
  using capture = await openCapture(path);
  const { reader } = capture;
  while (await reader.fill()) {
    while (reader.next());
  }
  console.log(reader.frames);
}

/** Writes so many megabytes of frames of 66, 1514 and other sizes; returns the number of frames. */
function makeFile(path: string, megabytes: number): number {
  const sizes = Array.from({ length: 3000 }, (_, i) => [66, 1514, 200 + i * 37 % 900][i % 3]!);
  const noise = crypto.getRandomValues(new Uint8Array(1514));
  const records = sizes.map((size, i) =>
    pcapRecord(true, 1_700_000_000, i, noise.subarray(0, size))
  );
  const piece = new Uint8Array(records.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const record of records) {
    piece.set(record, at);
    at += record.length;
  }
  using file = Deno.openSync(path, { write: true, createNew: true });
  file.writeSync(pcapHeader(true, 0xa1b23c4d));
  const pieces = Math.ceil(megabytes * 1e6 / piece.length);
  for (let i = 0; i < pieces; i++) {
    for (let at = 0; at < piece.length;) at += file.writeSync(piece.subarray(at));
  }
  return pieces * records.length;
}

/** User and system time of a program, in milliseconds. */
async function cost(...argv: string[]): Promise<{ user: number; system: number }> {
  const script = 'TIMEFORMAT="%U %S"; time "$@" >/dev/null 2>&1';
  const child = new Deno.Command("bash", { args: ["-c", script, "bash", ...argv] });
  const { stderr, success } = await child.output();
  const text = new TextDecoder().decode(stderr);
  if (!success) throw new Error(`${argv.join(" ")}: ${text}`);
  const [user, system] = text.trim().split(" ").map((seconds) => Number(seconds) * 1000);
  return { user: user!, system: system! };
}

async function compare(megabytes: number, rounds: number): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-bench-" });
  try {
    const path = join(directory, "capture.pcap");
    const frames = makeFile(path, megabytes);
    const own = [Deno.execPath(), "run", "-A", fileURLToPath(import.meta.url), "--read", path];
    const ours = [];
    const theirs = [];
    for (let round = 0; round < rounds; round++) {
      ours.push(await cost(...own));
      theirs.push(await cost("tcpdump", "-r", path, "-w", "/dev/null"));
    }
    const user = [ours, theirs].map((costs) => median(costs.map((cost) => cost.user))!);
    const all = [ours, theirs].map((costs) => median(costs.map((c) => c.user + c.system))!);
    const line = (what: string, [t2cp, tcpdump]: number[]): string =>
      `${what}: t2cp ${t2cp!.toFixed(0)} ms, tcpdump ${tcpdump!.toFixed(0)} ms, ` +
      `ratio ${(t2cp! / tcpdump!).toFixed(2)}`;
    console.log(`${megabytes} MB, ${frames} frames, medians of ${rounds} rounds`);
    console.log(line("user time", user));
    console.log(line("user and system time", all));
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
