/**
 * The addresses that a takeover put on the interface: remembered in the run directory, so that they can be taken away
 * again.
 *
 * @module
 */
import { join } from "node:path";
import { familyOf, parseService } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { runTool } from "../host/facts.ts";
import { lacking, theseInterfaces, unusable } from "./place.ts";

/** What was put where. */
interface Put {
  interface: string;
  addresses: string[];
  /** The services at these addresses, as formatService writes them. */
  services: string[];
}

function recordPath(runDir: string): string {
  return join(runDir, "claim.json");
}

function readPut(runDir: string): Put | undefined {
  try {
    const put = JSON.parse(Deno.readTextFileSync(recordPath(runDir)));
    const lists = [put.addresses, put.services];
    return typeof put.interface === "string" && lists.every(Array.isArray) ? put : undefined;
  } catch {
    // None, or a damaged one: then nobody knows what was there before.
    return undefined;
  }
}

function writePut(runDir: string, put: Put): void {
  const path = recordPath(runDir);
  Deno.writeTextFileSync(`${path}.new`, JSON.stringify(put) + "\n", { mode: 0o600 });
  Deno.renameSync(`${path}.new`, path);
}

function withPrefix(address: string): string {
  return `${address}/${familyOf(address) === 4 ? 32 : 128}`;
}

/** The addresses of services. */
export function addressesOf(services: readonly string[]): string[] {
  return [...new Set(services.map((text) => parseService(text).address))];
}

/**
 * Puts those addresses of `services` that interface `name` lacks on it, and remembers which. `warn` is told of each that the
 * kernel refuses.
 */
export async function putAddresses(
  runDir: string,
  name: string,
  services: readonly string[],
  warn: (message: string) => void,
): Promise<void> {
  const addresses = addressesOf(services);
  // Another host had it when it was put there, and the kernel keeps silent about it ever since.
  const silent = unusable(name).filter((address) => addresses.includes(address));
  for (const address of silent) {
    await runTool("ip", ["address", "flush", "dev", name, "to", withPrefix(address)], "iproute2");
  }
  const missing = lacking(name, addresses, theseInterfaces);
  if (missing.length === 0) return;
  const earlier = readPut(runDir);
  const kept = earlier?.interface === name ? earlier.addresses : [];
  try {
    // Before the first is put there: who is killed in between leaves no address that nobody takes away.
    const all = [...new Set([...kept, ...missing])];
    writePut(runDir, { interface: name, addresses: all, services: [...services] });
  } catch (error) {
    warn(`What addresses were put on interface "${name}" could not be noted: ${error}`);
  }
  for (const address of missing) {
    const args = ["address", "replace", withPrefix(address), "dev", name];
    // Duplicate address detection would keep a new address silent for a second.
    if (familyOf(address) === 6) args.push("nodad");
    const result = await runTool("ip", args, "iproute2");
    if (result.code === 0) continue;
    warn(`Address "${address}" could not be put on interface "${name}": ${result.stderr}`);
  }
}

/** The services whose addresses a takeover has put on an interface. */
export function servicesPut(runDir: string): string[] {
  return readPut(runDir)?.services ?? [];
}

/**
 * Takes away what {@linkcode putAddresses} has put there, and forgets it. Returns the addresses that were taken away.
 *
 * @throws {Failure} with status OS where the kernel refuses it
 */
export async function removeAddresses(runDir: string): Promise<string[]> {
  const put = readPut(runDir);
  if (put === undefined) return [];
  const missing = lacking(put.interface, put.addresses, theseInterfaces);
  const there = put.addresses.filter((address) => !missing.includes(address));
  for (const address of there) {
    const args = ["address", "del", withPrefix(address), "dev", put.interface];
    const result = await runTool("ip", args, "iproute2");
    if (result.code === 0) continue;
    throw new Failure(
      ExitStatus.OS,
      `Address "${address}" could not be removed from interface "${put.interface}": ` +
        result.stderr,
      { mend: `ip ${args.join(" ")}` },
    );
  }
  Deno.removeSync(recordPath(runDir));
  return there;
}
