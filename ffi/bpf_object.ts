/**
 * BPF object files: loading them, and the pins that let their programs and maps outlive the process.
 *
 * @module
 */
import { constants } from "node:os";
import { BpfMap } from "./bpf_map.ts";
import { cString, textOf } from "./c_string.ts";
import { lastErrno, SystemError, unwrap, unwrapNegated } from "./errno.ts";
import { libbpf } from "./libbpf_sys.ts";
import { libc } from "./libc_sys.ts";

/** The verifier's log is cut at this length, bytes. */
const LOG_SIZE = 1 << 16;

/** Size and offsets of libbpf's `struct bpf_object_open_opts` (1.1). */
const OPEN_OPTS = { size: 80, logBuffer: 56, logSize: 64 } as const;

/** A BPF object that the kernel refused, with the end of the verifier's log where it gave one. */
export class LoadError extends SystemError {
  /** The last lines of the verifier's log, or empty. */
  readonly log: string;

  /** `path` is the object's. */
  constructor(path: string, errno: number, log: string) {
    super(`load "${path}"`, errno);
    this.name = "LoadError";
    this.log = log;
  }
}

/** A loaded BPF program. */
export class BpfProgram implements Disposable {
  /** The program's name or path, for messages. */
  readonly name: string;
  #fd: number;

  private constructor(fd: number, name: string) {
    this.#fd = fd;
    this.name = name;
  }

  /** Takes over file descriptor `fd`. */
  static adopt(fd: number, name: string): BpfProgram {
    return new BpfProgram(fd, name);
  }

  /**
   * Opens the program that is pinned at `path`.
   *
   * @throws {SystemError} ENOENT where nothing is pinned there
   */
  static openPinned(path: string): BpfProgram {
    return new BpfProgram(
      unwrapNegated(libbpf().bpf_obj_get(cString(path)), `open "${path}"`),
      path,
    );
  }

  /** The file descriptor, owned by this object. */
  get fd(): number {
    return this.#fd;
  }

  /** The kernel's identifier of the program within this boot. */
  get id(): number {
    const info = new Uint32Array(58);
    const length = new Uint32Array([info.byteLength]);
    const result = libbpf().bpf_obj_get_info_by_fd(this.#fd, new Uint8Array(info.buffer), length);
    unwrapNegated(result, `read about program "${this.name}"`);
    return info[1]!;
  }

  /** Pins the program at `path`, which must lie in a BPF file system. */
  pin(path: string): void {
    unwrapNegated(libbpf().bpf_obj_pin(this.#fd, cString(path)), `pin "${path}"`);
  }

  /** Closes the descriptor; an attached or pinned program lives on. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    unwrap(libc().close(this.#fd), `close program "${this.name}"`);
    this.#fd = -1;
  }
}

/** The programs and maps of an object, by name. */
export interface BpfParts {
  /** Programs by their C function's name. */
  programs: Map<string, BpfProgram>;
  /** Maps by their C variable's name. */
  maps: Map<string, BpfMap>;
}

/**
 * Loads the object file at `path` into the kernel. The caller owns what comes back.
 *
 * @throws {LoadError} where the kernel refuses it
 */
export function loadObject(path: string): BpfParts {
  const lib = libbpf();
  const log = new Uint8Array(LOG_SIZE);
  const opts = new DataView(new ArrayBuffer(OPEN_OPTS.size));
  opts.setBigUint64(0, BigInt(OPEN_OPTS.size), true);
  opts.setBigUint64(
    OPEN_OPTS.logBuffer,
    Deno.UnsafePointer.value(Deno.UnsafePointer.of(log)),
    true,
  );
  opts.setBigUint64(OPEN_OPTS.logSize, BigInt(LOG_SIZE), true);
  const object = lib.bpf_object__open_file(cString(path), new Uint8Array(opts.buffer));
  if (object === null) throw new SystemError(`open "${path}"`, lastErrno());
  const parts: BpfParts = { programs: new Map(), maps: new Map() };
  try {
    const result = lib.bpf_object__load(object);
    if (result < 0) throw new LoadError(path, -result, lastLines(textOf(log), 5));
    let next: Deno.PointerValue = null;
    while ((next = lib.bpf_object__next_program(object, next)) !== null) {
      const name = nameAt(lib.bpf_program__name(next));
      const fd = duplicate(lib.bpf_program__fd(next), name);
      parts.programs.set(name, BpfProgram.adopt(fd, name));
    }
    while ((next = lib.bpf_object__next_map(object, next)) !== null) {
      const name = nameAt(lib.bpf_map__name(next));
      parts.maps.set(name, BpfMap.adopt(duplicate(lib.bpf_map__fd(next), name), name));
    }
    return parts;
  } catch (error) {
    disposeParts(parts);
    throw error;
  } finally {
    lib.bpf_object__close(object);
  }
}

/** Closes what `parts` holds; attached and pinned things live on. */
export function disposeParts(parts: BpfParts): void {
  for (const part of [...parts.programs.values(), ...parts.maps.values()]) part[Symbol.dispose]();
  parts.programs.clear();
  parts.maps.clear();
}

/** A copy of the descriptor that outlives the object. */
function duplicate(fd: number, name: string): number {
  return unwrap(libc().fcntl(fd, 1030, /* F_DUPFD_CLOEXEC */ 0), `keep "${name}"`);
}

function nameAt(pointer: Deno.PointerValue): string {
  if (pointer === null) {
    throw new SystemError("read a name in a BPF object", constants.errno.EINVAL);
  }
  return new Deno.UnsafePointerView(pointer).getCString();
}

function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}
