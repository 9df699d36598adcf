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
const LOG_SIZE = 1 << 24;

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

/** Size and offsets of the kernel's `struct bpf_prog_info`, up to the last field that is read here. */
const PROG_INFO = {
  size: 208,
  id: 4,
  mapCount: 52,
  mapIds: 56,
  name: 64,
  runTime: 192,
  runCount: 200,
} as const;
/** The kernel's bound on a program's maps (MAX_USED_MAPS). */
const MAX_MAPS = 64;

/** What the kernel counted of a program's runs. */
export interface RunStats {
  /** How often it ran. */
  runs: number;
  /** How long all runs took, in nanoseconds. */
  nanos: number;
}

/** Size and offsets of libbpf's `struct bpf_test_run_opts`. */
const TEST_RUN_OPTS = {
  size: 80,
  dataIn: 8,
  dataOut: 16,
  dataSizeIn: 24,
  dataSizeOut: 28,
  retval: 56,
  repeat: 60,
  duration: 64,
} as const;

/** What came of {@linkcode BpfProgram.testRun}. */
export interface TestRun {
  /** The program's return value, such as TC_ACT_STOLEN (4). */
  verdict: number;
  /** How long one run took on average, in nanoseconds. */
  nanos: number;
  /** The frame as the program left it. */
  frame: Uint8Array<ArrayBuffer>;
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
    return this.#info().getUint32(PROG_INFO.id, true);
  }

  /** How often the program ran and how long it took in all; zeros unless kernel.bpf_stats_enabled is 1. */
  get runStats(): RunStats {
    const info = this.#info();
    return {
      runs: Number(info.getBigUint64(PROG_INFO.runCount, true)),
      nanos: Number(info.getBigUint64(PROG_INFO.runTime, true)),
    };
  }

  /**
   * Runs the program on `frame`, from its Ethernet header on, `repeat` times over the same packet, without any
   * interface (BPF_PROG_TEST_RUN). Nothing is sent. `room` bounds the bytes of the frame that come back.
   *
   * @throws {SystemError} EINVAL for a frame shorter than an Ethernet header
   */
  testRun(frame: Uint8Array<ArrayBuffer>, repeat = 1, room = 2048): TestRun {
    const out = new Uint8Array(room);
    const opts = new DataView(new ArrayBuffer(TEST_RUN_OPTS.size));
    const address = (bytes: Uint8Array<ArrayBuffer>): bigint =>
      Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
    opts.setBigUint64(0, BigInt(TEST_RUN_OPTS.size), true);
    opts.setBigUint64(TEST_RUN_OPTS.dataIn, address(frame), true);
    opts.setBigUint64(TEST_RUN_OPTS.dataOut, address(out), true);
    opts.setUint32(TEST_RUN_OPTS.dataSizeIn, frame.length, true);
    opts.setUint32(TEST_RUN_OPTS.dataSizeOut, out.length, true);
    opts.setInt32(TEST_RUN_OPTS.repeat, repeat, true);
    const result = libbpf().bpf_prog_test_run_opts(this.#fd, new Uint8Array(opts.buffer));
    unwrapNegated(result, `run program "${this.name}"`);
    return {
      verdict: opts.getInt32(TEST_RUN_OPTS.retval, true),
      nanos: opts.getUint32(TEST_RUN_OPTS.duration, true),
      frame: out.subarray(0, opts.getUint32(TEST_RUN_OPTS.dataSizeOut, true)),
    };
  }

  /** The name that the kernel knows, and the identifiers of the maps that the program uses. */
  get description(): { name: string; mapIds: number[] } {
    const ids = new Uint32Array(MAX_MAPS);
    const info = this.#info(ids);
    const name = textOf(new Uint8Array(info.buffer, PROG_INFO.name, 16));
    return { name, mapIds: [...ids.subarray(0, info.getUint32(PROG_INFO.mapCount, true))] };
  }

  #info(mapIds?: Uint32Array<ArrayBuffer>): DataView {
    const info = new Uint8Array(PROG_INFO.size);
    if (mapIds !== undefined) {
      const view = new DataView(info.buffer);
      view.setUint32(PROG_INFO.mapCount, mapIds.length, true);
      const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(mapIds));
      view.setBigUint64(PROG_INFO.mapIds, address, true);
    }
    const length = new Uint32Array([info.length]);
    const result = libbpf().bpf_obj_get_info_by_fd(this.#fd, info, length);
    unwrapNegated(result, `read about program "${this.name}"`);
    return new DataView(info.buffer);
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

/**
 * Opens loaded programs by their identifiers, and the maps that they use. The kernel knows names by 15 characters at
 * most. The caller owns what comes back.
 *
 * @throws {SystemError} where there is no such program (any more)
 */
export function openAttached(ids: readonly number[]): BpfParts {
  const parts: BpfParts = { programs: new Map(), maps: new Map() };
  try {
    for (const id of ids) {
      const fd = unwrapNegated(libbpf().bpf_prog_get_fd_by_id(id), `open program ${id}`);
      const program = BpfProgram.adopt(fd, `program ${id}`);
      const { name, mapIds } = program.description;
      if (parts.programs.has(name)) program[Symbol.dispose]();
      else parts.programs.set(name, program);
      for (const mapId of mapIds) {
        const mapFd = unwrapNegated(libbpf().bpf_map_get_fd_by_id(mapId), `open map ${mapId}`);
        const map = BpfMap.adopt(mapFd, `map ${mapId}`);
        if (parts.maps.has(map.info.name)) map[Symbol.dispose]();
        else parts.maps.set(map.info.name, map);
      }
    }
    return parts;
  } catch (error) {
    disposeParts(parts);
    throw error;
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
