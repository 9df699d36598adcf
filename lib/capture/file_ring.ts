/**
 * The names of capture files, and the removal of the oldest ones.
 *
 * @module
 */
import { join } from "node:path";
import { formatTime } from "../clock.ts";

/** Our files, also those that a command has compressed: the stem, then `.pcapng` and perhaps `.zst`. */
const NAME = /^(t2cp-\d{8}T\d{6}\.\d{6}Z-\d{6,})\.pcapng(\.\w+)*$/;

/** Gives names that sort by time, also where the clock is set back while it does. */
export class FileNames {
  #number = 0;
  #last = 0;

  /** The name of a file that begins at `now`, in microseconds since the Unix epoch. */
  next(now: number): string {
    this.#number++;
    this.#last = Math.max(now, this.#last + 1);
    const time = formatTime(this.#last).replaceAll(/[-:]/g, "");
    return `t2cp-${time}-${String(this.#number).padStart(6, "0")}.pcapng`;
  }
}

/**
 * Removes the oldest of our files in `directory` where there are more than `keep`, whichever run made them; never that of
 * the path `current`. A file and what a command made of it under a longer name count as one.
 */
export async function removeOldest(
  directory: string,
  keep: number,
  current: string,
): Promise<void> {
  const stems = new Map<string, string[]>();
  for await (const { name, isFile } of Deno.readDir(directory)) {
    const stem = NAME.exec(name)?.[1];
    if (!isFile || stem === undefined) continue;
    stems.set(stem, [...stems.get(stem) ?? [], join(directory, name)]);
  }
  const oldest = [...stems.keys()].sort().slice(0, Math.max(stems.size - keep, 0));
  for (const path of oldest.flatMap((stem) => stems.get(stem)!)) {
    if (path !== current) await removeIfThere(path);
  }
}

/** The name of our newest file in `directory` that no command has changed; undefined where there is none. */
export async function newestFile(directory: string): Promise<string | undefined> {
  let newest: string | undefined;
  for await (const { name, isFile } of Deno.readDir(directory)) {
    if (!isFile || !NAME.test(name) || !name.endsWith(".pcapng")) continue;
    if (newest === undefined || name > newest) newest = name;
  }
  return newest;
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
