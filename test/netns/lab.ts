/**
 * Labs for the namespace tests: a name and a run directory of their own, and proof that nothing of
 * them is left.
 *
 * @module
 */
import assert from "node:assert/strict";
import { parseEvent } from "../../lib/event.ts";
import { holdNamespaces, namespaceInodes } from "../../lib/lab/namespaces.ts";
import { takeDown } from "../../lib/lab/lab.ts";
import { mountsBelow, processesIn } from "../../lib/lab/system.ts";
import { type Outcome, t2cp } from "../cli/t2cp.ts";
import { unique } from "../fixture/unique.ts";

/** Whether the namespace tests can run; else they are reported as ignored. */
export const isRoot: boolean = Deno.uid() === 0;

/** What a test knows of its lab. */
export interface TestLab {
  /** The lab's name. */
  name: string;
  /** The run directory. */
  runDir: string;
  /** The flags that say so. */
  flags: string[];
  /** Remembers the namespaces as they are, so that their processes are found after their end. */
  look(): void;
}

/**
 * Runs a test with a lab name and run directory of its own; afterwards nothing of that lab may be
 * left: namespaces, processes, mounts, files. Whatever is left is removed.
 */
export async function withLab(test: (lab: TestLab) => Promise<void>): Promise<void> {
  const name = unique("test-");
  const runDir = await Deno.makeTempDir({ prefix: "t2cp-test-" });
  const inodes = new Set<number>();
  const held: Deno.FsFile[] = [];
  const look = () => {
    held.push(...holdNamespaces(name));
    namespaceInodes(name).forEach((inode) => inodes.add(inode));
  };
  try {
    await test({ name, runDir, flags: ["--name", name, "--run-dir", runDir], look });
    assert.deepEqual([...namespaceInodes(name)], [], "namespaces are left");
    assert.deepEqual(processesIn(inodes), [], "processes are left");
    assert.deepEqual(mountsBelow(runDir), [], "mounts are left");
    assert.deepEqual(scratch(name), [], "scratch directories are left");
    assert.deepEqual(entries(runDir), [], "the run directory is not empty");
  } finally {
    for (const namespace of held) namespace.close();
    await takeDown(runDir, name);
    await Deno.remove(runDir, { recursive: true }).catch(() => {});
  }
}

/** The events that a command printed, each checked against the vocabulary. */
export function eventsOf(outcome: Outcome): Record<string, unknown>[] {
  return outcome.stdout.trimEnd().split("\n").map((line) => {
    const event = parseEvent(line);
    assert.equal(typeof event, "object", `${event}: ${line}`);
    return event as Record<string, unknown>;
  });
}

/** A host that a busy machine lets wait for so long cannot be told from one that has failed. */
const STALLED =
  /\b(a failure was detected (before there was one|though there was none)|its host was taken for failed)/;

/**
 * Runs t2cp with `args`, which must print the events of lab runs, and returns them; the status must be 0. Where a
 * failure was detected that was none, it runs again.
 */
export async function labEvents(...args: string[]): Promise<Record<string, unknown>[]> {
  for (let attempt = 1;; attempt++) {
    const outcome = await t2cp(...args);
    const events = eventsOf(outcome);
    const { type, problem } = events.at(-1)!;
    if (attempt < 10 && STALLED.test(String(problem))) continue;
    assert.equal(outcome.status, 0, outcome.stderr + outcome.stdout);
    assert.equal(type, "lab.result");
    return events;
  }
}

function entries(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].map((entry) => entry.name);
  } catch (error) {
    // The last lab takes an empty run directory away.
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function scratch(name: string): string[] {
  const temporary = Deno.env.get("TMPDIR") ?? "/tmp";
  return entries(temporary).filter((entry) => entry.startsWith(`t2cp-lab-${name}-`));
}
