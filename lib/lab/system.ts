/**
 * Runs the system's own programs and reads facts about processes.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";

/** How {@linkcode run} runs a program. */
export interface RunOptions {
  /** Text for the program's standard input; empty by default. */
  stdin?: string;
  /** Variables added to the environment. */
  env?: Record<string, string>;
}

/**
 * Runs a program to its end and returns what it wrote to standard output. The program gets a
 * process group of its own, so that a Ctrl-C at the terminal does not end it half-way.
 *
 * @throws {Failure} where the program is missing, or ends with another status than 0
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const child = spawn(argv, {
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    detached: true,
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  if (options.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    // A program that ends early says why on standard error; the broken pipe adds nothing.
    await writer.write(new TextEncoder().encode(options.stdin)).catch(() => {});
    await writer.close().catch(() => {});
  }
  const output = await child.output();
  const text = new TextDecoder();
  if (!output.success) {
    const detail = text.decode(output.stderr).trim().split("\n").at(-1) || `status ${output.code}`;
    throw new Failure(ExitStatus.OS, `Command "${argv.join(" ")}" failed: ${detail}`);
  }
  return text.decode(output.stdout);
}

/**
 * Starts a program.
 *
 * @throws {Failure} where the program is missing
 */
export function spawn(argv: readonly string[], options: Deno.CommandOptions): Deno.ChildProcess {
  const [program, ...args] = argv;
  try {
    return new Deno.Command(program!, { ...options, args }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure(ExitStatus.UNAVAILABLE, `Program "${program}" is missing`, {
      mend: 'install what the lab needs with "t2cp lab setup"',
      cause: error,
    });
  }
}

/** A process, told apart from a later one of the same number by its start time. */
export interface ProcessId {
  /** The process number. */
  pid: number;
  /** Start time in clock ticks since boot, as /proc/PID/stat has it. */
  start: number;
}

/** The start time of process `pid` in clock ticks since boot, or undefined where it is gone. */
export function startTime(pid: number): number | undefined {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The name in parentheses may hold blanks and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

/** The identity of the living process `pid`, or undefined where it is gone. */
export function identify(pid: number): ProcessId | undefined {
  const start = startTime(pid);
  return start === undefined ? undefined : { pid, start };
}

/** Whether that very process still lives; a zombie does not. */
export function isAlive(id: ProcessId): boolean {
  return startTime(id.pid) === id.start;
}

/** The processes whose network namespace is one of `inodes`. */
export function processesIn(inodes: ReadonlySet<number>): ProcessId[] {
  const found: ProcessId[] = [];
  for (const entry of Deno.readDirSync("/proc")) {
    const pid = Number(entry.name);
    if (!Number.isInteger(pid) || pid === Deno.pid) continue;
    try {
      const inode = Deno.statSync(`/proc/${pid}/ns/net`).ino;
      if (inode === null || !inodes.has(inode)) continue;
    } catch {
      continue;
    }
    const id = identify(pid);
    if (id !== undefined) found.push(id);
  }
  return found;
}

/** Sends `signal` to that very process; false where it is gone. */
export function signal(id: ProcessId, signal: Deno.Signal): boolean {
  if (!isAlive(id)) return false;
  try {
    Deno.kill(id.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Waits until `done()` is true, asking every `interval` ms; false after `timeout` ms. */
export async function until(
  done: () => boolean | Promise<boolean>,
  timeout: number,
  interval = 10,
): Promise<boolean> {
  const end = performance.now() + timeout;
  while (!(await done())) {
    if (performance.now() >= end) return false;
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
  return true;
}

/**
 * Ends processes: SIGTERM, and SIGKILL for those that live `grace` ms later.
 *
 * @returns those that even SIGKILL did not end within ten seconds
 */
export async function endProcesses(ids: readonly ProcessId[], grace = 3000): Promise<ProcessId[]> {
  const living = () => ids.filter(isAlive);
  for (const id of living()) {
    signal(id, "SIGTERM");
    // A stopped process takes it only once it goes on.
    signal(id, "SIGCONT");
  }
  if (await until(() => living().length === 0, grace)) return [];
  for (const id of living()) signal(id, "SIGKILL");
  await until(() => living().length === 0, 10_000);
  return living();
}

/** Mount points at or below `directory`, the deepest first. */
export function mountsBelow(directory: string): string[] {
  const unescape = (text: string) =>
    text.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
  return Deno.readTextFileSync("/proc/self/mountinfo").trimEnd().split("\n")
    .map((line) => unescape(line.split(" ")[4]!))
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse();
}
