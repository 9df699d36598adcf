/**
 * The recorder against `tcpdump -w`: the same traffic in the same run, with equal rings; frames that each lost, and
 * the processor time that a frame cost each. Needs root and the packages of the tests.
 *
 *     deno task bench:record [SECONDS [ROUNDS [write]]]
 *
 * With "write" the recorder writes capture files, too.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { unwrap } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc_sys.ts";
import { median } from "../../lib/lab/measure.ts";
import { askRecorder } from "../netns/record_socket.ts";
import type { SourceResult, SourceTask } from "./packet_source.ts";

const seconds = Number(Deno.args[0] ?? 5);
const rounds = Number(Deno.args[1] ?? 3);
const write = Deno.args[2] === "write";
const RING_MIB = 64;
const FLOWS = 32;
const SOURCES = 2;
/** Seconds of traffic beforehand: V8 compiles what is hot for so long, and a recorder runs for days. */
const WARM_UP = 5;
const CPUCLOCK_SCHED = 2;
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const name = `t2cp-bench-${Deno.pid}`;
const inside = (...argv: string[]): string[] => ["netns", "exec", name, ...argv];

/** Shapes of traffic; the rate is that of frames, a third of which are the service's acknowledgements. */
const shapes = [
  { shape: "64 bytes", payload: 64, rate: 150_000 },
  // Near what two processors can send and capture twice: what counts is that nothing is lost.
  { shape: "64 bytes, a flood", payload: 64, rate: 330_000 },
  { shape: "1448 bytes", payload: 1448, rate: 150_000 },
  { shape: "65160 bytes, offloaded", payload: 65_160, mss: 1448, rate: 12_000 },
];

async function ip(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ip", { args }).output();
  if (!success) throw new Error(`ip ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

function start(...argv: string[]): Deno.ChildProcess {
  return new Deno.Command("ip", { args: inside(...argv), stdout: "piped", stderr: "piped" })
    .spawn();
}

/**
 * Processor time of a process so far, in nanoseconds: that of threads which have ended is in it, unlike in the sum of
 * those of `/proc`. See MAKE_PROCESS_CPUCLOCK of the kernel.
 */
function processorTime(pid: number): number {
  const time = new BigInt64Array(2);
  const bytes = new Uint8Array(time.buffer);
  unwrap(libc().clock_gettime(~pid << 3 | CPUCLOCK_SCHED, bytes), "read a process's clock");
  return Number(time[0]) * 1e9 + Number(time[1]);
}

/** Sends from several processes at once: one alone does not reach the rate with small frames. */
async function sources(task: Omit<SourceTask, "port">): Promise<SourceResult> {
  const share = { rate: task.rate / SOURCES, packets: task.packets / SOURCES };
  const results = await Promise.all(
    Array.from(
      { length: SOURCES },
      (_, i) => source({ ...task, ...share, port: 10_000 + i * FLOWS }),
    ),
  );
  return {
    packets: results.reduce((sum, { packets }) => sum + packets, 0),
    seconds: Math.max(...results.map(({ seconds }) => seconds)),
    seq: Math.max(...results.map(({ seq }) => seq)),
  };
}

/** `ip netns exec` becomes the program itself. */
async function source(task: SourceTask): Promise<SourceResult> {
  const child = start(Deno.execPath(), "run", "-A", here("packet_source.ts"), JSON.stringify(task));
  const { stdout, stderr, success } = await child.output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

interface Figure {
  /** Frames that were sent, and how many in a second. */
  sent: number;
  rate: number;
  /** Frames that each lost. */
  recorderLost: number;
  tcpdumpLost: number;
  /** Nanoseconds of processor time a frame. */
  recorder: number;
  tcpdump: number;
}

async function measure(shape: typeof shapes[number], directory: string): Promise<Figure> {
  const service = "10.77.0.100:80";
  const recorder = start(
    ...[Deno.execPath(), "run", "-A", "--quiet", here("../../cli/main.ts"), "record"],
    ...["--interface", "in0", "--service", service, "--run-dir", directory],
    ...["--budget", `${256 + RING_MIB}M`, "--buffer", `${RING_MIB}M`],
    ...(write ? ["--write", join(directory, "files")] : []),
  );
  const reader = recorder.stdout.getReader();
  recorder.stderr.pipeTo(new WritableStream()).catch(() => {});
  await reader.read();
  (async () => {
    while (!(await reader.read()).done);
  })();
  const file = join(directory, "tcpdump.pcap");
  const tcpdump = start(
    ...["tcpdump", "-Z", "root", "-n", "-i", "in0", "-B", String(RING_MIB * 1024), "-w", file],
    ...["tcp port 80 and host 10.77.0.100"],
  );
  let said = "";
  const listening = Promise.withResolvers<void>();
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of tcpdump.stderr) {
      said += decoder.decode(chunk);
      if (said.includes("listening on")) listening.resolve();
    }
  })();
  tcpdump.stdout.pipeTo(new WritableStream()).catch(() => {});
  await listening.promise;

  const stats = async (): Promise<Record<string, number>> => {
    const [answer] = await askRecorder(directory, { request: "stats" });
    return answer!["stats"] as Record<string, number>;
  };
  const { shape: _, ...settings } = shape;
  const task = { interface: "out0", flows: FLOWS, ...settings };
  const warm = await sources({ ...task, packets: shape.rate * WARM_UP, seq: 1_000_000 });
  await settle();
  const before = {
    stats: await stats(),
    cpu: [processorTime(recorder.pid), processorTime(tcpdump.pid)],
  };
  const sent = await sources({ ...task, packets: shape.rate * seconds, seq: warm.seq });
  await settle();
  const after = {
    stats: await stats(),
    cpu: [processorTime(recorder.pid), processorTime(tcpdump.pid)],
  };
  recorder.kill("SIGTERM");
  tcpdump.kill("SIGINT");
  await Promise.all([recorder.status, tcpdump.status, reading]);
  await Deno.remove(file);
  if (write) await Deno.remove(join(directory, "files"), { recursive: true });
  const dropped = Number(/(\d+) packets dropped by kernel/.exec(said)?.[1]);
  const captured = Number(/(\d+) packets captured/.exec(said)?.[1]);
  const all = warm.packets + sent.packets;
  return {
    sent: sent.packets,
    rate: sent.packets / sent.seconds,
    recorderLost: all - after.stats["segments"]!,
    tcpdumpLost: Math.max(dropped, all - captured),
    recorder: (after.cpu[0]! - before.cpu[0]!) / sent.packets,
    tcpdump: (after.cpu[1]! - before.cpu[1]!) / sent.packets,
  };
}

/** tcpdump's ring gives its last block after a second. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1500));
}

const directory = await Deno.makeTempDir({ prefix: "t2cp-bench-" });
try {
  await ip("netns", "add", name);
  await ip("-n", name, "link", "add", "out0", "type", "veth", "peer", "name", "in0");
  for (const end of ["out0", "in0"]) await ip("-n", name, "link", "set", end, "mtu", "1500", "up");
  for (const shape of shapes) {
    const figures: Figure[] = [];
    for (let round = 0; round < rounds; round++) figures.push(await measure(shape, directory));
    const middle = (of: (figure: Figure) => number): number => median(figures.map(of))!;
    const total = (of: (figure: Figure) => number): number =>
      figures.reduce((sum, f) => sum + of(f), 0);
    console.log(
      `${shape.shape}: ${middle((f) => f.rate).toFixed(0)} frames/s, lost by record ${
        total((f) => f.recorderLost)
      }, by tcpdump ${total((f) => f.tcpdumpLost)} of ${total((f) => f.sent)}; processor time ${
        middle((f) => f.recorder).toFixed(0)
      } ns a frame, tcpdump ${middle((f) => f.tcpdump).toFixed(0)} ns, ratio ${
        middle((f) => f.recorder / f.tcpdump).toFixed(2)
      }`,
    );
  }
} finally {
  await ip("netns", "del", name).catch(() => {});
  await Deno.remove(directory, { recursive: true });
}
