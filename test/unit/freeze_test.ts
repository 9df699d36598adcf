import assert from "node:assert/strict";
import fc from "fast-check";
import { formatEndpoint, from16Bytes } from "../../lib/address.ts";
import { Failure } from "../../lib/failure.ts";
import { FLOW, FLOW_KEY, flowKey, readFlowKey } from "../../lib/flow/layout.ts";
import { FROZEN, FrozenFlag, MARK_FROZEN } from "../../lib/freeze/layout.ts";
import {
  EVERY_FLOW,
  isSelected,
  parseClientPattern,
  parseFlow,
} from "../../lib/freeze/selection.ts";
import { StopWatch } from "../../lib/freeze/watch.ts";
import { bpfHeader, testStructs } from "../fixture/layout.ts";

const header = bpfHeader("freeze_layout.h");

testStructs(header, { frozen: FROZEN });

Deno.test("freeze layout: flags and mark are those of the header", () => {
  assert.equal(header.defines.get("MARK_FROZEN"), MARK_FROZEN);
  for (const [name, value] of Object.entries(FrozenFlag)) {
    assert.equal(header.defines.get(`FROZEN_${name}`), value);
  }
});

const SERVER = "10.0.0.1:80";

/** Whether the client's flow is one of the pattern's. */
function matches(pattern: string, client: string): boolean {
  const key = flowKey({ client, server: SERVER })!;
  // Not at the begin: keys stand one behind the other.
  const keys = new Uint8Array(2 * FLOW_KEY.size);
  keys.set(key, FLOW_KEY.size);
  const selection = { flows: [], clients: [parseClientPattern(pattern)] };
  return isSelected(selection, keys, FLOW_KEY.size);
}

Deno.test("freeze: patterns mean the clients that they name", () => {
  const cases: [pattern: string, client: string, means: boolean][] = [
    ["10.1.1.1", "10.1.1.1:5", true],
    ["10.1.1.1", "10.1.1.2:5", false],
    ["10.1.1.1:5", "10.1.1.1:5", true],
    ["10.1.1.1:5", "10.1.1.1:261", false],
    ["10.1.0.0/16", "10.1.255.3:5", true],
    ["10.1.0.0/16", "10.2.0.0:5", false],
    ["10.1.9.9/16", "10.1.1.1:5", true],
    ["10.1.1.128/25", "10.1.1.200:5", true],
    ["10.1.1.128/25", "10.1.1.100:5", false],
    ["0.0.0.0/0", "9.9.9.9:5", true],
    ["0.0.0.0/0", "[2001:db8::1]:5", false],
    ["::/0", "[2001:db8::1]:5", true],
    ["2001:db8::/32", "[2001:db8:5::1]:5", true],
    ["2001:db8::/32", "[2001:db9::1]:5", false],
    ["2001:db8::5", "[2001:db8::5]:5", true],
    ["[2001:db8::5]:5", "[2001:db8::5]:5", true],
    ["[2001:db8::5]:5", "[2001:db8::5]:6", false],
  ];
  for (const [pattern, client, means] of cases) {
    assert.equal(matches(pattern, client), means, `${pattern} ${client}`);
  }
});

Deno.test("freeze: a prefix means those addresses that share its bits", () => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 })
    // Else it would be one of IPv4.
    .filter((all) => all.subarray(0, 8).some((byte) => byte !== 0));
  fc.assert(fc.property(bytes, bytes, fc.nat(128), fc.nat(127), (a, b, bits, common) => {
    // Often they share much.
    b.set(a.subarray(0, common >> 3));
    const binary = (all: Uint8Array): string =>
      [...all].map((byte) => byte.toString(2).padStart(8, "0")).join("").slice(0, bits);
    assert.equal(
      matches(`${from16Bytes(a)}/${bits}`, formatEndpoint(from16Bytes(b), 7)),
      binary(a) === binary(b),
    );
  }));
});

Deno.test("freeze: what names no clients or no flow is refused with an example", () => {
  const clients = ["", "x", "10.1.1", "10.1.1.1/33", "::/129", "10.1.1.1:0", "10.1.1.1:70000"];
  for (const text of [...clients, "10.1.1.1/", "[10.1.1.1]:5", "2001:db8::5/x", "10.1.1.1:"]) {
    assert.throws(
      () => parseClientPattern(text),
      (error) => error instanceof Failure && error.status === 64 && error.mend !== undefined,
      text,
    );
  }
  const flows = ["", "=", "10.1.1.1:5", "10.1.1.1:5=", "10.1.1.1=10.0.0.1:80", "a=b"];
  for (const text of [...flows, "10.1.1.1:5=10.0.0.1:80=10.0.0.1:80"]) {
    assert.throws(
      () => parseFlow(text),
      (error) => error instanceof Failure && error.status === 64 && error.mend !== undefined,
      text,
    );
  }
});

Deno.test("freeze: a flow means itself, and nothing chosen means every flow", () => {
  const ends = { client: "[2001:db8::5]:40000", server: "[2001:db8::1]:80" };
  const key = parseFlow(`${ends.client}=${ends.server}`);
  assert.deepEqual(readFlowKey(new DataView(key.buffer), 0), ends);
  const other = flowKey({ ...ends, client: "[2001:db8::5]:40001" })!;
  const selection = { flows: [key], clients: [] };
  assert.deepEqual([isSelected(selection, key, 0), isSelected(selection, other, 0)], [true, false]);
  assert.deepEqual([isSelected(EVERY_FLOW, key, 0), isSelected(EVERY_FLOW, other, 0)], [
    true,
    true,
  ]);
});

Deno.test("freeze: flows count as stopped once their clients send nothing new", () => {
  const watch = new StopWatch();
  const place = (port: number, end: number) => {
    const flows = new DataView(new ArrayBuffer(FLOW.size));
    flows.setUint32(FLOW.client_end, end, true);
    const key = flowKey({ client: `10.1.1.1:${port}`, server: SERVER })!;
    return { keys: new DataView(key.buffer), keyAt: 0, flows, at: 0 };
  };
  for (let now = 0; now <= 250; now += 10) {
    // The second one sends until 200.
    watch.look([place(1, 7), place(2, Math.min(now, 200))], now);
  }
  assert.equal(watch.stopped(250), 1);
  assert.equal(watch.stopped(300), 2);
});
