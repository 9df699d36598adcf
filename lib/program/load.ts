/**
 * Loading of the built BPF objects.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { type BpfParts, LoadError, loadObject } from "../../ffi/bpf_object.ts";
import { ExitStatus, Failure } from "../failure.ts";

function objectPath(object: string): string {
  return fileURLToPath(new URL(`../../ffi/bpf/built/${object}`, import.meta.url));
}

/** What the verifier says of a program that it refuses. */
const VERIFIER: readonly string[] = ["EACCES", "EINVAL", "E2BIG"];

/**
 * Loads the built object `object` of command `name`.
 *
 * @throws {Failure} with status UNAVAILABLE where the kernel refuses it
 */
export function loadPrograms({ name, object }: { name: string; object: string }): BpfParts {
  try {
    return loadObject(objectPath(object));
  } catch (error) {
    if (!(error instanceof LoadError) || !VERIFIER.includes(error.code)) throw error;
    const last = error.log.split("\n").at(-1) ?? "";
    throw new Failure(
      ExitStatus.UNAVAILABLE,
      `The kernel refuses the programs of t2cp ${name}: ${last || error.code}`,
      { mend: `run another kernel, and report this one with what "uname -r" says`, cause: error },
    );
  }
}
