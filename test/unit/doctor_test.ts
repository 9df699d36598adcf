import assert from "node:assert/strict";
import { parseService } from "../../lib/address.ts";
import { examine, type Finding, type Patient, type Role } from "../../lib/doctor/checks.ts";
import { describe } from "../../lib/doctor/report.ts";
import { parseDefaultRoute } from "../../lib/host/facts.ts";
import type { Listener, Route } from "../../lib/shadow/preflight.ts";

const ALL = (1n << 41n) - 1n;
const sound: Record<string, string> = {
  "net/ipv4/tcp_syncookies": "1",
  "net/ipv4/tcp_timestamps": "1",
  "net/ipv4/tcp_sack": "1",
  "net/ipv4/tcp_window_scaling": "1",
  "net/ipv4/tcp_rmem": "4096\t16777216\t67108864",
  "net/ipv4/conf/all/arp_ignore": "1",
  "net/ipv4/ip_forward": "1",
  "net/ipv6/conf/all/forwarding": "1",
  "net/mptcp/enabled": "0",
};

/** A host that is sound but for what is given. */
function patient(
  changed: Record<string, string | undefined> = {},
  more: Partial<Patient> & { listeners?: Listener[]; route?: Route; kernel?: boolean } = {},
): Patient {
  const settings = { ...sound, ...changed };
  const listeners = more.listeners ?? [{ address: "*", port: 80, mptcp: false }];
  return {
    host: {
      sysctl: (name) => settings[name],
      addresses: () => [{ name: "lo", address: "10.0.0.1" }],
      listeners: () => Promise.resolve(listeners),
      hasKernelFunction: () => more.kernel ?? true,
      defaultRoute: () => more.route ?? { text: "default", initrwnd: 10000, congctl: "cubic" },
    },
    services: more.services ?? [parseService("10.0.0.1:80")],
    interface: more.interface ?? "eth0",
    capabilities: more.capabilities ?? ALL,
    hasLibrary: more.hasLibrary ?? (() => true),
  };
}

async function wrong(role: Role, made: Patient): Promise<Finding[]> {
  return (await examine(role, made)).filter(({ state }) => state !== "ok");
}

Deno.test("doctor: a sound host of any role has nothing wrong", async () => {
  for (const role of ["gateway", "primary", "backup"] as const) {
    assert.deepEqual(await wrong(role, patient()), []);
  }
});

const without = (part: string) => (name: string): boolean => !name.includes(part);

const ailments: [name: string, role: Role, made: Patient, state: string, mend: RegExp][] = [
  [
    "SYN cookies off",
    "backup",
    patient({ "net/ipv4/tcp_syncookies": "0" }),
    "lack",
    /syncookies=1$/,
  ],
  ["timestamps off", "backup", patient({ "net/ipv4/tcp_timestamps": "0" }), "lack", /stamps=1$/],
  ["SACK off", "backup", patient({ "net/ipv4/tcp_sack": "0" }), "lack", /tcp_sack=1$/],
  ["no tcx", "gateway", patient({}, { kernel: false }), "advice", /Linux 6\.6/],
  ["old kernel", "backup", patient({}, { kernel: false }), "lack", /Linux 6\.9/],
  [
    "NAT on the bridge",
    "gateway",
    patient({ "net/bridge/bridge-nf-call-iptables": "1" }),
    "advice",
    /bridge\.bridge-nf-call-iptables=0$/,
  ],
  ["no libbpf", "gateway", patient({}, { hasLibrary: without("bpf") }), "lack", /install libbpf1$/],
  ["no libpcap", "gateway", patient({}, { hasLibrary: without("pcap") }), "lack", /libpcap0\.8$/],
  ["no privilege", "primary", patient({}, { capabilities: 0n }), "lack", /root/],
  ["nobody listens", "backup", patient({}, { listeners: [] }), "lack", /start the service/],
  [
    "an MPTCP listener",
    "backup",
    patient({}, { listeners: [{ address: "*", port: 80, mptcp: true }] }),
    "lack",
    /mptcp\.enabled=0/,
  ],
  [
    "address missing",
    "backup",
    patient({}, { services: [parseService("10.0.0.2:80")] }),
    "lack",
    /address add 10\.0\.0\.2\/32 dev lo/,
  ],
  [
    "small buffers",
    "backup",
    patient({ "net/ipv4/tcp_rmem": "4096 131072 6291456" }),
    "advice",
    /tcp_rmem="4096 16777216/,
  ],
  [
    "no metrics",
    "backup",
    patient({}, { route: { text: "default via 10.0.0.254 dev eth0" } }),
    "advice",
    /^ip route replace default via 10\.0\.0\.254 dev eth0 initrwnd/,
  ],
  [
    "answers ARP",
    "backup",
    patient({ "net/ipv4/conf/all/arp_ignore": "0" }),
    "advice",
    /arp_ignore=1/,
  ],
  [
    "no libbpf for guard",
    "primary",
    patient({}, { hasLibrary: without("bpf") }),
    "advice",
    /libbpf1/,
  ],
  [
    "no programs at control groups",
    "primary",
    patient({}, { kernel: false }),
    "advice",
    /CONFIG_CGROUP_BPF/,
  ],
  ["MPTCP on", "primary", patient({ "net/mptcp/enabled": "1" }), "advice", /enabled=0/],
  ["no forwarding", "gateway", patient({ "net/ipv4/ip_forward": "0" }), "advice", /ip_forward=1/],
];

for (const [name, role, made, state, mend] of ailments) {
  Deno.test(`doctor: ${name} is found on a ${role}, and nothing else`, async () => {
    const findings = await wrong(role, made);
    assert.equal(findings.length, 1, JSON.stringify(findings));
    assert.equal(findings[0]!.state, state);
    assert.match(findings[0]!.mend!, mend);
  });
}

Deno.test("doctor: the table names each check once, with its mend in the next line", () => {
  const text = describe([
    { check: "a", state: "ok", found: "fine" },
    { check: "longer", state: "lack", found: "gone", mend: "do this" },
  ], false);
  assert.equal(text, "ok      a       fine\nLACK    longer  gone\n                do this\n");
});

Deno.test("doctor: the default route is read with its metrics", () => {
  const json = '[{"dst":"default","gateway":"10.0.0.254","dev":"eth0","metrics":' +
    '[{"initrwnd":10000,"congestion":"cubic","quickack":1}]}]';
  assert.deepEqual(parseDefaultRoute(json), {
    text: "default via 10.0.0.254 dev eth0",
    initrwnd: 10000,
    congctl: "cubic",
    quickack: 1,
  });
  assert.equal(parseDefaultRoute("[]"), undefined);
  assert.equal(parseDefaultRoute(""), undefined);
});
