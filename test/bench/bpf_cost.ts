/**
 * What a packet of a tracked flow costs in the BPF programs, by the kernel's run-time statistics: during a download,
 * an upload and echoes in the lab. Needs root and the lab's packages.
 *
 *     deno task bench:bpf [ROUNDS]
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BpfProgram, type RunStats } from "../../ffi/bpf_object.ts";
import { median } from "../../lib/lab/measure.ts";

const SWITCH = "/proc/sys/kernel/bpf_stats_enabled";
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const workloads: readonly string[][] = [
  ["download", "--size", "80M"],
  ["upload", "--size", "80M"],
  ["echo"],
];
const programs: readonly [role: string, command: string, program: string][] = [
  ["backup", "shadow", "shadow_ingress"],
  ["backup", "shadow", "shadow_egress"],
  ["gateway", "mirror", "mirror_ingress"],
  ["gateway", "mirror", "mirror_egress"],
];

/** Runs one workload, and returns the nanoseconds a packet of each program. */
async function measure(workload: readonly string[]): Promise<Map<string, number>> {
  const runDir = await Deno.makeTempDir({ prefix: "t2cp-bench-" });
  const name = `bench-${Deno.pid}`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", main, "lab", "run", "--json", "--failure", "none"],
      ...["--name", name, "--run-dir", runDir, "--workload", ...workload],
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const last = new Map<string, RunStats>();
  let ended = false;
  const status = child.status.finally(() => ended = true);
  while (!ended) {
    for (const [role, command, program] of programs) {
      const pin = join(runDir, "lab", name, role, "bpf", command, program);
      try {
        using open = BpfProgram.openPinned(pin);
        last.set(program, open.runStats);
      } catch {
        // Not pinned yet, or not any more.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  if (!(await status).success) throw new Error(`The ${workload[0]} failed`);
  await Deno.remove(runDir, { recursive: true }).catch(() => {}); // the lab removes it, too
  return new Map([...last].map(([program, { runs, nanos }]) => [program, nanos / runs]));
}

const rounds = Number(Deno.args[0] ?? 3);
const before = Deno.readTextFileSync(SWITCH);
Deno.writeTextFileSync(SWITCH, "1");
try {
  for (const workload of workloads) {
    const figures: Map<string, number>[] = [];
    for (let round = 0; round < rounds; round++) figures.push(await measure(workload));
    for (const [, , program] of programs) {
      const nanos = median(figures.map((figure) => figure.get(program) ?? null));
      console.log(
        `${workload[0]!.padEnd(9)} ${program.padEnd(15)} ${
          nanos?.toFixed(0).padStart(5)
        } ns a packet`,
      );
    }
  }
} finally {
  Deno.writeTextFileSync(SWITCH, before);
}
