/**
 * What a backup must have before `shadow` may start: each lack is one {@linkcode Failure} with its mend.
 *
 * @module
 */
import { LoadError } from "../../ffi/bpf_object.ts";
import type { Service } from "../address.ts";
import { formatService } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { requireHandled } from "../program/services.ts";

/** A socket that listens. */
export interface Listener {
  /** Local address, `*` for any. */
  address: string;
  /** 1 to 65535. */
  port: number;
  /** Whether it is an MPTCP socket. */
  mptcp: boolean;
}

/** The facts of a host that the checks look at. */
export interface HostFacts {
  /** A setting below /proc/sys, such as `net/ipv4/tcp_sack`, without white space around it. */
  sysctl(name: string): string | undefined;
  /** The addresses of all interfaces. */
  addresses(): { name: string; address: string }[];
  /** The listening TCP and MPTCP sockets. */
  listeners(): Promise<Listener[]>;
  /** Whether the kernel has function `name`. */
  hasKernelFunction(name: string): boolean;
  /** The IPv4 default route; undefined where there is none. */
  defaultRoute(): Route | undefined;
}

/** A route and the metrics that new connections take from it. */
export interface Route {
  /** As `ip route` takes it: `default via 10.0.0.1 dev eth0`. */
  text: string;
  /** Initial receive window in segments, where it is set. */
  initrwnd?: number;
  /** Congestion control, where it is set. */
  congctl?: string;
  /** 1 where acknowledgements are not delayed. */
  quickack?: number;
}

/** The kernel function that makes replicas possible. */
export const CREATE_SOCKET = "bpf_sk_assign_tcp_reqsk";

function lacks(message: string, mend: string): Failure {
  return new Failure(ExitStatus.UNAVAILABLE, message, { mend });
}

/** A kernel setting that a backup must have. */
export interface Setting {
  /** Its path below /proc/sys. */
  name: string;
  /** The values that will do. */
  accepted: RegExp;
  /** The value to set. */
  value: string;
  /** What fails without it. */
  why: string;
}

/** The kernel settings that a backup must have. */
export const settings: readonly Setting[] = [
  ["tcp_syncookies", /^[12]$/, "replica sockets are not created without it"] as const,
  ["tcp_timestamps", /^[12]$/, "flows that use timestamps get no replica"] as const,
  ["tcp_sack", /^1$/, "flows that use selective acknowledgement get no replica"] as const,
  ["tcp_window_scaling", /^1$/, "flows that scale their windows get no replica"] as const,
].map(([name, accepted, why]) => ({ name: `net/ipv4/${name}`, accepted, value: "1", why }));

/**
 * Checks everything but the kernel function, which only loading the programs proves.
 *
 * @throws {Failure} at the first lack
 */
export async function checkHost(services: readonly Service[], host: HostFacts): Promise<void> {
  requireHandled(services);
  for (const { name, accepted, value, why } of settings) {
    const found = host.sysctl(name);
    if (found === undefined || accepted.test(found)) continue;
    const dotted = name.replaceAll("/", ".");
    throw lacks(`Setting "${dotted}" is ${found}: ${why}`, `sysctl -w ${dotted}=${value}`);
  }
  const addresses = host.addresses();
  const listeners = await host.listeners();
  for (const service of services) checkService(service, addresses, listeners);
}

/**
 * Checks that the host has the service's address, and somebody who listens on it in a way that can be replicated.
 *
 * @throws {Failure} at the first lack
 */
export function checkService(
  service: Service,
  addresses: readonly { address: string }[],
  listeners: readonly Listener[],
): void {
  const text = formatService(service);
  if (!addresses.some(({ address }) => address === service.address)) {
    throw lacks(
      `Address "${service.address}" of service "${text}" is not on this host`,
      `ip address add ${service.address}/${service.family === 4 ? 32 : 128} dev lo`,
    );
  }
  const found = listenersOf(service, listeners);
  if (found.length === 0) {
    throw lacks(`Nobody listens on service "${text}" on this host`, "start the service here first");
  }
  if (found.some((listener) => listener.mptcp)) {
    throw lacks(
      `The listener of service "${text}" is an MPTCP socket, which cannot be replicated`,
      "sysctl -w net.mptcp.enabled=0 and start the service anew",
    );
  }
}

/** Those of `listeners` that accept the service's connections. */
export function listenersOf(service: Service, listeners: readonly Listener[]): Listener[] {
  // ss shows a dual-stack listener as "*", and one of IPv6 alone as "[::]".
  const any = service.family === 4 ? ["0.0.0.0", "*"] : ["::", "*"];
  return listeners.filter((listener) =>
    listener.port === service.port &&
    (listener.address === service.address || any.includes(listener.address))
  );
}

/** The warnings that keep nothing from working: what would go wrong without the programs. */
export function hostWarnings(
  services: readonly Service[],
  interfaceName: string,
  host: HostFacts,
): string[] {
  return betrayed(services, interfaceName, host).map((address) =>
    `While t2cp's programs are not attached, this host answers ARP for "${address}"; ` +
    silenceAddress(address, interfaceName, host)
  );
}

/** The warnings for `--commit`: what would make the clients wait without need. */
export function commitWarnings(host: HostFacts): string[] {
  const route = host.defaultRoute();
  if (route === undefined || route.quickack === 1) return [];
  return [
    `The replicas delay their acknowledgements, and the clients wait for them; ` +
    `ip route replace ${route.text} quickack 1, with the metrics that it has`,
  ];
}

/**
 * The IPv4 addresses of `services` for which the kernel itself would answer ARP at the interface: any of this host
 * where arp_ignore is 0, else those on the interface itself.
 */
export function betrayed(
  services: readonly Service[],
  interfaceName: string,
  host: HostFacts,
): string[] {
  const values = ["all", interfaceName.replaceAll(".", "/")].map((name) =>
    Number(host.sysctl(`net/ipv4/conf/${name}/arp_ignore`) ?? 0)
  );
  const all = Math.max(...values) === 0;
  const answering = host.addresses().filter(({ name }) => all || name === interfaceName);
  const addresses = services.filter((s) => s.family === 4).map((s) => s.address);
  return [...new Set(addresses)].filter((address) =>
    answering.some((own) => own.address === address)
  );
}

/** The command that keeps the kernel from answering ARP for `address` by itself. */
export function silenceAddress(address: string, interfaceName: string, host: HostFacts): string {
  const here = host.addresses().filter((own) => own.address === address).map(({ name }) => name);
  return here.includes(interfaceName)
    ? `ip address del ${address}/32 dev ${interfaceName}`
    : `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`;
}

/** What a refused load of the programs means. */
export function explainLoad(error: unknown, host: HostFacts): unknown {
  const refused = error instanceof Failure ? error.cause : error;
  if (!(refused instanceof LoadError)) return error;
  if (refused.code !== "EPERM" && !host.hasKernelFunction(CREATE_SOCKET)) {
    return new Failure(
      ExitStatus.UNAVAILABLE,
      `The kernel lacks the function "${CREATE_SOCKET}"`,
      { mend: "run Linux 6.9 or newer", cause: error },
    );
  }
  return error;
}
