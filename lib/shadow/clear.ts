/**
 * `shadow --clear`: the way back from shadow mode, in the order that keeps the host silent.
 *
 * @module
 */
import { parseService, type Service } from "../address.ts";
import { removeAddresses, servicesPut } from "../claim/addresses.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { Mode } from "../flow/layout.ts";
import { runTool, ss } from "../host/facts.ts";
import { Instance } from "../program/instance.ts";
import { readRecord, removePinDir, removeRecord, takeLock } from "../program/run_dir.ts";
import { betrayed, type HostFacts, listenersOf, silenceAddress } from "./preflight.ts";
import { Control, readCounters, shadowKind } from "./programs.ts";

/** What {@linkcode clearShadow} did. */
export interface Cleared {
  /** Whether there was anything to clear. */
  found: boolean;
  /** Whether the host had taken over. */
  active: boolean;
  /** The addresses that the takeover had put on the interface, and that are taken away. */
  addresses: string[];
}

/** Copied traffic is looked for as long as this before the programs go, in milliseconds. */
const LISTEN = 300;

/**
 * Takes down what `shadow` set up under `runDir`: in shadow mode first the replica's sockets, then the programs. An
 * active host keeps its sockets, since clients talk to them, and the addresses as long as somebody listens there. With `force`, open connections are no reason to refuse.
 *
 * @throws {Failure} where a shadow runs, copied traffic still arrives or may arrive again, or the host would begin to
 *   answer for the service's address
 */
export async function clearShadow(
  runDir: string,
  host: HostFacts,
  force: boolean,
): Promise<Cleared> {
  const record = readRecord(runDir, "shadow");
  if (record === undefined) {
    const addresses = await removeUnserved(runDir, host);
    return { found: addresses.length > 0, active: true, addresses };
  }
  using _lock = takeLock(runDir, "shadow");
  const services = record.services.map(parseService);
  using instance = Instance.find(shadowKind, runDir, record.interface);
  using control = instance === undefined ? undefined : new Control(instance.map("control"));
  const active = control !== undefined && control.mode !== Mode.SHADOW;
  // In shadow mode they are the primary's again.
  const addresses = active ? await removeUnserved(runDir, host) : await removeAddresses(runDir);
  if (!active) {
    refuseToSpeak(services, record.interface, host);
    if (instance !== undefined) await refuseWhileFed(instance);
    if (instance !== undefined && !force) refuseWhileOpen(instance, services, host);
    control?.drain();
    await destroySockets(services);
  }
  instance?.clear();
  removePinDir(runDir, "shadow");
  removeRecord(runDir, "shadow");
  return { found: true, active, addresses };
}

/** Takes the addresses away from the interface, unless this host serves clients there. */
async function removeUnserved(runDir: string, host: HostFacts): Promise<string[]> {
  const services = servicesPut(runDir).map(parseService);
  if (services.length === 0) return [];
  const listeners = await host.listeners();
  const served = services.some((service) => listenersOf(service, listeners).length > 0);
  return served ? [] : await removeAddresses(runDir);
}

/** Without the programs the host's own stack would answer copied segments. */
async function refuseWhileFed(instance: Instance): Promise<void> {
  const fed = (): number => {
    const counters = readCounters(instance.map("counters"));
    return counters["client_segments"]! + counters["primary_segments"]! + counters["unknown_flow"]!;
  };
  const before = fed();
  await new Promise((resolve) => setTimeout(resolve, LISTEN));
  if (fed() === before) return;
  throw new Failure(
    ExitStatus.TEMPORARY,
    `Copied traffic still arrives on interface "${instance.interface}"`,
    { mend: "stop t2cp mirror on the gateway first" },
  );
}

/**
 * A connection that is quiet for now tells nothing of a mirror that still runs. Without the programs this host would
 * answer its next segment by a reset to the client; without the address it would not.
 */
function refuseWhileOpen(instance: Instance, services: readonly Service[], host: HostFacts): void {
  const own = new Set(host.addresses().map(({ address }) => address));
  const address = services.find((service) => own.has(service.address))?.address;
  const { count } = instance.map("flows").entries();
  if (address === undefined || count === 0) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `${count === 1 ? "A connection is" : `${count} connections are`} open on the primary; ` +
      "if t2cp mirror still runs, this host would reset what is open",
    { mend: "stop t2cp mirror on the gateway, then: t2cp shadow --clear --force" },
  );
}

/** Without the programs the host must not claim the primary's address. */
function refuseToSpeak(services: readonly Service[], interfaceName: string, host: HostFacts): void {
  const address = betrayed(services, interfaceName, host)[0];
  if (address === undefined) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `Without t2cp's programs this host would answer ARP for "${address}"`,
    { mend: `first ${silenceAddress(address, interfaceName, host)}` },
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
