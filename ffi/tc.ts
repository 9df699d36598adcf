/**
 * BPF programs at an interface's clsact hooks (tc-bpf(8), direct action).
 *
 * @module
 */
import { constants } from "node:os";
import type { BpfProgram } from "./bpf_object.ts";
import { cString } from "./c_string.ts";
import { SystemError, unwrapNegated } from "./errno.ts";
import { libbpf } from "./libbpf_sys.ts";
import { libc } from "./libc_sys.ts";

/** Where at the interface a program runs. */
export type Direction = "ingress" | "egress";

/**
 * t2cp's place among an interface's filters: it looks for itself there, and leaves others alone. It is the first, since
 * an earlier filter that accepts a frame would let it pass unseen.
 */
const HANDLE = 0x7432;
const PRIORITY = 1;

/** libbpf's `enum bpf_tc_attach_point`. */
const ATTACH_POINT = { ingress: 1, egress: 2, both: 3 } as const;

/** The index of interface `name`, or 0 where there is none. */
export function interfaceIndex(name: string): number {
  return libc().if_nametoindex(cString(name));
}

/** A `struct bpf_tc_hook`. */
function hookOf(ifindex: number, point: keyof typeof ATTACH_POINT): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigUint64(0, 24n, true);
  view.setInt32(8, ifindex, true);
  view.setInt32(12, ATTACH_POINT[point], true);
  return new Uint8Array(view.buffer);
}

/** A `struct bpf_tc_opts`; detach and query want handle and priority only. */
function optsOf(programFd = 0): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(32));
  view.setBigUint64(0, 32n, true);
  view.setInt32(8, programFd, true);
  view.setUint32(20, HANDLE, true);
  view.setUint32(24, PRIORITY, true);
  return new Uint8Array(view.buffer);
}

/** The identifier of the program in t2cp's place, or undefined where it is free. */
export function attachedProgram(ifindex: number, direction: Direction): number | undefined {
  const opts = optsOf();
  const result = libbpf().bpf_tc_query(hookOf(ifindex, direction), opts);
  if (result === -constants.errno.ENOENT || result === -constants.errno.EINVAL) return undefined;
  unwrapNegated(result, `query the ${direction} filters of interface ${ifindex}`);
  return new DataView(opts.buffer).getUint32(16, true);
}

/**
 * Attaches `program` in t2cp's place, and makes the clsact qdisc where there is none.
 *
 * @throws {SystemError} EEXIST where the place is taken
 */
export function attach(ifindex: number, direction: Direction, program: BpfProgram): void {
  const attempted = `attach "${program.name}" at ${direction} of interface ${ifindex}`;
  const created = libbpf().bpf_tc_hook_create(hookOf(ifindex, "both"));
  if (created < 0 && created !== -constants.errno.EEXIST) {
    throw new SystemError(attempted, -created);
  }
  const result = libbpf().bpf_tc_attach(hookOf(ifindex, direction), optsOf(program.fd));
  if (result < 0) {
    // A failed attach would leave behind the qdisc made for it.
    if (created === 0) libbpf().bpf_tc_hook_destroy(hookOf(ifindex, "both"));
    throw new SystemError(attempted, -result);
  }
}

/** Frees t2cp's place; nothing happens where it is free, or the interface is gone. */
export function detach(ifindex: number, direction: Direction): void {
  const result = libbpf().bpf_tc_detach(hookOf(ifindex, direction), optsOf());
  const { ENOENT, EINVAL, ENODEV } = constants.errno;
  if ([ENOENT, EINVAL, ENODEV].includes(-result)) return;
  unwrapNegated(result, `detach from ${direction} of interface ${ifindex}`);
}
