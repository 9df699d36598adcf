/**
 * `shadow --clear`: the way back from shadow mode, in the order that keeps the host silent.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import { parseService, type Service } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { Mode } from "../flow/layout.ts";
import { runTool, ss } from "../host/facts.ts";
import { Instance, openPinnedMaps } from "../program/instance.ts";
import { readRecord, removePinDir, removeRecord, takeLock } from "../program/run_dir.ts";
import { answersArp, type HostFacts } from "./preflight.ts";
import { Control, shadowKind } from "./programs.ts";

/** What {@linkcode clearShadow} did. */
export interface Cleared {
  /** Whether there was anything to clear. */
  found: boolean;
  /** The mode that it was in. */
  active: boolean;
}

/**
 * Takes down what `shadow` set up under `runDir`: in shadow mode first the replica's sockets, then the programs. An
 * active host keeps its sockets, since clients talk to them.
 *
 * @throws {Failure} where a shadow runs, or where the host would begin to answer for the service's address
 */
export async function clearShadow(runDir: string, host: HostFacts): Promise<Cleared> {
  const record = readRecord(runDir, "shadow");
  if (record === undefined) return { found: false, active: false };
  using _lock = takeLock(runDir, "shadow");
  const services = record.services.map(parseService);
  const maps = openPinnedMaps(shadowKind, runDir);
  const active = maps !== undefined && modeOf(maps.get("control")!) !== Mode.SHADOW;
  for (const map of maps?.values() ?? []) map[Symbol.dispose]();
  if (maps !== undefined && interfaceIndex(record.interface) !== 0) {
    if (!active) {
      refuseToSpeak(services, record.interface, host);
      await destroySockets(services);
    }
    using instance = Instance.open(shadowKind, runDir, record.interface, () => {});
    instance.clear();
  }
  removePinDir(runDir, "shadow");
  removeRecord(runDir, "shadow");
  return { found: true, active };
}

function modeOf(map: BpfMap): number {
  using control = new Control(map);
  return control.mode;
}

/** Without the programs the host must not claim the primary's address. */
function refuseToSpeak(services: readonly Service[], interfaceName: string, host: HostFacts): void {
  if (!answersArp(interfaceName, host)) return;
  const here = host.addresses();
  const address = services.find((service) =>
    service.family === 4 && here.some((own) => own.address === service.address)
  )?.address;
  if (address === undefined) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `Without t2cp's programs this host would answer ARP for "${address}"`,
    {
      mend: `first ip address del ${address}/32 dev lo, or ` +
        `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`,
    },
  );
}

/** Ends the replica's connections of `services`; the programs hold back the resets that this sends. */
export async function destroySockets(services: readonly Service[]): Promise<void> {
  for (const service of services) {
    const host = service.family === 6 ? `[${service.address}]` : service.address;
    const filter = ["src", `${host}`, "sport", "=", `:${service.port}`];
    // Destroying takes one pass; TIME-WAIT sockets that appear by it take another.
    for (let pass = 0; pass < 2; pass++) {
      await runTool("ss", ["-HKtn", "state", "connected", ...filter], "iproute2");
    }
    const left = (await ss(["-Htn", "state", "connected", ...filter])).trim();
    if (left === "") continue;
    throw new Failure(
      ExitStatus.OS,
      `Some connections of service "${host}:${service.port}" could not be destroyed`,
      { mend: "stop the service on this host, then try again" },
    );
  }
}
