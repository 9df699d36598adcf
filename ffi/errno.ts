/**
 * The C library's error numbers: their names, and the failed call as an exception.
 *
 * @module
 */
import { constants } from "node:os";
import { libc } from "./libc_sys.ts";

const names: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, value]): [number, string] => [value, name]),
);

/** The name of error number `errno` (1 gives `EPERM`), as errno(3) spells it. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** The error number that the last failed C library call of this thread left behind. */
export function lastErrno(): number {
  const location = libc().__errno_location();
  return location === null ? 0 : new Deno.UnsafePointerView(location).getInt32();
}

/** A system call or library call that failed: what was attempted, and errno's name. */
export class SystemError extends Error {
  /** The error number, positive. */
  readonly errno: number;
  /** The error number's name, `ENOENT` and the like. */
  readonly code: string;

  /** `attempted` completes the sentence "Cannot …". */
  constructor(attempted: string, errno: number) {
    const code = errnoName(errno);
    super(`Cannot ${attempted}: ${code}`);
    this.name = "SystemError";
    this.errno = errno;
    this.code = code;
  }
}

/**
 * The one gate of results: returns `result` where it is not negative, else throws.
 *
 * @throws {SystemError} with the C library's errno
 */
export function unwrap<T extends number | bigint>(result: T, attempted: string): T {
  if (result < 0) throw new SystemError(attempted, lastErrno());
  return result;
}

/**
 * The gate of calls that return the negated error number itself, as libbpf's do.
 *
 * @throws {SystemError} with the negated result as errno
 */
export function unwrapNegated(result: number, attempted: string): number {
  if (result < 0) throw new SystemError(attempted, -result);
  return result;
}
