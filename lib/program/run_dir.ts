/**
 * The run directory: locks, records, control sockets, and a BPF file system of its own for pins.
 *
 * @module
 */
import { join } from "node:path";
import { isBpfFs, mountBpfFs, unmount } from "../../ffi/bpf_fs.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** Makes the run directory, for its owner alone, where it does not exist. */
export function makeRunDir(runDir: string): void {
  try {
    Deno.mkdirSync(runDir, { recursive: true, mode: 0o700 });
  } catch (error) {
    const status = error instanceof Deno.errors.PermissionDenied
      ? ExitStatus.NO_PERMISSION
      : ExitStatus.OS;
    throw new Failure(status, `Run directory "${runDir}" cannot be made`, {
      mend: "run as root, or name another with --run-dir",
      cause: error,
    });
  }
}

/** The directory of the pins of command `name`. */
export function pinDir(runDir: string, name: string): string {
  return join(runDir, "bpf", name);
}

/**
 * Mounts the run directory's BPF file system where it is not, and makes the pin directory of command `name`. The
 * mount is our own since `ip netns exec` hides the one under /sys.
 */
export function makePinDir(runDir: string, name: string): string {
  const root = join(runDir, "bpf");
  Deno.mkdirSync(root, { recursive: true, mode: 0o700 });
  if (!isBpfFs(root)) mountBpfFs(root);
  const dir = pinDir(runDir, name);
  Deno.mkdirSync(dir, { recursive: true, mode: 0o700 });
  return dir;
}

/** Removes every pin in `dir`. */
export function clearPins(dir: string): void {
  for (const pin of names(dir)) Deno.removeSync(join(dir, pin));
}

/** Removes the pins of command `name`, and the BPF file system after its last pin. */
export function removePinDir(runDir: string, name: string): void {
  const dir = pinDir(runDir, name);
  clearPins(dir);
  if (exists(dir)) Deno.removeSync(dir);
  const root = join(runDir, "bpf");
  // The kernel may put files of its own there (progs.debug, maps.debug); pins are in directories.
  if (!exists(root) || names(root, "directories").length > 0) return;
  if (isBpfFs(root)) unmount(root);
  Deno.removeSync(root);
}

/** The names in a directory, or those of its directories; none where it does not exist. */
export function names(dir: string, which: "all" | "directories" = "all"): string[] {
  try {
    const entries = [...Deno.readDirSync(dir)];
    return entries.filter((entry) => which === "all" || entry.isDirectory).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Takes the lock of command `name` in the run directory; it is free again when the result is disposed, or the process
 * ends in whatever way.
 *
 * @throws {Failure} with status TEMPORARY where another process has it
 */
export function takeLock(runDir: string, name: string): Disposable {
  const path = join(runDir, `${name}.lock`);
  const file = Deno.openSync(path, { read: true, write: true, create: true, mode: 0o600 });
  if (!file.tryLockSync(true)) {
    const pid = Deno.readTextFileSync(path).trim();
    file.close();
    throw new Failure(
      ExitStatus.TEMPORARY,
      `Another "t2cp ${name}"${
        pid === "" ? "" : ` (process ${pid})`
      } uses run directory "${runDir}"`,
      { mend: "stop it first, or name another directory with --run-dir" },
    );
  }
  file.truncateSync();
  file.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
  return { [Symbol.dispose]: () => file.close() };
}

/** The name of the lock, and of the control socket, of who heals the flows on this host: `t2cp replay --heal`. */
export const HEALER = "replay";

/** Whether some process has the lock of command `name` in the run directory. */
export function isLockTaken(runDir: string, name: string): boolean {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(join(runDir, `${name}.lock`), { read: true });
  } catch {
    return false;
  }
  try {
    // Shared, and for a moment only: who takes it meanwhile must not be turned away by two who ask.
    return !file.tryLockSync(false);
  } finally {
    file.close();
  }
}

/** What a command notes about its pins, for its next start and for `takeover`. */
export interface InstanceRecord {
  /** The interface that carries the programs. */
  interface: string;
  /** The services, as {@linkcode formatService} writes them. */
  services: string[];
}

function recordPath(runDir: string, name: string): string {
  return join(runDir, `${name}.json`);
}

/** Writes the record of command `name`, whole or not at all. */
export function writeRecord(runDir: string, name: string, record: InstanceRecord): void {
  const path = recordPath(runDir, name);
  Deno.writeTextFileSync(`${path}.new`, JSON.stringify(record) + "\n", { mode: 0o600 });
  Deno.renameSync(`${path}.new`, path);
}

/** The record of command `name`; undefined where there is none. */
export function readRecord(runDir: string, name: string): InstanceRecord | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(recordPath(runDir, name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const record = parseRecord(text);
  if (record !== undefined) return record;
  throw new Failure(ExitStatus.BAD_INPUT, `Record "${recordPath(runDir, name)}" is damaged`, {
    mend: `remove it, and see with "tc filter show" what is still attached`,
  });
}

function parseRecord(text: string): InstanceRecord | undefined {
  try {
    const record = JSON.parse(text);
    const sound = typeof record.interface === "string" && Array.isArray(record.services);
    return sound ? record : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Refuses to go on where the run directory belongs to the same command on another interface.
 *
 * @throws {Failure} with status UNAVAILABLE
 */
export function requireSameInterface(runDir: string, name: string, interfaceName: string): void {
  const earlier = readRecord(runDir, name)?.interface;
  if (earlier === undefined || earlier === interfaceName) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `Run directory "${runDir}" belongs to a ${name} on interface "${earlier}"`,
    {
      mend: name === "shadow"
        ? "t2cp shadow --clear first, or name another directory with --run-dir"
        : `start and stop it there once more, or name another directory with --run-dir`,
    },
  );
}

/** Removes the record of command `name`. */
export function removeRecord(runDir: string, name: string): void {
  const path = recordPath(runDir, name);
  if (exists(path)) Deno.removeSync(path);
}
