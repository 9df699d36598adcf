import assert from "node:assert/strict";
import fc from "fast-check";
import { EVENT, eventTypes, readFlowEvent, reasons, REPLICA_RESET } from "../../lib/flow/event.ts";
import {
  CONTROL,
  ETHERTYPE_COMMIT,
  FLOW,
  FLOW_KEY,
  JOINING,
  MARK_COMMIT,
  MARK_INJECTED,
  MAX_SERVICES,
  Mode,
  modeName,
  Option,
  readFlow,
  readFlowKey,
  SERVICE_KEY,
  serviceKey,
  serviceKeys,
  ServiceValue,
  shadowCounters,
  STRANGER,
  STRANGER_REPORTED,
  TELL_GATEWAY,
  WANT_FLOW_EVENTS,
} from "../../lib/flow/layout.ts";
import { parseService } from "../../lib/address.ts";
import { widthOf } from "../fixture/c_header.ts";
import {
  assertCounters,
  bpfHeader,
  enumerators,
  layoutHeaders,
  testStructs,
} from "../fixture/layout.ts";

const header = bpfHeader("layout.h");

testStructs(header, {
  service_key: SERVICE_KEY,
  flow_key: FLOW_KEY,
  control: CONTROL,
  flow: FLOW,
  stranger: STRANGER,
  event: EVENT,
});

Deno.test("layout: no two marks are the same", () => {
  const marks = layoutHeaders().flatMap((name) => [...bpfHeader(name).defines])
    .filter(([name]) => name.startsWith("MARK_"));
  assert.ok(marks.length >= 6);
  assert.equal(new Set(marks.map(([, value]) => value)).size, marks.length, `${marks}`);
});

Deno.test("layout: marks and flags are those of the header", () => {
  const define = (name: string): number | undefined => header.defines.get(name);
  assert.equal(define("MARK_INJECTED"), MARK_INJECTED);
  assert.equal(define("WANT_FLOW_EVENTS"), WANT_FLOW_EVENTS);
  assert.equal(define("STRANGER_REPORTED"), STRANGER_REPORTED);
  assert.equal(define("JOINING"), JOINING);
  assert.equal(define("TELL_GATEWAY"), TELL_GATEWAY);
  assert.equal(define("MARK_COMMIT"), MARK_COMMIT);
  assert.equal(define("MAX_SERVICES"), MAX_SERVICES);
  assert.deepEqual(
    Object.fromEntries(
      Object.keys(ServiceValue).map((name) => [name, define(`SERVICE_${name}`)]),
    ),
    ServiceValue,
  );
  assert.equal(define("ETH_P_COMMIT"), ETHERTYPE_COMMIT);
  const options = [...header.defines].filter(([name]) => name.startsWith("OPTION_"));
  assert.deepEqual(
    Object.fromEntries(options.map(([name, value]) => [name.slice("OPTION_".length), value])),
    Option,
  );
});

Deno.test("layout: modes are those of the header, by number and by name", () => {
  const modes = enumerators(header, "mode", "MODE_");
  assert.deepEqual(
    modes,
    Object.fromEntries(Object.entries(Mode).map(([name, value]) => [name.toLowerCase(), value])),
  );
  for (const [name, value] of Object.entries(modes)) assert.equal(modeName(value), name);
  assert.equal(modeName(77), "mode 77");
});

Deno.test("layout: counters are those of the header, in its order", () => {
  assertCounters(header, "shadow_counter", "SHADOW_", shadowCounters);
});

Deno.test("layout: event types are those of the header", () => {
  const types = enumerators(header, "event_type", "EVENT_");
  const expected = eventTypes.flatMap((name, value) => name === undefined ? [] : [[name, value]]);
  assert.deepEqual(
    Object.entries(types).map(([name, value]) => [name.replace("_", "."), value]),
    expected,
  );
});

Deno.test("layout: each reason of the header has its text", () => {
  const words: Record<string, RegExp> = {
    none: /^none$/,
    fin: /both sides closed/,
    reset_by_client: /reset by the client/,
    reset_by_primary: /reset by the primary/,
    replaced: /anew/,
    no_handshake: /handshake/,
    no_listener: /listens/,
    stale_socket: /older socket/,
    refused: /refused/,
    table_full: /full/,
    replica_reset: /replica reset/,
    not_committed: /did not acknowledge in time/,
    backup_silent: /backup is silent/,
    replica_full: /window stayed closed/,
    small_mss: /MSS is too small/,
  };
  const found = enumerators(header, "reason", "REASON_");
  assert.deepEqual(Object.keys(found), Object.keys(words));
  assert.equal(reasons.length, Object.keys(words).length);
  assert.equal(REPLICA_RESET, found["replica_reset"]);
  for (const [name, value] of Object.entries(found)) assert.match(reasons[value]!, words[name]!);
});

/** Fills a record with random bytes, and says by the header alone what a field of it is worth. */
const flowRecords = fc.record({
  bytes: fc.uint8Array({ minLength: FLOW.size, maxLength: FLOW.size }),
  at: fc.integer({ min: 0, max: 64 }),
});

Deno.test("layout: readFlow reads each field in the width that the header declares", () => {
  // Of no use outside the programs.
  const inner = ["order", "holes_used", "holes"];
  const fields = header.structs.get("flow")!.filter(({ length, name }) =>
    length === undefined && name in FLOW && !inner.includes(name)
  );
  fc.assert(fc.property(flowRecords, ({ bytes, at }) => {
    const view = new DataView(new ArrayBuffer(at + FLOW.size));
    new Uint8Array(view.buffer).set(bytes, at);
    const flow: Record<string, number> = readFlow(view, at);
    assert.deepEqual(Object.keys(flow), fields.map(({ name }) => name));
    for (const { name, type } of fields) {
      const from = header.offsets.get("flow")!.get(name)!;
      const little = [...bytes.subarray(from, from + widthOf(type))].reverse();
      const value = little.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
      assert.equal(flow[name], Number(value), name);
    }
  }));
});

const ipv4 = fc.ipV4();
const ipv6 = fc.constantFrom("2001:db8::1", "fe80::1:2", "::1");
const port = fc.integer({ min: 1, max: 65535 });

/** The 16 bytes of an address, written out by hand. */
function addressBytes(address: string): number[] {
  if (!address.includes(":")) {
    return [...Array(10).fill(0), 255, 255, ...address.split(".").map(Number)];
  }
  const [head, tail = ""] = address.split("::");
  const words = (text: string) => text === "" ? [] : text.split(":").map((w) => parseInt(w, 16));
  const [before, after] = [words(head!), words(tail)];
  const zeros = Array(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after].flatMap((word) => [word >> 8, word & 255]);
}

function endpoint(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

Deno.test("layout: readFlowKey reads addresses and ports of both families", () => {
  const ends = fc.oneof(fc.tuple(ipv4, ipv4), fc.tuple(ipv6, ipv6));
  fc.assert(fc.property(ends, port, port, fc.nat(9), ([client, server], cport, sport, at) => {
    const words = [cport, sport].flatMap((value) => [value >> 8, value & 255]);
    const key = [...addressBytes(client), ...addressBytes(server), ...words];
    const view = new DataView(Uint8Array.from([...Array(at).fill(7), ...key]).buffer);
    assert.deepEqual(readFlowKey(view, at), {
      client: endpoint(client, cport),
      server: endpoint(server, sport),
    });
  }));
});

Deno.test("layout: a service's key is its address and port in network byte order", () => {
  fc.assert(fc.property(fc.oneof(ipv4, ipv6), port, (address, port) => {
    const expected = [...addressBytes(address), port >> 8, port & 255, 0, 0];
    assert.deepEqual([...serviceKey(address, port)], expected);
  }));
});

Deno.test("layout: services come with each address once, as port 0", () => {
  const services = ["10.0.0.1:80", "10.0.0.1:81", "[2001:db8::1]:80"].map(parseService);
  const text = serviceKeys(services).map((key) => `${key}`).toSorted();
  const expected = [
    serviceKey("10.0.0.1", 80),
    serviceKey("10.0.0.1", 81),
    serviceKey("10.0.0.1", 0),
    serviceKey("2001:db8::1", 80),
    serviceKey("2001:db8::1", 0),
  ];
  assert.deepEqual(text, expected.map((key) => `${key}`).toSorted());
});

function eventRecord(type: number, reason: number, detail: number): DataView {
  const view = new DataView(new ArrayBuffer(EVENT.size));
  view.setUint32(0, type, true);
  view.setUint32(4, reason, true);
  view.setBigUint64(8, 1_234_567_890_123n, true);
  new Uint8Array(view.buffer).set(addressBytes("10.0.0.9"), 16);
  new Uint8Array(view.buffer).set(addressBytes("10.0.0.1"), 32);
  view.setUint16(48, 40000);
  view.setUint16(50, 80);
  view.setUint32(52, detail, true);
  view.setUint32(56, 0xfffffff0, true);
  view.setUint32(60, 0x10, true);
  return view;
}

Deno.test("layout: an event of the ring buffer is read whole", () => {
  const record = eventRecord(3, 8, 12);
  assert.deepEqual(readFlowEvent(record), {
    type: "flow.unprotected",
    reason: 8,
    key: new Uint8Array(record.buffer, 16, 36),
    ns: 1_234_567_890_123,
    detail: 12,
    from: 0xfffffff0,
    to: 0x10,
    client: "10.0.0.9:40000",
    server: "10.0.0.1:80",
  });
});

Deno.test("layout: an event of an unknown type, or cut short, is none", () => {
  for (const type of [0, 6, 0xffffffff]) {
    assert.equal(readFlowEvent(eventRecord(type, 0, 0)), undefined);
  }
  const whole = eventRecord(1, 0, 0).buffer;
  assert.equal(readFlowEvent(new DataView(whole, 0, EVENT.size - 1)), undefined);
  assert.equal(readFlowEvent(new DataView(new ArrayBuffer(0))), undefined);
});
