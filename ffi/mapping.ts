/**
 * Memory mapped into this process: the kernel's, and its own.
 *
 * @module
 */
import { constants } from "node:os";
import { lastErrno, SystemError } from "./errno.ts";
import { libc } from "./libc_sys.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MADV_HUGEPAGE = 14;
const MADV_POPULATE_WRITE = 23;
const MAP_FAILED = 2n ** 64n - 1n;

/** Bytes of a page on this machine; mappings start at page boundaries. */
export function pageSize(): number {
  return libc().getpagesize();
}

/** A shared mapping of a file descriptor. Its buffer must not be used after it is disposed of. */
export class Mapping implements Disposable {
  /** The mapped bytes; writing to them without `writable` kills the process. */
  readonly buffer: ArrayBuffer;
  readonly #length: number;
  #address: Deno.PointerValue;

  /**
   * Maps `length` bytes of `fd` from `offset` on; `attempted` completes the sentence "Cannot …".
   *
   * @throws {SystemError}
   */
  constructor(fd: number, length: number, offset: number, writable: boolean, attempted: string) {
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const address = libc().mmap(null, BigInt(length), protection, MAP_SHARED, fd, BigInt(offset));
    if (address === null || Deno.UnsafePointer.value(address) === MAP_FAILED) {
      throw new SystemError(attempted, lastErrno());
    }
    this.#address = address;
    this.#length = length;
    this.buffer = Deno.UnsafePointerView.getArrayBuffer(address, length);
  }

  /** Unmaps it. */
  [Symbol.dispose](): void {
    if (this.#address !== null) libc().munmap(this.#address, BigInt(this.#length));
    this.#address = null;
  }
}

/**
 * `length` bytes of this process's own memory, all of them there at once, in large pages where the kernel has them. It
 * is never given back.
 *
 * @throws {SystemError} where there is not so much
 */
export function reserveMemory(length: number): ArrayBuffer {
  const size = BigInt(Math.ceil(length / pageSize()) * pageSize());
  const protection = PROT_READ | PROT_WRITE;
  const address = libc().mmap(null, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
  if (address === null || Deno.UnsafePointer.value(address) === MAP_FAILED) {
    throw new SystemError(`reserve ${length} bytes of memory`, lastErrno());
  }
  // Kernels without large pages or without MADV_POPULATE_WRITE (before 5.14) give the pages as they are used.
  libc().madvise(address, size, MADV_HUGEPAGE);
  if (libc().madvise(address, size, MADV_POPULATE_WRITE) !== 0) {
    const errno = lastErrno();
    if (errno === constants.errno.ENOMEM) {
      libc().munmap(address, size);
      throw new SystemError(`reserve ${length} bytes of memory`, errno);
    }
  }
  return Deno.UnsafePointerView.getArrayBuffer(address, length);
}
