/**
 * BPF programs that are attached by links: at a control group, at a tracepoint, and to iterate.
 *
 * @module
 */
import { BpfProgram } from "./bpf_object.ts";
import { cString } from "./c_string.ts";
import { unwrap, unwrapNegated } from "./errno.ts";
import { libbpf } from "./libbpf_sys.ts";
import { libc } from "./libc_sys.ts";

/** Values of `enum bpf_attach_type`. */
const AttachType = { CGROUP_SOCK_OPS: 3, TRACE_RAW_TP: 23, TRACE_ITER: 28 } as const;

const O_DIRECTORY = 0x10000;
const O_CLOEXEC = 0x80000;

/** An attachment. It ends with its last descriptor and its last pin. */
export class BpfLink implements Disposable {
  readonly #name: string;
  #fd: number;

  private constructor(fd: number, name: string) {
    this.#fd = fd;
    this.#name = name;
  }

  /**
   * Attaches a `sockops` program to the control group (version 2) at `path`; others may be there, too.
   *
   * @throws {SystemError} ENOENT where there is none, EBADF where it is no control group of version 2
   */
  static atControlGroup(program: BpfProgram, path: string): BpfLink {
    const attempted = `open control group "${path}"`;
    const directory = unwrap(libc().open(cString(path), O_DIRECTORY | O_CLOEXEC), attempted);
    try {
      return BpfLink.#create(program, directory, AttachType.CGROUP_SOCK_OPS);
    } finally {
      libc().close(directory);
    }
  }

  /** Attaches a `tp_btf` program to the tracepoint that its section names. */
  static atTracepoint(program: BpfProgram): BpfLink {
    return BpfLink.#create(program, 0, AttachType.TRACE_RAW_TP);
  }

  static #create(program: BpfProgram, target: number, type: number): BpfLink {
    const fd = libbpf().bpf_link_create(program.fd, target, type, null);
    return new BpfLink(unwrapNegated(fd, `attach "${program.name}"`), program.name);
  }

  /** Runs an `iter/…` program over all that it iterates over in this process's namespaces. */
  static iterate(program: BpfProgram): void {
    using link = BpfLink.#create(program, 0, AttachType.TRACE_ITER);
    const attempted = `iterate with "${program.name}"`;
    const fd = unwrapNegated(libbpf().bpf_iter_create(link.#fd), attempted);
    try {
      // What it writes is of no use; it runs while it is read.
      const bytes = new Uint8Array(4096);
      while (unwrap(libc().read(fd, bytes, BigInt(bytes.length)), attempted) > 0n);
    } finally {
      libc().close(fd);
    }
  }

  /** Pins the attachment at `path`, which must lie in a BPF file system. */
  pin(path: string): void {
    unwrapNegated(libbpf().bpf_obj_pin(this.#fd, cString(path)), `pin "${path}"`);
  }

  /** Closes the descriptor; a pinned attachment lives on. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    unwrap(libc().close(this.#fd), `close the link of "${this.#name}"`);
    this.#fd = -1;
  }
}
