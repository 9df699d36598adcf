import assert from "node:assert/strict";
import { parseListeners, runTool, thisHost } from "../../lib/host/facts.ts";
import { Failure } from "../../lib/failure.ts";

// As `ss -Hltn` of iproute2 6.1 prints it.
const LISTENING = `
LISTEN 0      128          0.0.0.0:22          0.0.0.0:*
LISTEN 0      511      10.77.0.100:80          0.0.0.0:*
LISTEN 0      4096   127.0.0.53%lo:53          0.0.0.0:*
LISTEN 0      128        127.0.0.1:6010        0.0.0.0:*
LISTEN 0      511                *:443               *:*
LISTEN 0      128             [::]:22             [::]:*
LISTEN 0      128            [::1]:6010           [::]:*
LISTEN 0      5      [2001:db8::1]:80             [::]:*
LISTEN 0      5      [fe80::1]%eth0:8080          [::]:*
`;

Deno.test("listeners: what ss prints of both families, with and without an interface", () => {
  assert.deepEqual(parseListeners(LISTENING), [
    { address: "0.0.0.0", port: 22 },
    { address: "10.77.0.100", port: 80 },
    { address: "127.0.0.53", port: 53 },
    { address: "127.0.0.1", port: 6010 },
    { address: "*", port: 443 },
    { address: "::", port: 22 },
    { address: "::1", port: 6010 },
    { address: "2001:db8::1", port: 80 },
    { address: "fe80::1", port: 8080 },
  ]);
});

// As `ss -HlnM` prints it: the same columns, after the kernel's own choice of widths.
const MPTCP = `LISTEN 0      4096         *:8080            *:*
LISTEN 0 4096 10.77.0.100%eth0:80 0.0.0.0:* `;

Deno.test("listeners: what ss prints of MPTCP", () => {
  assert.deepEqual(parseListeners(MPTCP), [
    { address: "*", port: 8080 },
    { address: "10.77.0.100", port: 80 },
  ]);
});

Deno.test("listeners: nothing, and what is none, give none", () => {
  assert.deepEqual(parseListeners(""), []);
  assert.deepEqual(parseListeners("\n\n"), []);
  assert.deepEqual(parseListeners("Cannot open netlink socket: Protocol not supported\n"), []);
  assert.deepEqual(parseListeners("LISTEN 0 128 0.0.0.0:* 0.0.0.0:*\n"), []);
  assert.deepEqual(parseListeners("LISTEN 0 128 0.0.0.0:ssh 0.0.0.0:*\n"), []);
});

const hasSs = await new Deno.Command("ss", { args: ["-V"] }).output().then(() => true, () => false);

Deno.test({
  name: "listeners: this host's own, by the real ss",
  ignore: !hasSs,
  fn: async () => {
    using four = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const wanted = [{ address: "127.0.0.1", port: (four.addr as Deno.NetAddr).port }];
    const found = await thisHost.listeners();
    for (const { address, port } of wanted) {
      assert.deepEqual(
        found.filter((listener) => listener.port === port),
        [{ address, port, mptcp: false }],
      );
    }
  },
});

Deno.test("facts: settings below /proc/sys come without white space, absent ones as undefined", () => {
  assert.match(thisHost.sysctl("net/ipv4/tcp_sack") ?? "", /^[01]$/);
  assert.equal(thisHost.sysctl("net/ipv4/no_such_setting"), undefined);
});

Deno.test("facts: a tool that is not installed is named with its package", async () => {
  const failure = await runTool("t2cp-no-such-tool", [], "some-package").then(
    () => undefined,
    (error) => error,
  );
  assert.ok(failure instanceof Failure);
  assert.equal(failure.status, 69);
  assert.equal(
    failure.line,
    `Program "t2cp-no-such-tool" is not installed; apt-get install some-package`,
  );
});

Deno.test("facts: a tool's status and both outputs are given back", async () => {
  const output = await runTool("sh", ["-c", "echo out; echo err >&2; exit 3"], "dash");
  assert.deepEqual(output, { code: 3, stdout: "out\n", stderr: "err" });
});
