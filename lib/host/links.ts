/**
 * The interfaces of this host, by iproute2: /sys shows those of another network namespace where only the network
 * namespace was changed.
 *
 * @module
 */
import { parseMac } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** Runs `ip` or `tc` to its end, and returns what it printed; empty where it failed. */
export function iproute(tool: "ip" | "tc", ...args: string[]): string {
  try {
    const output = new Deno.Command(tool, { args, stdin: "null", stderr: "null" }).outputSync();
    return output.success ? new TextDecoder().decode(output.stdout) : "";
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure(ExitStatus.UNAVAILABLE, `Program "${tool}" is not installed`, {
      mend: "apt-get install iproute2",
      cause: error,
    });
  }
}

/** The Ethernet interfaces as they were when the host had those interfaces. */
let known: { all: string; ether: readonly string[] } | undefined;

/** The names of the Ethernet interfaces, up or down. Asking again is cheap as long as no interface comes or goes. */
export function etherInterfaces(): readonly string[] {
  // Of this process's network namespace, whatever is mounted where.
  const all = interfaceNames(Deno.readTextFileSync("/proc/net/dev")).join(" ");
  if (known?.all !== all) known = { all, ether: askForEther() };
  return known.ether;
}

/** The names in the text of /proc/net/dev: proc_net(5). */
export function interfaceNames(text: string): string[] {
  return text.split("\n").slice(2, -1).map((line) => line.slice(0, line.lastIndexOf(":")).trim());
}

function askForEther(): string[] {
  const links: { ifname: string; link_type: string }[] = JSON.parse(
    iproute("ip", "-j", "link", "show") || "[]",
  );
  return links.filter((link) => link.link_type === "ether").map((link) => link.ifname);
}

/**
 * The six bytes of interface `name`'s MAC address.
 *
 * @throws {Failure} with status NO_INPUT where it has no IP address
 */
export function macOf(name: string): Uint8Array<ArrayBuffer> {
  const found = Deno.networkInterfaces().find((own) => own.name === name);
  if (found !== undefined) return parseMac(found.mac);
  throw new Failure(ExitStatus.NO_INPUT, `Interface "${name}" has no address`, {
    mend: `see ip address show dev ${name}`,
  });
}

/** The MTU of interface `name`, in bytes; that of Ethernet where it cannot be read. */
export function mtuOf(name: string): number {
  const links: { mtu: number }[] = JSON.parse(
    iproute("ip", "-j", "link", "show", "dev", name) || "[]",
  );
  return links[0]?.mtu ?? 1500;
}

/** Bytes of IP of the largest frame that offload makes on any interface of this host; 64 KiB where nobody says. */
export function largestOffload(): number {
  const links: Record<string, unknown>[] = JSON.parse(
    iproute("ip", "-d", "-j", "link", "show") || "[]",
  );
  const names = ["gso_max_size", "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size"];
  const sizes = links.flatMap((link) => names.map((name) => Number(link[name] ?? 0)));
  return Math.max(65536, ...sizes);
}

/** Whether interface `name` has the older qdisc that takes clsact's place and has no egress. */
export function hasIngressQdisc(name: string): boolean {
  return /^qdisc ingress /m.test(iproute("tc", "qdisc", "show", "dev", name));
}

/** Removes the clsact qdisc of interface `name` where no filter is left in it. */
export function removeEmptyClsact(name: string): void {
  const filters = ["ingress", "egress"].map((direction) =>
    iproute("tc", "filter", "show", "dev", name, direction).trim()
  );
  if (filters.some((text) => text !== "")) return;
  iproute("tc", "qdisc", "del", "dev", name, "clsact");
}
