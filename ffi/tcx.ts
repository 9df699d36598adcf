/**
 * BPF programs at an interface's tcx hooks, which run before every filter of clsact (Linux 6.6).
 *
 * @module
 */
import { constants } from "node:os";
import type { BpfProgram } from "./bpf_object.ts";
import { unwrapNegated } from "./errno.ts";
import { libbpf } from "./libbpf_sys.ts";

/** BPF_TCX_INGRESS of `enum bpf_attach_type`. */
const TCX_INGRESS = 46;

/** BPF_F_BEFORE: in front of the programs that are there. */
const BEFORE = 1 << 3;

/** The kernel's bound on the programs of one hook (BPF_MPROG_MAX). */
const MAX_PROGRAMS = 64;

/**
 * Attaches `program` to the ingress of interface `ifindex`, in front of whatever is there. It stays for as long as the
 * interface, with no need for a pin.
 *
 * @throws {SystemError} EEXIST where it is there already, EINVAL where the kernel has no tcx, ENODEV for no interface
 */
export function attachIngress(ifindex: number, program: BpfProgram): void {
  const result = libbpf().bpf_prog_attach(program.fd, ifindex, TCX_INGRESS, BEFORE);
  unwrapNegated(result, `attach "${program.name}" at the ingress of interface ${ifindex}`);
}

/** Detaches `program` from the ingress of interface `ifindex`; nothing happens where it is not there. */
export function detachIngress(ifindex: number, program: BpfProgram): void {
  const result = libbpf().bpf_prog_detach2(program.fd, ifindex, TCX_INGRESS);
  const { ENOENT, ENODEV, EINVAL } = constants.errno;
  if ([ENOENT, ENODEV, EINVAL].includes(-result)) return;
  unwrapNegated(result, `detach from the ingress of interface ${ifindex}`);
}

/** The identifiers of the programs at the ingress of interface `ifindex`, in the order in which they run. */
export function ingressPrograms(ifindex: number): number[] {
  const ids = new Uint32Array(MAX_PROGRAMS);
  const count = new Uint32Array([MAX_PROGRAMS]);
  const result = libbpf().bpf_prog_query(ifindex, TCX_INGRESS, 0, null, ids, count);
  const { ENOENT, ENODEV, EINVAL } = constants.errno;
  if ([ENOENT, ENODEV, EINVAL].includes(-result)) return [];
  unwrapNegated(result, `query the ingress of interface ${ifindex}`);
  return [...ids.subarray(0, count[0])];
}
