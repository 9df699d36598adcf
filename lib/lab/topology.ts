/**
 * The lab's network as data: four roles, their links, addresses and routes.
 *
 *     client 10.77.1.2 --- 10.77.1.1 gateway 10.77.0.1 --- br0 --- 10.77.0.11 primary
 *                                                              `-- 10.77.0.12 backup
 *
 * @module
 */

/** The four hosts of a lab. */
export const ROLES = ["client", "gateway", "primary", "backup"] as const;

/** One of the four hosts of a lab. */
export type Role = typeof ROLES[number];

/** The roles that run commands of t2cp and therefore have a run directory of their own. */
export const COMMAND_ROLES = ["gateway", "primary", "backup"] as const;

/** The address of the service: on the primary's interface, and on the backup's loopback. */
export const SERVICE_ADDRESS = "10.77.0.100";

/** One end of a link. */
export interface End {
  /** The host that owns the interface. */
  role: Role;
  /** The interface's name. */
  name: string;
  /** The interface's hardware address. */
  mac: string;
  /** Addresses with prefix length. */
  addresses: string[];
  /** The bridge that the interface is a port of. */
  bridge?: string;
}

/** The Ethernet segment behind the gateway, which both servers share. */
export const BRIDGE: End = {
  role: "gateway",
  name: "br0",
  mac: "02:77:00:00:00:01",
  addresses: ["10.77.0.1/24"],
};

/** Every point-to-point link: the host's end first, the gateway's end second. */
export const LINKS: readonly (readonly [End, End])[] = [
  [
    { role: "client", name: "eth0", mac: "02:77:00:00:01:02", addresses: ["10.77.1.2/24"] },
    { role: "gateway", name: "eth0", mac: "02:77:00:00:01:01", addresses: ["10.77.1.1/24"] },
  ],
  [
    { role: "primary", name: "eth0", mac: "02:77:00:00:00:11", addresses: ["10.77.0.11/24"] },
    {
      role: "gateway",
      name: "primary",
      mac: "02:77:00:00:00:a1",
      addresses: [],
      bridge: BRIDGE.name,
    },
  ],
  [
    { role: "backup", name: "eth0", mac: "02:77:00:00:00:12", addresses: ["10.77.0.12/24"] },
    {
      role: "gateway",
      name: "backup",
      mac: "02:77:00:00:00:a2",
      addresses: [],
      bridge: BRIDGE.name,
    },
  ],
];

/** Where the service's address is. */
export const SERVICE_PLACES: readonly { role: Role; name: string; address: string }[] = [
  { role: "primary", name: "eth0", address: `${SERVICE_ADDRESS}/32` },
  { role: "backup", name: "lo", address: `${SERVICE_ADDRESS}/32` },
];

/**
 * Default routes, in the words of ip-route(8). Both servers use cubic, since BBR on the replica
 * would measure the microseconds of its own loopback; the backup's initial window takes an upload
 * at full speed before its buffer has been tuned.
 */
export const ROUTES: readonly { role: Role; route: string }[] = [
  { role: "client", route: "default via 10.77.1.1" },
  { role: "primary", route: "default via 10.77.0.1 congctl cubic" },
  { role: "backup", route: "default via 10.77.0.1 congctl cubic initrwnd 10000" },
];

/** Kernel settings of each host, relative to /proc/sys. */
export const SETTINGS: Readonly<Record<Role, Readonly<Record<string, string>>>> = {
  client: {},
  gateway: { "net/ipv4/ip_forward": "1" },
  primary: { "net/mptcp/enabled": "0" },
  backup: {
    "net/mptcp/enabled": "0",
    // The replica's address is on lo: without t2cp's programs, too, nobody may learn of it.
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv4/conf/all/arp_announce": "2",
    "net/ipv4/tcp_syncookies": "1",
    "net/ipv4/tcp_rmem": "4096 16777216 67108864",
  },
};

/** The interface of `role` that faces the gateway. */
export function hostEnd(role: "client" | "primary" | "backup"): End {
  return LINKS.find(([host]) => host.role === role)![0];
}

/** The first address of `role`'s interface towards the gateway, without prefix length. */
export function hostAddress(role: "client" | "primary" | "backup"): string {
  return hostEnd(role).addresses[0]!.split("/")[0]!;
}
