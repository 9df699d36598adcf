/**
 * What a host must and should have for its role, each with the way to mend it.
 *
 * @module
 */
import type { Service } from "../address.ts";
import { Failure } from "../failure.ts";
import { CREATE_SOCKET, type HostFacts, settings } from "../shadow/preflight.ts";
import { betrayed, checkService, silenceAddress } from "../shadow/preflight.ts";

/** What t2cp's hosts do. */
export const ROLES = ["gateway", "primary", "backup"] as const;

/** One of {@linkcode ROLES}. */
export type Role = typeof ROLES[number];

/** What the checks look at. */
export interface Patient {
  /** The host. */
  host: HostFacts;
  /** The services that are asked about. */
  services: readonly Service[];
  /** The interface to the other hosts, where it is known. */
  interface: string | undefined;
  /** Whether this process may do what the commands do, by CapEff of /proc/self/status. */
  capabilities: bigint;
  /** Whether shared library `name` can be opened. */
  hasLibrary(name: string): boolean;
}

/** How a check ended. `lack` keeps t2cp from working; `advice` makes it work worse. */
export type State = "ok" | "lack" | "advice";

/** One check's result. */
export interface Finding {
  /** What was looked at. */
  check: string;
  /** How it ended. */
  state: State;
  /** What was found, for a person. */
  found: string;
  /** What to do about it; absent where all is well. */
  mend?: string;
}

/** The capabilities that the commands need: capabilities(7). */
const CAPABILITIES: readonly [name: string, bit: bigint][] = [
  ["CAP_NET_ADMIN", 12n],
  ["CAP_NET_RAW", 13n],
  ["CAP_SYS_ADMIN", 21n],
  ["CAP_BPF", 39n],
];

/** By which the kernel tells a control group's programs that a connection closes. */
const CLOSE_HOOK = "__cgroup_bpf_run_filter_sock_ops";

/** With it programs are attached before all filters. */
const TCX = "tcx_prog_attach";

/** A replica's receive buffer must take what the primary's took: bytes of tcp_rmem's default and maximum. */
const RECEIVE_BUFFER = 16 << 20;

/** Runs every check of `role`. */
export async function examine(role: Role, patient: Patient): Promise<Finding[]> {
  const findings = [...privileges(patient)];
  if (role !== "primary") findings.push(...libraries(patient));
  else findings.push(...guardNeeds(patient));
  if (role === "backup") findings.push(...backupSettings(patient), ...await serviceChecks(patient));
  if (role === "gateway") findings.push(...gatewaySettings(patient), fenceNeeds(patient));
  if (role !== "gateway") findings.push(mptcp(patient, role));
  return findings;
}

function* privileges({ capabilities }: Patient): Generator<Finding> {
  const missing = CAPABILITIES.filter(([, bit]) => (capabilities >> bit & 1n) === 0n);
  yield missing.length === 0 ? { check: "privileges", state: "ok", found: "sufficient" } : {
    check: "privileges",
    state: "lack",
    found: `${missing.map(([name]) => name).join(", ")} missing`,
    mend: "run as root, or give the unit these capabilities",
  };
}

function* libraries(patient: Patient): Generator<Finding> {
  const needed = [["libbpf.so.1", "libbpf1"], ["libpcap.so.0.8", "libpcap0.8"]];
  for (const [name, debianPackage] of needed) {
    yield patient.hasLibrary(name!) ? { check: name!, state: "ok", found: "there" } : {
      check: name!,
      state: "lack",
      found: "cannot be opened",
      mend: `apt-get install ${debianPackage}`,
    };
  }
}

/** What `guard` needs; a primary does without it, and its clients see each crash of the server then. */
function* guardNeeds({ hasLibrary, host }: Patient): Generator<Finding> {
  yield hasLibrary("libbpf.so.1") ? { check: "libbpf.so.1", state: "ok", found: "there" } : {
    check: "libbpf.so.1",
    state: "advice",
    found: "cannot be opened: t2cp guard needs it",
    mend: "apt-get install libbpf1",
  };
  const check = "control groups";
  yield host.hasKernelFunction(CLOSE_HOOK) ? { check, state: "ok", found: "there" } : {
    check,
    state: "advice",
    found: "the kernel has no BPF programs for them: t2cp guard needs these",
    mend: "run a kernel with CONFIG_CGROUP_BPF",
  };
}

function* backupSettings(patient: Patient): Generator<Finding> {
  const { host } = patient;
  yield host.hasKernelFunction(CREATE_SOCKET)
    ? { check: CREATE_SOCKET, state: "ok", found: "there" }
    : {
      check: CREATE_SOCKET,
      state: "lack",
      found: "the kernel lacks it: no replica can be made",
      mend: "run Linux 6.9 or newer",
    };
  for (const { name, accepted, value, why } of settings) {
    const found = host.sysctl(name);
    const check = name.replaceAll("/", ".");
    yield found === undefined || accepted.test(found)
      ? { check, state: "ok", found: found ?? "not there" }
      : { check, state: "lack", found: `${found}: ${why}`, mend: `sysctl -w ${check}=${value}` };
  }
  yield receiveBuffer(host);
  yield* initialWindow(patient);
}

function receiveBuffer(host: HostFacts): Finding {
  const check = "net.ipv4.tcp_rmem";
  const found = host.sysctl("net/ipv4/tcp_rmem") ?? "";
  const [, start = 0, most = 0] = found.split(/\s+/).map(Number);
  if (start >= RECEIVE_BUFFER && most >= RECEIVE_BUFFER) return { check, state: "ok", found };
  return {
    check,
    state: "advice",
    found:
      `${found}: an upload at full speed may overflow a replica, whose primary has grown its buffer`,
    mend: `sysctl -w ${check}="4096 ${RECEIVE_BUFFER} ${4 * RECEIVE_BUFFER}"`,
  };
}

/** The default route's metrics, by which new sockets start. */
function* initialWindow({ host }: Patient): Generator<Finding> {
  const route = host.defaultRoute();
  if (route === undefined) return;
  const check = "default route";
  if (route.initrwnd !== undefined && route.congctl !== undefined) {
    yield { check, state: "ok", found: `initrwnd ${route.initrwnd}, congctl ${route.congctl}` };
    return;
  }
  yield {
    check,
    state: "advice",
    found: `without ${
      [
        route.initrwnd === undefined
          ? "initrwnd: a replica's first window is smaller than its primary's may be"
          : [],
        route.congctl === undefined
          ? "congctl: a replica measures microseconds, which BBR mistakes for the client's way"
          : [],
      ].flat().join("; without ")
    }`,
    mend: `ip route replace ${route.text} initrwnd 10000 congctl cubic`,
  };
}

async function serviceChecks(patient: Patient): Promise<Finding[]> {
  const { host, services } = patient;
  const findings: Finding[] = [];
  const listeners = await host.listeners();
  for (const service of services) {
    const check = `service ${service.address}:${service.port}`;
    try {
      checkService(service, host.addresses(), listeners);
      findings.push({ check, state: "ok", found: "its address is here, and somebody listens" });
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      findings.push({ check, state: "lack", found: error.message, mend: error.mend ?? "" });
    }
  }
  const name = patient.interface;
  if (name === undefined) return findings;
  for (const address of betrayed(services, name, host)) {
    findings.push({
      check: "ARP",
      state: "advice",
      found: `this host answers for "${address}" while the programs are not attached`,
      mend: silenceAddress(address, name, host),
    });
  }
  return findings;
}

function* gatewaySettings({ host }: Patient): Generator<Finding> {
  const families = [["net/ipv4/ip_forward", "IPv4"], ["net/ipv6/conf/all/forwarding", "IPv6"]];
  for (const [name, family] of families) {
    const check = name!.replaceAll("/", ".");
    const found = host.sysctl(name!) ?? "not there";
    yield found === "1" ? { check, state: "ok", found } : {
      check,
      state: "advice",
      found: `${found}: this host forwards no ${family}`,
      mend: `sysctl -w ${check}=1, if clients come over ${family}`,
    };
  }
  // Not there unless the module br_netfilter is loaded.
  for (const tool of ["iptables", "ip6tables"]) {
    const name = `net/bridge/bridge-nf-call-${tool}`;
    const check = name.replaceAll("/", ".");
    const found = host.sysctl(name) ?? "not there";
    yield found !== "1" ? { check, state: "ok", found } : {
      check,
      state: "advice",
      found: `${found}: where the mirror's interface is a bridge, NAT changes the copies again`,
      mend: `sysctl -w ${check}=0`,
    };
  }
}

/** What `fence` needs; a gateway does without it, and a primary that was taken for dead may speak then. */
function fenceNeeds({ host }: Patient): Finding {
  const check = "tcx";
  return host.hasKernelFunction(TCX) ? { check, state: "ok", found: "there" } : {
    check,
    state: "advice",
    found: "the kernel lacks it: t2cp fence needs it",
    mend: "run Linux 6.6 or newer",
  };
}

/** Go's listeners, for one, are MPTCP sockets where the host has it. */
function mptcp({ host }: Patient, role: Role): Finding {
  const check = "net.mptcp.enabled";
  const found = host.sysctl("net/mptcp/enabled");
  if (found === undefined || found === "0") {
    return { check, state: "ok", found: found ?? "not there" };
  }
  return {
    check,
    state: "advice",
    found: role === "backup"
      ? `${found}: a listener that is an MPTCP socket cannot be replicated`
      : `${found}: a connection that negotiates MPTCP cannot be replicated`,
    mend: `sysctl -w ${check}=0 and start the service anew`,
  };
}
