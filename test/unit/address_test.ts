import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import {
  familyOf,
  formatMac,
  formatService,
  from16Bytes,
  isMac,
  parseAddress,
  parseMac,
  parsePort,
  parseService,
  to16Bytes,
} from "../../lib/address.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";

/** The one line that a user would see for what `action` refuses. */
function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    assert.equal(error.status, ExitStatus.USAGE);
    return error.line;
  }
  assert.fail("Nothing was refused");
}

const bytes4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 });
const address4 = bytes4.map((b) => b.join("."));
const address6 = bytes16.map((b) => from16Bytes(b)).filter((a) => a.includes(":"));
const port = fc.integer({ min: 1, max: 65535 });

Deno.test("services of both families and protocols", () => {
  assert.deepEqual(parseService("10.77.0.100:80"), {
    protocol: "tcp",
    address: "10.77.0.100",
    port: 80,
    family: 4,
  });
  assert.deepEqual(parseService("[2001:DB8:0:0::100]:443"), {
    protocol: "tcp",
    address: "2001:db8::100",
    port: 443,
    family: 6,
  });
  assert.equal(parseService("udp:10.0.0.1:53").protocol, "udp");
  assert.equal(parseService("UDP:[::1]:53").protocol, "udp");
  assert.equal(parseService("tcp:10.0.0.1:53").protocol, "tcp");
});

Deno.test("a service that cannot be used says what to write", () => {
  const cases: [string, string][] = [
    ["10.0.0.1", `Service "10.0.0.1" lacks a port; write "10.0.0.1:80"`],
    ["[2001:db8::1]", `Service "[2001:db8::1]" lacks a port; write "[2001:db8::1]:80"`],
    ["2001:db8::1", `Service "2001:db8::1" lacks a port; write "[2001:db8::1]:80"`],
    ["udp:::1", `Service "udp:::1" lacks a port; write "udp:[::1]:80"`],
    [
      "[10.0.0.1]:80",
      `Service "[10.0.0.1]:80" has an IPv4 address in brackets; write "10.0.0.1:80"`,
    ],
    ["10.0.0.1:0", `"0" is not a port; write a number from 1 to 65535`],
    ["10.0.0.1:65536", `"65536" is not a port; write a number from 1 to 65535`],
    ["10.0.0.1:http", `"http" is not a port; write a number from 1 to 65535`],
    ["10.0.0.1:", `"" is not a port; write a number from 1 to 65535`],
    [
      "web.example:80",
      `Service "web.example:80" has no IP address before its port; write one such as "10.0.0.1:80" or "[2001:db8::1]:80"`,
    ],
    ["[fe80::1%eth0]:80", `Address "fe80::1%eth0" has a zone; write it without, as "fe80::1"`],
    ["[::ffff:10.0.0.1]:80", `"::ffff:10.0.0.1" is an IPv4-mapped address; write "10.0.0.1"`],
    [
      "",
      `Service "" is not an address and a port; write one such as "10.0.0.1:80" or "[2001:db8::1]:80"`,
    ],
  ];
  for (const [text, line] of cases) assert.equal(refusal(() => parseService(text)), line);
});

Deno.test("any text is a service or a refusal with a mend", () => {
  const near = fc.string({ unit: fc.constantFrom(..."0123456789abf:.[]%/ tcpud") });
  fc.assert(fc.property(fc.oneof(near, fc.string()), (text) => {
    try {
      const service = parseService(text);
      assert.deepEqual(parseService(formatService(service)), service);
    } catch (error) {
      assert.ok(error instanceof Failure && error.mend !== undefined, String(error));
    }
  }));
});

Deno.test("a service reads back from its text", () => {
  const host = fc.oneof(address4, address6);
  fc.assert(
    fc.property(host, port, fc.constantFrom("tcp" as const, "udp" as const), (a, p, protocol) => {
      const service = { protocol, address: a, port: p, family: familyOf(a) as 4 | 6 };
      assert.deepEqual(parseService(formatService(service)), service);
    }),
  );
});

Deno.test("IPv6 addresses come in RFC 5952 form", () => {
  assert.equal(parseAddress("2001:0db8:0000:0000:0001:0000:0000:0001"), "2001:db8::1:0:0:1");
  assert.equal(parseAddress("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1");
  assert.equal(parseAddress("[::1]"), "::1");
  assert.equal(parseAddress("::"), "::");
});

Deno.test("what is no address is refused", () => {
  for (
    const text of [
      "",
      "10.0.0",
      "10.0.0.256",
      "010.0.0.1",
      "1::2::3",
      "10.0.0.1/24",
      "[10.0.0.1]",
      "::1/64",
      "localhost",
    ]
  ) {
    assert.match(refusal(() => parseAddress(text)), /is not an IP address; write one such as/);
  }
});

Deno.test("an IPv4 address has the bytes of its IPv4-mapped form", () => {
  const hex = "00000000000000000000ffff0a4d0064";
  assert.equal(to16Bytes("10.77.0.100").toHex(), hex);
  assert.equal(from16Bytes(Uint8Array.fromHex(hex)), "10.77.0.100");
});

Deno.test("an IPv6 address has its bytes in network order", () => {
  assert.equal(to16Bytes("2001:db8::100").toHex(), "20010db8000000000000000000000100");
  assert.equal(to16Bytes("::").toHex(), "0".repeat(32));
});

Deno.test("16 bytes and addresses convert both ways", () => {
  const mapped = bytes4.map((b) => Uint8Array.of(...new Array(10).fill(0), 0xff, 0xff, ...b));
  const zeros = bytes4.map((b) => Uint8Array.of(...new Array(12).fill(0), ...b));
  fc.assert(fc.property(fc.oneof(bytes16, mapped, zeros), (bytes) => {
    assert.deepEqual(to16Bytes(from16Bytes(bytes)), Uint8Array.from(bytes));
  }));
});

Deno.test("IPv6 addresses are read and written as the URL standard does", () => {
  // Most groups are zero, so that there is something to leave out.
  const group = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.nat(0xffff));
  const groups = fc.array(group, { minLength: 8, maxLength: 8 });
  fc.assert(fc.property(groups, fc.boolean(), (words, dotted) => {
    fc.pre(words.slice(0, 5).some((word) => word !== 0) || words[5] !== 0xffff);
    const bytes = Uint8Array.from(words.flatMap((word) => [word >> 8, word & 0xff]));
    const head = words.slice(0, 6).map((word) => word.toString(16)).join(":");
    const tail = words.slice(6).map((word) => word.toString(16).padStart(4, "0")).join(":");
    const text = `${head}:${dotted ? bytes.subarray(12).join(".") : tail}`;
    const short = new URL(`http://[${text}]`).hostname.slice(1, -1);
    assert.deepEqual(to16Bytes(text), bytes);
    assert.deepEqual(to16Bytes(short), bytes);
    assert.equal(from16Bytes(bytes), short);
  }));
});

Deno.test("what is an address is what node:net takes for one, and has no zone", () => {
  const group = fc.constantFrom("", "", "0", "1", "ffff", "00AB", "12345", "g", "1.2.3.4", "1.2.3");
  const octet = fc.constantFrom("0", "9", "10", "01", "255", "256", "-1", "");
  const text = fc.oneof(
    fc.array(group, { maxLength: 10 }).map((groups) => groups.join(":")),
    fc.array(octet, { minLength: 3, maxLength: 5 }).map((octets) => octets.join(".")),
    fc.tuple(bytes16, fc.nat(40), fc.constantFrom("", ":", "::", "%", ".", "0"))
      .map(([bytes, at, put]) => from16Bytes(bytes).slice(0, at) + put),
  );
  fc.assert(fc.property(text, (text) => {
    const is6 = isIPv6(text) && !text.includes("%");
    assert.equal(familyOf(text), isIPv4(text) ? 4 : is6 ? 6 : undefined, text);
  }));
});

Deno.test("only 16 bytes are an address", () => {
  assert.throws(() => from16Bytes(new Uint8Array(4)), RangeError);
});

Deno.test("ports", () => {
  assert.equal(parsePort("1"), 1);
  assert.equal(parsePort("65535"), 65535);
  for (const text of ["0", "-1", "1.5", " 80", "0x50", "1e3", "000080", "٨٠"]) {
    assert.match(refusal(() => parsePort(text)), /is not a port/);
  }
});

Deno.test("MAC addresses convert both ways", () => {
  assert.deepEqual([...parseMac("02:00:0A:4d:00:01")], [2, 0, 10, 0x4d, 0, 1]);
  assert.deepEqual([...parseMac("02-00-0a-4d-00-01")], [2, 0, 10, 0x4d, 0, 1]);
  fc.assert(fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
    assert.ok(isMac(formatMac(bytes)));
    assert.deepEqual(parseMac(formatMac(bytes)), Uint8Array.from(bytes));
  }));
  assert.throws(() => formatMac(new Uint8Array(8)), RangeError);
});

Deno.test("what is no MAC address is refused", () => {
  const wrong = [
    "",
    "02:00:0a:4d:00",
    "02:00:0a:4d:00:01:02",
    "02:00:0a:4d:00:0g",
    "2:0:a:4d:0:1",
    "02:00-0a:4d-00:01",
    "10.0.0.1",
  ];
  for (const text of wrong) {
    assert.equal(isMac(text), false);
    assert.match(refusal(() => parseMac(text)), /is not a MAC address; write one such as/);
  }
});
