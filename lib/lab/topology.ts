/**
 * The lab's network as data: four roles, their links, addresses and routes, in IPv4 and, with the
 * documentation prefix (RFC 3849), in IPv6.
 *
 *     client 10.77.1.2 --- 10.77.1.1 gateway 10.77.0.1 --- br0 --- 10.77.0.11 primary
 *                                                              `-- 10.77.0.12 backup
 *
 *     client 2001:db8:77:1::2 --- ::1 gateway 2001:db8:77::1 --- br0 --- 2001:db8:77::11 primary
 *                                                                    `-- 2001:db8:77::12 backup
 *
 * @module
 */

import { type Family, familyOf } from "../address.ts";

/** The four hosts of a lab. */
export const ROLES = ["client", "gateway", "primary", "backup"] as const;

/** One of the four hosts of a lab. */
export type Role = typeof ROLES[number];

/** The roles that run commands of t2cp and therefore have a run directory of their own. */
export const COMMAND_ROLES = ["gateway", "primary", "backup"] as const;

/** The addresses of the service: on the primary's interface, and on the backup's loopback. */
export const SERVICE_ADDRESSES: Readonly<Record<Family, string>> = {
  4: "10.77.0.100",
  6: "2001:db8:77::100",
};

/** One end of a link. */
export interface End {
  /** The host that owns the interface. */
  role: Role;
  /** The interface's name. */
  name: string;
  /** The interface's hardware address. */
  mac: string;
  /** Addresses with prefix length, at most one of each IP version. */
  addresses: string[];
  /** The bridge that the interface is a port of. */
  bridge?: string;
}

/** The Ethernet segment behind the gateway, which both servers share. */
export const BRIDGE: End = {
  role: "gateway",
  name: "br0",
  mac: "02:77:00:00:00:01",
  addresses: ["10.77.0.1/24", "2001:db8:77::1/64"],
};

/** Every point-to-point link: the host's end first, the gateway's end second. */
export const LINKS: readonly (readonly [End, End])[] = [
  [
    {
      role: "client",
      name: "eth0",
      mac: "02:77:00:00:01:02",
      addresses: ["10.77.1.2/24", "2001:db8:77:1::2/64"],
    },
    {
      role: "gateway",
      name: "eth0",
      mac: "02:77:00:00:01:01",
      addresses: ["10.77.1.1/24", "2001:db8:77:1::1/64"],
    },
  ],
  [
    {
      role: "primary",
      name: "eth0",
      mac: "02:77:00:00:00:11",
      addresses: ["10.77.0.11/24", "2001:db8:77::11/64"],
    },
    {
      role: "gateway",
      name: "primary",
      mac: "02:77:00:00:00:a1",
      addresses: [],
      bridge: BRIDGE.name,
    },
  ],
  [
    {
      role: "backup",
      name: "eth0",
      mac: "02:77:00:00:00:12",
      addresses: ["10.77.0.12/24", "2001:db8:77::12/64"],
    },
    {
      role: "gateway",
      name: "backup",
      mac: "02:77:00:00:00:a2",
      addresses: [],
      bridge: BRIDGE.name,
    },
  ],
];

const servicePrefixes = [`${SERVICE_ADDRESSES[4]}/32`, `${SERVICE_ADDRESSES[6]}/128`];

/** Where the service's addresses are, with prefix length. */
export const SERVICE_PLACES: readonly { role: Role; name: string; addresses: string[] }[] = [
  { role: "primary", name: "eth0", addresses: servicePrefixes },
  { role: "backup", name: "lo", addresses: servicePrefixes },
];

/**
 * Default routes, in the words of ip-route(8). Both servers use cubic, since BBR on the replica
 * would measure the microseconds of its own loopback; the backup's initial window takes an upload
 * at full speed before its buffer has been tuned.
 */
export const ROUTES: readonly { role: Role; via: Record<Family, string>; metrics: string }[] = [
  { role: "client", via: { 4: "10.77.1.1", 6: "2001:db8:77:1::1" }, metrics: "" },
  { role: "primary", via: { 4: "10.77.0.1", 6: "2001:db8:77::1" }, metrics: "congctl cubic" },
  {
    role: "backup",
    via: { 4: "10.77.0.1", 6: "2001:db8:77::1" },
    metrics: "congctl cubic initrwnd 10000",
  },
];

/**
 * Kernel settings of every host, relative to /proc/sys: addresses are there at once, without a
 * search for duplicates (RFC 4862 section 5.4), and nobody asks for routers.
 */
export const COMMON_SETTINGS: Readonly<Record<string, string>> = {
  "net/ipv6/conf/all/disable_ipv6": "0",
  "net/ipv6/conf/default/disable_ipv6": "0",
  "net/ipv6/conf/default/accept_dad": "0",
  "net/ipv6/conf/default/accept_ra": "0",
};

/** Further kernel settings of each host. */
export const SETTINGS: Readonly<Record<Role, Readonly<Record<string, string>>>> = {
  client: {},
  gateway: { "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1" },
  primary: { "net/mptcp/enabled": "0" },
  backup: {
    "net/mptcp/enabled": "0",
    // The replica's address is on lo: without t2cp's programs, too, nobody may learn of it. (IPv6
    // answers for an interface's own addresses only.)
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

/** The address of `end` of that IP version with prefix length; undefined where it has none. */
export function addressOf(end: End, family: Family): string | undefined {
  return end.addresses.find((address) => familyOf(address.split("/")[0]!) === family);
}

/** The address of `role`'s interface towards the gateway, without prefix length. */
export function hostAddress(role: "client" | "primary" | "backup", family: Family): string {
  return addressOf(hostEnd(role), family)!.split("/")[0]!;
}
