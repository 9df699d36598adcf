/**
 * Runs `t2cp` as a user does, and gives back what came of it.
 *
 * @module
 */
import { join } from "node:path";

/** The checkout that the tests belong to. */
export const checkout: string = join(import.meta.dirname ?? ".", "..", "..");

/** What a program left behind. */
export interface Outcome {
  /** Exit status; 128 and the signal's number where one ended it. */
  status: number;
  /** What it printed on stdout. */
  stdout: string;
  /** What it printed on stderr. */
  stderr: string;
}

/** Runs a program to its end. */
export async function run(
  program: string,
  args: readonly string[],
  options: Omit<Deno.CommandOptions, "args"> = {},
): Promise<Outcome> {
  const command = new Deno.Command(program, { args: [...args], stdin: "null", ...options });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { status: code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs `t2cp ARGS` with the Deno that runs the tests. */
export function t2cp(...args: string[]): Promise<Outcome> {
  return run(Deno.execPath(), ["run", "-A", "--quiet", join(checkout, "cli", "main.ts"), ...args]);
}

/** Runs a shell script in which `t2cp` is this checkout's, and `deno` is the tests' own. */
export function shell(script: string, env: Record<string, string> = {}): Promise<Outcome> {
  const bin = Deno.execPath().replace(/\/[^/]*$/, "");
  const PATH = `${checkout}:${bin}:${Deno.env.get("PATH") ?? ""}`;
  return run("bash", ["-c", script], { env: { PATH, ...env } });
}
