import assert from "node:assert/strict";
import { LoadError } from "../../ffi/bpf_object.ts";
import { parseService, type Service } from "../../lib/address.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import {
  checkHost,
  explainLoad,
  type HostFacts,
  hostWarnings,
  type Listener,
} from "../../lib/shadow/preflight.ts";

/** A host that is what a backup should be, or differs by what is given. */
interface MadeUp {
  /** The interface that has the addresses. */
  on?: string;
  sysctl?: Record<string, string | undefined>;
  addresses?: string[];
  listeners?: Listener[];
  kernelFunction?: boolean;
}

const SYSCTLS: Record<string, string> = {
  "net/ipv4/tcp_syncookies": "1",
  "net/ipv4/tcp_timestamps": "1",
  "net/ipv4/tcp_sack": "1",
  "net/ipv4/tcp_window_scaling": "1",
  "net/ipv4/conf/all/arp_ignore": "1",
  "net/ipv4/conf/eth0/arp_ignore": "0",
};

function host(made: MadeUp = {}): HostFacts {
  const {
    sysctl = {},
    addresses = ["127.0.0.1", "::1", "10.0.0.12", "10.0.0.1", "10.0.0.3", "2001:db8::1"],
    on = "lo",
  } = made;
  const settings: Record<string, string | undefined> = { ...SYSCTLS, ...sysctl };
  return {
    sysctl: (name) => settings[name],
    addresses: () => addresses.map((address) => ({ name: on, address })),
    listeners: () =>
      Promise.resolve(made.listeners ?? [{ address: "10.0.0.1", port: 80, mptcp: false }]),
    hasKernelFunction: () => made.kernelFunction ?? true,
    defaultRoute: () => undefined,
  };
}

const services = (...texts: string[]): Service[] => texts.map(parseService);

async function refusal(made: MadeUp, ...texts: string[]): Promise<Failure> {
  const wanted = services(...(texts.length > 0 ? texts : ["10.0.0.1:80"]));
  const failure = await checkHost(wanted, host(made)).then(() => undefined, (error) => error);
  assert.ok(failure instanceof Failure, `${failure}`);
  // The habit of every message of t2cp.
  assert.match(failure.message, /^[A-Z"]/);
  assert.doesNotMatch(failure.line, /\.$|\n/);
  return failure;
}

Deno.test("preflight: a sound host passes", async () => {
  await checkHost(services("10.0.0.1:80"), host());
  await checkHost([], host({ listeners: [] }));
});

const settings: [name: string, refused: string[], accepted: string[], mend: string][] = [
  ["tcp_syncookies", ["0"], ["1", "2"], "sysctl -w net.ipv4.tcp_syncookies=1"],
  ["tcp_timestamps", ["0"], ["1", "2"], "sysctl -w net.ipv4.tcp_timestamps=1"],
  ["tcp_sack", ["0"], ["1"], "sysctl -w net.ipv4.tcp_sack=1"],
  ["tcp_window_scaling", ["0"], ["1"], "sysctl -w net.ipv4.tcp_window_scaling=1"],
];

for (const [name, refused, accepted, mend] of settings) {
  Deno.test(`preflight: ${name} that is off is refused, with its mend`, async () => {
    for (const value of refused) {
      const failure = await refusal({ sysctl: { [`net/ipv4/${name}`]: value } });
      assert.equal(failure.status, ExitStatus.UNAVAILABLE);
      assert.match(failure.message, new RegExp(`^Setting "net\\.ipv4\\.${name}" is ${value}: `));
      assert.equal(failure.mend, mend);
    }
    for (const value of accepted) {
      await checkHost(services("10.0.0.1:80"), host({ sysctl: { [`net/ipv4/${name}`]: value } }));
    }
  });

  Deno.test(`preflight: a kernel without ${name} has nothing to refuse`, async () => {
    const sysctl = { [`net/ipv4/${name}`]: undefined };
    await checkHost(services("10.0.0.1:80"), host({ sysctl }));
  });
}

Deno.test("preflight: an address that the host lacks is refused", async () => {
  const four = await refusal({ addresses: ["10.0.0.12"] });
  assert.equal(four.status, ExitStatus.UNAVAILABLE);
  assert.equal(
    four.line,
    `Address "10.0.0.1" of service "10.0.0.1:80" is not on this host; ` +
      `ip address add 10.0.0.1/32 dev lo`,
  );
  const six = await refusal({ addresses: ["10.0.0.12"] }, "[2001:db8::1]:80");
  assert.equal(six.mend, "ip address add 2001:db8::1/128 dev lo");
});

Deno.test("preflight: a service that nobody listens on is refused", async () => {
  const failure = await refusal({ listeners: [] });
  assert.equal(failure.status, ExitStatus.UNAVAILABLE);
  assert.equal(
    failure.line,
    `Nobody listens on service "10.0.0.1:80" on this host; start the service here first`,
  );
});

Deno.test("preflight: who listens on another port or another address is not the service", async () => {
  for (
    const listener of [
      { address: "10.0.0.1", port: 8080, mptcp: false },
      { address: "10.0.0.12", port: 80, mptcp: false },
      { address: "127.0.0.1", port: 80, mptcp: false },
      { address: "10.0.0.10", port: 80, mptcp: false },
    ]
  ) {
    assert.match((await refusal({ listeners: [listener] })).message, /^Nobody listens/);
  }
});

Deno.test("preflight: who listens on every address listens on the service", async () => {
  for (const address of ["0.0.0.0", "*"]) {
    const listeners = [{ address, port: 80, mptcp: false }];
    await checkHost(services("10.0.0.1:80"), host({ listeners }));
  }
  for (const address of ["*", "::", "2001:db8::1"]) {
    const listeners = [{ address, port: 80, mptcp: false }];
    await checkHost(services("[2001:db8::1]:80"), host({ listeners }));
  }
  const listeners = [{ address: "0.0.0.0", port: 80, mptcp: false }];
  const failure = await refusal({ listeners }, "[2001:db8::1]:80");
  assert.match(failure.message, /^Nobody listens on service "\[2001:db8::1\]:80"/);
});

Deno.test("preflight: each service is looked at, not the first alone", async () => {
  const failure = await refusal({}, "10.0.0.1:80", "10.0.0.1:443");
  assert.match(failure.message, /service "10\.0\.0\.1:443"/);
});

Deno.test("preflight: an MPTCP listener is refused", async () => {
  const failure = await refusal({ listeners: [{ address: "*", port: 80, mptcp: true }] });
  assert.equal(failure.status, ExitStatus.UNAVAILABLE);
  assert.equal(
    failure.line,
    `The listener of service "10.0.0.1:80" is an MPTCP socket, which cannot be replicated; ` +
      `sysctl -w net.mptcp.enabled=0 and start the service anew`,
  );
});

Deno.test("preflight: an MPTCP socket is listed twice, as TCP too; it is refused all the same", async () => {
  const at = { address: "10.0.0.1", port: 80 };
  const listeners = [{ ...at, mptcp: false }, { ...at, mptcp: true }];
  assert.match((await refusal({ listeners })).message, /MPTCP/);
  // Somebody else's MPTCP listener is no concern of ours.
  listeners[1]!.port = 81;
  await checkHost(services("10.0.0.1:80"), host({ listeners }));
});

Deno.test("preflight: a UDP service is wrong use, with the TCP form as mend", async () => {
  const failure = await refusal({}, "udp:10.0.0.1:80");
  assert.equal(failure.status, ExitStatus.USAGE);
  assert.equal(
    failure.line,
    `Service "udp:10.0.0.1:80" is UDP, and only TCP is replicated; ` +
      `write "10.0.0.1:80" for the TCP service`,
  );
});

const warningFor = (address: string): string =>
  `While t2cp's programs are not attached, this host answers ARP for "${address}"; ` +
  `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`;

Deno.test("preflight: a host that would answer ARP is warned, once for an address", () => {
  const sysctl = { "net/ipv4/conf/all/arp_ignore": "0" };
  const wanted = services("10.0.0.1:80", "10.0.0.1:443", "10.0.0.3:80", "[2001:db8::1]:80");
  assert.deepEqual(
    hostWarnings(wanted, "eth0", host({ sysctl })),
    [warningFor("10.0.0.1"), warningFor("10.0.0.3")],
  );
});

Deno.test("preflight: an address on the interface itself is answered for whatever arp_ignore says", () => {
  assert.deepEqual(hostWarnings(services("10.0.0.1:80"), "eth0", host({ on: "eth0" })), [
    `While t2cp's programs are not attached, this host answers ARP for "10.0.0.1"; ` +
    `ip address del 10.0.0.1/32 dev eth0`,
  ]);
  assert.deepEqual(hostWarnings(services("10.0.0.1:80"), "eth0", host({ on: "eth1" })), []);
});

Deno.test("preflight: the larger of the two arp_ignore settings counts, as in the kernel", () => {
  const wanted = services("10.0.0.1:80");
  const cases: [all: string | undefined, own: string | undefined, warned: boolean][] = [
    ["0", "0", true],
    ["1", "0", false],
    ["0", "1", false],
    ["2", "0", false],
    ["0", undefined, true],
    [undefined, "1", false],
    [undefined, undefined, true],
  ];
  for (const [all, own, warned] of cases) {
    const sysctl = {
      "net/ipv4/conf/all/arp_ignore": all,
      "net/ipv4/conf/eth0/arp_ignore": own,
    };
    const warnings = hostWarnings(wanted, "eth0", host({ sysctl }));
    assert.equal(warnings.length, warned ? 1 : 0, `all ${all}, eth0 ${own}`);
  }
});

Deno.test("preflight: the dots of an interface's name are slashes below /proc/sys", () => {
  const sysctl = {
    "net/ipv4/conf/all/arp_ignore": "0",
    "net/ipv4/conf/eth0/7/arp_ignore": "1",
  };
  assert.deepEqual(hostWarnings(services("10.0.0.1:80"), "eth0.7", host({ sysctl })), []);
});

Deno.test("preflight: a refused load names the kernel's lack where there is one", () => {
  const refused = new LoadError("shadow.bpf.o", 22, "unknown func");
  const failure = explainLoad(refused, host({ kernelFunction: false }));
  assert.ok(failure instanceof Failure);
  assert.equal(failure.status, ExitStatus.UNAVAILABLE);
  assert.equal(
    failure.line,
    `The kernel lacks the function "bpf_sk_assign_tcp_reqsk"; run Linux 6.9 or newer`,
  );
  assert.equal(failure.cause, refused);
  const told = new Failure(ExitStatus.UNAVAILABLE, "The kernel refuses it", { cause: refused });
  const again = explainLoad(told, host({ kernelFunction: false }));
  assert.equal(again instanceof Failure && again.line, failure.line);
  assert.equal(explainLoad(told, host()), told);
});

Deno.test("preflight: any other refused load stays what it is", () => {
  const refused = new LoadError("shadow.bpf.o", 22, "unknown func");
  assert.equal(explainLoad(refused, host()), refused);
  // Without permission, nothing is known of the kernel's functions.
  const denied = new LoadError("shadow.bpf.o", 1, "");
  assert.equal(explainLoad(denied, host({ kernelFunction: false })), denied);
  const other = new TypeError("x");
  assert.equal(explainLoad(other, host({ kernelFunction: false })), other);
});
