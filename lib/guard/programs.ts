/**
 * The guard's programs and maps, as TypeScript sees them.
 *
 * @module
 */
import { join } from "node:path";
import { mountControlGroups, unmount } from "../../ffi/bpf_fs.ts";
import { BpfLink } from "../../ffi/bpf_link.ts";
import { networkNamespace } from "../../ffi/process.ts";
import { SystemError } from "../../ffi/errno.ts";
import type { Service } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { SERVICE_KEY, serviceKeys } from "../flow/layout.ts";
import { macOf } from "../host/links.ts";
import type { Instance, InstanceKind } from "../program/instance.ts";
import { CRASH, GUARD_CONTROL, guardCounters, GUARDED, HELD } from "./layout.ts";

/** Programs and maps of `guard`. */
export const guardKind: InstanceKind = {
  name: "guard",
  object: "guard.bpf.o",
  everywhere: true,
  programs: ["guard_sockops", "guard_exit", "guard_older"],
  valueSizes: {
    control: GUARD_CONTROL.size,
    services: GUARDED.size,
    flows: HELD.size,
    crashes: CRASH.size,
    watched: 4,
    counters: 8,
    events: 0,
  },
};

/** How long the programs hold a flow beyond the bound, in milliseconds: until then user space lets it go. */
const SLACK = 1000;

/** Fills the maps: `release` is the bound in milliseconds. What is known of services that stay is kept. */
export function configure(
  instance: Instance,
  services: readonly Service[],
  interfaceName: string,
  release: number,
): void {
  const value = new Uint8Array(GUARD_CONTROL.size);
  value.set(networkNamespace(), GUARD_CONTROL.netns_cookie);
  value.set(macOf(interfaceName), GUARD_CONTROL.own_mac);
  const bound = BigInt(Math.round((release + SLACK) * 1e6));
  new DataView(value.buffer).setBigUint64(GUARD_CONTROL.release_ns, bound, true);
  const map = instance.map("services");
  const wanted = serviceKeys(services);
  const known = map.entries();
  for (let i = 0; i < known.count; i++) {
    const key = known.keys.slice(i * SERVICE_KEY.size, (i + 1) * SERVICE_KEY.size);
    if (!wanted.some((other) => other.every((byte, at) => byte === key[at]))) map.delete(key);
  }
  for (const key of wanted) {
    if (!map.lookup(key, new Uint8Array(GUARDED.size))) {
      map.update(key, new Uint8Array(GUARDED.size));
    }
  }
  instance.map("control").update(new Uint8Array(4), value);
}

/** The name of the pin that keeps the programs at the control group when user space is killed. */
const LINK = "sockops_link";

/**
 * Attaches what sees connections close and processes end, and puts connections that are older under guard. Disposing of
 * the result ends the reports of processes; connections stay guarded until the instance is cleared.
 *
 * @throws {Failure} with status NO_INPUT where there is no such control group
 */
export function attachProbes(
  instance: Instance,
  runDir: string,
  controlGroup: string | undefined,
): Disposable {
  using connections = atControlGroup(instance, runDir, controlGroup);
  instance.pinBeside(LINK, connections);
  const exits = BpfLink.atTracepoint(instance.program("guard_exit"));
  try {
    // Only now: a connection that is accepted meanwhile is seen by the one or the other.
    BpfLink.iterate(instance.program("guard_older"));
  } catch (error) {
    exits[Symbol.dispose]();
    throw error;
  }
  return exits;
}

/**
 * Attaches to control group `path`, or to the root of them all. For the latter they are mounted for a moment in the run
 * directory: where /sys was mounted anew, as by `ip netns exec`, they are nowhere else.
 */
function atControlGroup(instance: Instance, runDir: string, path: string | undefined): BpfLink {
  const program = instance.program("guard_sockops");
  if (path === undefined) {
    const root = join(runDir, "cgroup");
    Deno.mkdirSync(root, { recursive: true, mode: 0o700 });
    mountControlGroups(root);
    try {
      return BpfLink.atControlGroup(program, root);
    } finally {
      unmount(root);
      Deno.removeSync(root);
    }
  }
  try {
    return BpfLink.atControlGroup(program, path);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const found = ["ENOENT", "ENOTDIR", "EBADF"].includes(error.code);
    if (!found) throw error;
    throw new Failure(ExitStatus.NO_INPUT, `"${path}" is no control group of version 2`, {
      mend: `name a directory below a mount of type cgroup2, as "mount -t cgroup2" lists them`,
      cause: error,
    });
  }
}

/** The counters by name. */
export function readGuardCounters(instance: Instance): Record<string, number> {
  const sums = instance.map("counters").sums();
  return Object.fromEntries(guardCounters.map((name, index) => [name, sums[index] ?? 0]));
}
