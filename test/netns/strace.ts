/**
 * SIGKILL from outside at a chosen system call, by strace: what is tested needs no hook for it.
 *
 * @module
 */
import { PATIENCE, within } from "../fixture/wait.ts";

/** A system call by its name, and the how many-th one that a thread makes from now on. */
export type Call = `${string}:${number}`;

/** Kills process `pid` as it enters `call`, which then does nothing; `provoke` makes it get there. */
export async function killAt(
  pid: number,
  call: Call,
  provoke: () => Promise<void>,
): Promise<void> {
  const [name, nth] = call.split(":");
  const strace = new Deno.Command("strace", {
    args: [
      ...["-f", "-p", String(pid), "-o", "/dev/null", "-e", `trace=${name}`],
      ...["-e", `inject=${name}:signal=KILL:when=${nth}`],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const attached = Promise.withResolvers<void>();
  const reading = (async () => {
    let said = "";
    for await (const text of strace.stderr.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said.includes("attached with")) attached.resolve();
    }
    attached.reject(new Error(`strace has ended: ${said}`));
  })();
  try {
    await within(PATIENCE, attached.promise, "strace");
    await provoke();
    await within(PATIENCE, strace.status, `the end of process ${pid} at ${call}`);
  } finally {
    try {
      strace.kill("SIGKILL");
    } catch {
      // It has ended with the process.
    }
    await strace.status;
    await reading;
  }
}
