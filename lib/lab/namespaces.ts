/**
 * Builds and removes the lab's four network namespaces.
 *
 * @module
 */

import { type Family, familyOf } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { run, until } from "./system.ts";
import {
  BRIDGE,
  COMMON_SETTINGS,
  LINKS,
  type Role,
  ROLES,
  ROUTES,
  SERVICE_PLACES,
  SETTINGS,
} from "./topology.ts";

const DIRECTORY = "/run/netns";

/** The name of the namespace of `role` in lab `lab`, as `ip netns` lists it. */
export function namespaceName(lab: string, role: Role): string {
  return `t2cp-${lab}-${role}`;
}

/**
 * The command line that runs `argv` as a process of `role`. It enters the network namespace only:
 * `ip netns exec` would also replace /sys and hide the mounts made inside.
 */
export function inRole(lab: string, role: Role, argv: readonly string[]): string[] {
  return ["nsenter", `--net=${DIRECTORY}/${namespaceName(lab, role)}`, "--", ...argv];
}

/** The names of the namespaces of lab `lab` that exist. */
export function existingNamespaces(lab: string): string[] {
  return ROLES.map((role) => namespaceName(lab, role)).filter((name) => inode(name) !== undefined);
}

/** The inode number of the network namespace of `role` in lab `lab`; undefined for none. */
export function namespaceInode(lab: string, role: Role): number | undefined {
  return inode(namespaceName(lab, role));
}

/** The inode numbers of the network namespaces of lab `lab`, by which processes are found. */
export function namespaceInodes(lab: string): Set<number> {
  return new Set(existingNamespaces(lab).map((name) => inode(name)!));
}

/**
 * Opens the network namespaces of lab `lab`. Until they are closed they live, and no new one gets an inode number of
 * theirs, by which its processes would be taken for the lab's.
 */
export function holdNamespaces(lab: string): Deno.FsFile[] {
  return existingNamespaces(lab).map((name) => Deno.openSync(`${DIRECTORY}/${name}`));
}

function inode(name: string): number | undefined {
  try {
    return Deno.statSync(`${DIRECTORY}/${name}`).ino ?? undefined;
  } catch {
    return undefined;
  }
}

/** The IP versions that a lab can have here: IPv6 only where the kernel has it. */
export function families(): Family[] {
  try {
    Deno.statSync("/proc/net/if_inet6");
    return [4, 6];
  } catch {
    return [4];
  }
}

/**
 * Creates the namespaces with their links, addresses, routes and kernel settings, and waits until
 * every address can be used.
 *
 * @throws {Failure} where a step is refused; what was made so far stays
 */
export async function createNetwork(lab: string): Promise<void> {
  for (const role of ROLES) await run(["ip", "netns", "add", namespaceName(lab, role)]);
  await Promise.all(ROLES.map((role) => applySettings(lab, role)));
  await run(["ip", "-batch", "-"], { stdin: linkBatch(lab).join("\n") + "\n" });
  const configure = (role: Role) =>
    run(inRole(lab, role, ["ip", "-batch", "-"]), {
      stdin: hostBatch(role).join("\n") + "\n",
    });
  // The switch is there before anything is plugged into it.
  await configure("gateway");
  for (const role of ROLES) if (role !== "gateway") await configure(role);
  for (const role of ROLES) await waitForAddresses(lab, role);
}

/** Waits until no address of `role` is tentative any more, nor a link still coming up. */
async function waitForAddresses(lab: string, role: Role): Promise<void> {
  if (!families().includes(6)) return;
  const show = (...what: string[]) => run(inRole(lab, role, ["ip", "-oneline", "-6", ...what]));
  const ends = [BRIDGE, ...LINKS.flat()].filter((end) => end.role === role && !end.bridge);
  const ready = async () => {
    if (await show("address", "show", "tentative") !== "") return false;
    const links = await show("address", "show", "scope", "link");
    return ends.every(({ name }) => links.includes(` ${name} `));
  };
  if (await until(ready, 20_000)) return;
  throw new Failure(ExitStatus.OS, `The IPv6 addresses of host "${role}" do not come up`);
}

/** Creates every veth pair with one end in each namespace. */
function linkBatch(lab: string): string[] {
  return LINKS.map(([host, gateway]) =>
    `link add name ${host.name} address ${host.mac} netns ${namespaceName(lab, host.role)} ` +
    `type veth peer name ${gateway.name} address ${gateway.mac} ` +
    `netns ${namespaceName(lab, gateway.role)}`
  );
}

/** Everything inside the namespace of `role`. */
function hostBatch(role: Role): string[] {
  const usable = families();
  const own = (addresses: readonly string[]) =>
    addresses.filter((address) => usable.includes(familyOf(address.split("/")[0]!)!));
  const lines = ["link set lo up"];
  const ends = LINKS.flat().filter((end) => end.role === role);
  if (role === BRIDGE.role) {
    lines.push(
      `link add name ${BRIDGE.name} address ${BRIDGE.mac} type bridge ` +
        `stp_state 0 forward_delay 0 mcast_snooping 0`,
    );
    ends.push(BRIDGE);
  }
  for (const end of ends) {
    if (end.bridge !== undefined) {
      // A port has no addresses, not even the one that IPv6 makes by itself.
      lines.push(`link set ${end.name} master ${end.bridge} addrgenmode none`);
    }
    for (const address of own(end.addresses)) lines.push(`address add ${address} dev ${end.name}`);
    lines.push(`link set ${end.name} up`);
  }
  for (const place of SERVICE_PLACES.filter((place) => place.role === role)) {
    for (const address of own(place.addresses)) {
      lines.push(`address add ${address} dev ${place.name}`);
    }
  }
  for (const { via, metrics } of ROUTES.filter((entry) => entry.role === role)) {
    for (const family of usable) lines.push(`route add default via ${via[family]} ${metrics}`);
  }
  return lines;
}

async function applySettings(lab: string, role: Role): Promise<void> {
  const script = Object.entries({ ...COMMON_SETTINGS, ...SETTINGS[role] })
    .map(([name, value]) => {
      const file = `/proc/sys/${name}`;
      // A kernel without MPTCP or IPv6 has no such setting and needs none.
      const guard = /^net\/(mptcp|ipv6)\//.test(name) ? `[ ! -e ${file} ] || ` : "";
      return `${guard}echo "${value}" > ${file}`;
    });
  await run(inRole(lab, role, ["sh", "-e", "-c", script.join("\n")]));
}

/** Whether /run/netns is a mount of its own, which `ip netns add` makes at its first use. */
export function namespaceMountExists(): boolean {
  return Deno.readTextFileSync("/proc/self/mountinfo").split("\n")
    .some((line) => line.split(" ")[4] === DIRECTORY);
}

/** Removes the namespaces of lab `lab` that exist. */
export async function removeNamespaces(lab: string): Promise<void> {
  for (const name of existingNamespaces(lab)) await run(["ip", "netns", "delete", name]);
}

/** Undoes the mount of /run/netns if no namespace has a name any more; else leaves it. */
export async function removeNamespaceMount(): Promise<void> {
  try {
    if (!namespaceMountExists()) return;
    for await (const _ of Deno.readDir(DIRECTORY)) return;
    await run(["umount", DIRECTORY]);
    await Deno.remove(DIRECTORY);
  } catch {
    // Another program has just put a namespace there: then the mount is in use and stays.
  }
}
