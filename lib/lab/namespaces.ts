/**
 * Builds and removes the lab's four network namespaces.
 *
 * @module
 */

import { BRIDGE, LINKS, type Role, ROLES, ROUTES, SERVICE_PLACES, SETTINGS } from "./topology.ts";
import { run } from "./system.ts";

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

/** The inode numbers of the network namespaces of lab `lab`, by which processes are found. */
export function namespaceInodes(lab: string): Set<number> {
  return new Set(existingNamespaces(lab).map((name) => inode(name)!));
}

function inode(name: string): number | undefined {
  try {
    return Deno.statSync(`${DIRECTORY}/${name}`).ino ?? undefined;
  } catch {
    return undefined;
  }
}

/**
 * Creates the namespaces with their links, addresses, routes and kernel settings.
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
    if (end.bridge !== undefined) lines.push(`link set ${end.name} master ${end.bridge}`);
    for (const address of end.addresses) lines.push(`address add ${address} dev ${end.name}`);
    lines.push(`link set ${end.name} up`);
  }
  for (const place of SERVICE_PLACES.filter((place) => place.role === role)) {
    lines.push(`address add ${place.address} dev ${place.name}`);
  }
  for (const { route } of ROUTES.filter((entry) => entry.role === role)) {
    lines.push(`route add ${route}`);
  }
  return lines;
}

async function applySettings(lab: string, role: Role): Promise<void> {
  const script = Object.entries(SETTINGS[role])
    .map(([name, value]) => {
      const file = `/proc/sys/${name}`;
      // A kernel built without MPTCP has no such setting and needs none.
      const guard = name.startsWith("net/mptcp/") ? `[ ! -e ${file} ] || ` : "";
      return `${guard}echo "${value}" > ${file}`;
    });
  if (script.length === 0) return;
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
