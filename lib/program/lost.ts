/**
 * Programs at interfaces whose pins are lost.
 *
 * @module
 */
import { disposeParts, openAttached } from "../../ffi/bpf_object.ts";
import { attachedProgram, detach, type Direction, interfaceIndex } from "../../ffi/tc.ts";
import { etherInterfaces, removeEmptyClsact } from "../host/links.ts";

/** Detaches the programs of t2cp with this name, wherever they are attached. */
export function detachByName(direction: Direction, program: string): void {
  for (const name of etherInterfaces()) {
    const ifindex = interfaceIndex(name);
    const id = ifindex === 0 ? undefined : attachedProgram(ifindex, direction);
    if (id === undefined) continue;
    const parts = openAttached([id]);
    const found = parts.programs.has(program);
    disposeParts(parts);
    if (!found) continue;
    detach(ifindex, direction);
    removeEmptyClsact(name);
  }
}
