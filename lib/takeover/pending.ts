/**
 * The record of a takeover that has begun and not yet entered active mode, so that the next start can undo it.
 *
 * @module
 */
import { join } from "node:path";
import { isLockTaken, takeLock } from "../program/run_dir.ts";

/** What has begun. What follows active mode needs no record: the mode itself tells. */
export interface PendingRecord {
  /** When the event came that asked for it. */
  trigger: string;
  /** The target that the event named. */
  target?: string;
  /** The control socket of the fence that was asked to fence. */
  fence?: string;
}

const NAME = "takeover";

function pathOf(runDir: string): string {
  return join(runDir, `${NAME}.json`);
}

/** A takeover of this process that has begun. */
export class Pending {
  readonly #runDir: string;
  readonly #lock: Disposable;

  private constructor(runDir: string, lock: Disposable) {
    this.#runDir = runDir;
    this.#lock = lock;
  }

  /**
   * Writes the record.
   *
   * @throws {Failure} with status TEMPORARY where another process has begun one
   */
  static begin(runDir: string, record: PendingRecord): Pending {
    const lock = takeLock(runDir, NAME);
    try {
      const path = pathOf(runDir);
      Deno.writeTextFileSync(`${path}.new`, JSON.stringify(record) + "\n", { mode: 0o600 });
      Deno.renameSync(`${path}.new`, path);
      return new Pending(runDir, lock);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** What a process that was killed had begun under `runDir`; undefined where there is nothing of the kind. */
  static left(runDir: string): { pending: Pending; record: PendingRecord } | undefined {
    // Whoever has the lock is alive, and looks after it.
    if (read(runDir) === undefined || isLockTaken(runDir, NAME)) return undefined;
    const lock = takeLock(runDir, NAME);
    const text = read(runDir);
    if (text !== undefined) return { pending: new Pending(runDir, lock), record: parse(text) };
    lock[Symbol.dispose]();
    return undefined;
  }

  /** Removes the record: the takeover is complete, or undone. */
  end(): void {
    try {
      Deno.removeSync(pathOf(this.#runDir));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    this.#lock[Symbol.dispose]();
  }

  /** Leaves the record to the next start. */
  leave(): void {
    this.#lock[Symbol.dispose]();
  }
}

function read(runDir: string): string | undefined {
  try {
    return Deno.readTextFileSync(pathOf(runDir));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** A damaged record still says that something had begun. */
function parse(text: string): PendingRecord {
  let value: Record<string, unknown> = {};
  try {
    value = JSON.parse(text) ?? {};
  } catch {
    // Told by the empty trigger.
  }
  const { trigger, target, fence } = value;
  return {
    trigger: typeof trigger === "string" ? trigger : "",
    ...(typeof target === "string" ? { target } : {}),
    ...(typeof fence === "string" ? { fence } : {}),
  };
}
