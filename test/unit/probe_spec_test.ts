import assert from "node:assert/strict";
import { assignProbes } from "../../lib/detect/naming.ts";
import { Failure } from "../../lib/failure.ts";
import { parseProbe } from "../../lib/probe/spec.ts";

const RHYTHM = { interval: 1_000_000, timeout: 1_000_000, rise: 2, fall: 3 };

/** A probe's text, and what it says beside the usual rhythm. */
const good: [text: string, expected: Record<string, unknown>][] = [
  ["tcp://10.0.0.1:80", { kind: "tcp", address: "10.0.0.1", port: 80 }],
  ["tcp://[2001:DB8::1]:80", { kind: "tcp", address: "2001:db8::1", port: 80 }],
  ["tcp://10.0.0.1:80,interval=100,timeout=50,rise=1,fall=2", {
    name: "tcp://10.0.0.1:80",
    interval: 100_000,
    timeout: 50_000,
    rise: 1,
    fall: 2,
  }],
  ["tcp://10.0.0.1:80,interval=100", { interval: 100_000, timeout: 100_000 }],
  ["http://10.0.0.1", { path: "/", host: "10.0.0.1", status: [200, 399], match: undefined }],
  ["http://10.0.0.1:8080/a,b?c=1,d", { port: 8080, path: "/a,b?c=1,d", host: "10.0.0.1:8080" }],
  ["http://[::1]/,host=www.example.org", { address: "::1", host: "www.example.org" }],
  ["http://10.0.0.1/x,status=200,match=a, b=c,fall=1", {
    status: [200, 200],
    match: "a, b=c",
    fall: 1,
  }],
  ["http://10.0.0.1/,status=200-299", { status: [200, 299] }],
  ["exec:test -e /a, b,status=1", { command: "test -e /a, b,status=1" }],
  ["exec:a,b=c,timeout=70", { command: "a,b=c", timeout: 70_000 }],
];

for (const [text, expected] of good) {
  Deno.test(`--probe ${text}`, () => {
    const spec: Record<string, unknown> = { ...parseProbe(text) };
    for (const [key, value] of Object.entries({ ...RHYTHM, ...expected })) {
      assert.deepEqual(spec[key], value, key);
    }
  });
}

/** Texts that are no probes, and what is said of them. */
const wrong: [text: string, message: RegExp][] = [
  ["10.0.0.1:80", /is not a probe; write one such as "tcp:/],
  ["https://10.0.0.1/", /is not a probe; write "exec:curl -fsS https:/],
  ["udp://10.0.0.1:80", /is not a probe/],
  ["tcp://10.0.0.1", /is not an address and a port/],
  ["tcp://10.0.0.1:0", /"0" is not a port/],
  ["tcp://primary:80", /names no IP address/],
  ["tcp://::1:80", /is not an address and a port/],
  ["http://primary/", /names no IP address; .*host=NAME/],
  ["http://user@10.0.0.1/", /has no address/],
  ["http:///x", /names no IP address/],
  ["http://10.0.0.1/a b", /a character that no path has/],
  ["http://10.0.0.1/,host=a b", /"a b" is not a host/],
  ["http://10.0.0.1/,status=20", /"20" is not an HTTP status/],
  ["http://10.0.0.1/,status=300-200", /is not an HTTP status/],
  ["http://10.0.0.1/,match=", /"match" of a probe is empty/],
  ["exec:", /has no command/],
  ["exec:true,interval=50", /too short to start processes; give 100 or more/],
  ["tcp://10.0.0.1:80,interval=9", /"interval=9" of a probe is out of range; .* from 10 to/],
  ["tcp://10.0.0.1:80,interval=100,timeout=101", /"timeout=101" .* from 1 to 100/],
  ["tcp://10.0.0.1:80,fall=0", /"fall=0"/],
  ["tcp://10.0.0.1:80,rise=1.5", /"rise=1.5"/],
  ["tcp://10.0.0.1:80,fall=1,fall=2", /has "fall" twice/],
  ["tcp://10.0.0.1:80,status=200", /is not an address and a port/],
];

for (const [text, message] of wrong) {
  Deno.test(`--probe ${text}: refused`, () => {
    assert.throws(() => parseProbe(text), (error) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.status, 64);
      assert.match(error.line, message);
      return true;
    });
  });
}

function targets(probes: string[], peers: string[], target?: string): string[] {
  return assignProbes(probes.map(parseProbe), peers, target).map((one) => one.target);
}

Deno.test("probes are about the target that is named, the only peer, or whom they ask", () => {
  const tcp = "tcp://10.0.0.1:80";
  assert.deepEqual(targets([tcp, "exec:true"], [], "primary"), ["primary", "primary"]);
  assert.deepEqual(targets([tcp, "exec:true"], ["10.0.0.9"]), ["10.0.0.9", "10.0.0.9"]);
  assert.deepEqual(targets([tcp], ["10.0.0.1", "10.0.0.2"]), ["10.0.0.1"]);
  assert.deepEqual(targets([tcp, "exec:true"], []), ["10.0.0.1", "10.0.0.1"]);
  assert.throws(() => targets(["exec:true"], []), /not clear whom probe "exec:true" is about/);
  assert.throws(() => targets([tcp], ["10.0.0.2", "10.0.0.3"]), /not clear whom/);
  assert.throws(() => targets([tcp, "tcp://10.0.0.2:80"], []), /not clear whom/);
  assert.throws(() => targets([tcp, `${tcp},fall=1`], []), /is given twice/);
});
