/**
 * The MAC addresses of neighbours.
 *
 * @module
 */
import { familyOf, isMac, parseAddress, parseMac } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { runTool } from "../host/facts.ts";

/** How long a neighbour may take to answer, in milliseconds. */
const PATIENCE = 3000;

/**
 * The MAC address that `text` is, or that the neighbour with that IP address has on interface `interfaceName`.
 *
 * @throws {Failure} with status UNAVAILABLE where the neighbour does not answer
 */
export async function resolveMac(text: string, interfaceName: string): Promise<Uint8Array> {
  if (isMac(text)) return parseMac(text);
  const address = parseAddress(text);
  const end = performance.now() + PATIENCE;
  let asked = false;
  do {
    const mac = await lookUp(address, interfaceName);
    if (mac !== undefined) return parseMac(mac);
    if (!asked) await ask(address);
    asked = true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  } while (performance.now() < end);
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `Host "${address}" does not answer on interface "${interfaceName}"`,
    { mend: "start it, or give its MAC address instead" },
  );
}

async function lookUp(address: string, interfaceName: string): Promise<string | undefined> {
  const args = ["-j", "neighbour", "show", "to", address, "dev", interfaceName];
  const { stdout } = await runTool("ip", args, "iproute2");
  const entries: { lladdr?: string; state?: string[] }[] = JSON.parse(stdout || "[]");
  const known = entries.find((entry) => entry.lladdr !== undefined);
  return known?.state?.includes("FAILED") ? undefined : known?.lladdr;
}

/** Makes the kernel look for the neighbour: any packet does, and nobody need read this one. */
async function ask(address: string): Promise<void> {
  const { createSocket } = await import("node:dgram");
  const socket = createSocket(familyOf(address) === 4 ? "udp4" : "udp6");
  await new Promise<void>((resolve) => {
    socket.send(new Uint8Array(1), 9, /* discard */ address, () => socket.close(resolve));
  });
}
