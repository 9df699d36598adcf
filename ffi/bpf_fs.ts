/**
 * Mounts: BPF file systems, in which pins live, and control groups.
 *
 * @module
 */
import { cString } from "./c_string.ts";
import { unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";

/** statfs(2)'s type of a BPF file system. */
const BPF_FS_MAGIC = 0xcafe4a11;
/** umount(2): detach now, clean up when nobody uses it any more. */
const MNT_DETACH = 2;

/** Is there a BPF file system at `path`? */
export function isBpfFs(path: string): boolean {
  const statfs = new Uint8Array(120);
  if (libc().statfs(cString(path), statfs) < 0) return false;
  return new DataView(statfs.buffer).getBigInt64(0, true) === BigInt(BPF_FS_MAGIC);
}

/** Mounts a BPF file system of its own at `path`, a directory. */
export function mountBpfFs(path: string): void {
  const result = libc().mount(cString("bpf"), cString(path), cString("bpf"), 0n, null);
  unwrap(result, `mount a BPF file system at "${path}"`);
}

/** Mounts the hierarchy of control groups of version 2 at `path`, a directory. */
export function mountControlGroups(path: string): void {
  const result = libc().mount(cString("cgroup2"), cString(path), cString("cgroup2"), 0n, null);
  unwrap(result, `mount the control groups at "${path}"`);
}

/** Unmounts what is mounted at `path`. */
export function unmount(path: string): void {
  unwrap(libc().umount2(cString(path), MNT_DETACH), `unmount "${path}"`);
}
