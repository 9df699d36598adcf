import assert from "node:assert/strict";
import fc from "fast-check";
import { InterfaceFlag } from "../../ffi/interface_flags.ts";
import { Agenda, ANNOUNCE } from "../../lib/claim/agenda.ts";
import { parseRoutes4, parseRoutes6 } from "../../lib/claim/next_hops.ts";
import {
  type Interfaces,
  lacking,
  parseUnusable,
  placeRefusal,
  stateRefusal,
} from "../../lib/claim/place.ts";
import { Rivals, SILENCE } from "../../lib/claim/rivals.ts";

/** When announcements are made up to `end`, where the agenda is looked at whenever it asks for it. */
function made(agenda: Agenda, end: number): number[] {
  const times: number[] = [];
  while (agenda.next <= end) {
    const { next } = agenda;
    assert.ok(agenda.take(next));
    times.push(next);
  }
  return times;
}

Deno.test("claim agenda: nothing is due before the claim", () => {
  const agenda = new Agenda(ANNOUNCE);
  assert.equal(agenda.next, Infinity);
  assert.equal(agenda.take(1e9), false);
  assert.equal(agenda.over, true);
});

Deno.test("claim agenda: the pauses double, and the series ends", () => {
  const agenda = new Agenda(ANNOUNCE);
  agenda.begin(1000);
  assert.equal(agenda.over, false);
  assert.deepEqual(made(agenda, 1e9), [1050, 1150, 1350, 1750, 2550]);
  assert.equal(agenda.over, true);
  const once = new Agenda({ count: 1, interval: 50, refresh: 0 });
  once.begin(0);
  assert.deepEqual([once.over, once.next], [true, Infinity]);
});

Deno.test("claim agenda: it refreshes without end, behind the series", () => {
  const agenda = new Agenda({ count: 2, interval: 10, refresh: 100 });
  agenda.begin(0);
  assert.deepEqual(made(agenda, 350), [10, 110, 210, 310]);
});

Deno.test("claim agenda: a rival is answered at once, and then ever more rarely", () => {
  const agenda = new Agenda({ count: 1, interval: 50, refresh: 0 });
  agenda.begin(0);
  const times: number[] = [];
  for (let now = 1000; now < 101_000; now++) {
    agenda.defend(now);
    if (agenda.take(now)) times.push(now);
  }
  assert.equal(times[0], 1000);
  const pauses = times.slice(1).map((time, index) => time - times[index]!);
  assert.deepEqual(pauses.slice(0, 4), [200, 400, 800, 1600]);
  assert.ok(times.length < 20, `${times.length} announcements in 100 s`);
  assert.equal(Math.max(...pauses), 10_000);
  agenda.repeat(200_000);
  assert.ok(agenda.take(200_000), "it has fallen silent");
  agenda.begin(300_000);
  agenda.defend(300_010);
  assert.equal(agenda.next, 300_100, "the bound is short again");
});

Deno.test("claim agenda: whatever a rival does, announcements keep their bound", () => {
  const gaps = fc.array(fc.nat(2000), { maxLength: 300 });
  fc.assert(fc.property(gaps, (waits) => {
    const agenda = new Agenda({ count: 1, interval: 50, refresh: 0 });
    agenda.begin(0);
    let now = 0;
    const times: number[] = [];
    for (const wait of waits) {
      now += wait;
      agenda.defend(now);
      if (agenda.take(now)) times.push(now);
    }
    for (let i = 1; i < times.length; i++) assert.ok(times[i]! - times[i - 1]! >= 100);
  }));
});

Deno.test("claim rivals: each is told once, and once more after it was silent", () => {
  const rivals = new Rivals();
  const one = { address: "10.0.0.1", mac: "02:00:00:00:00:01" };
  const two = { ...one, mac: "02:00:00:00:00:02" };
  assert.equal(rivals.next, Infinity);
  assert.equal(rivals.hear(one, 0), true);
  assert.equal(rivals.hear(one, 10), false);
  assert.equal(rivals.hear(two, 1000), true);
  assert.equal(rivals.next, 10 + SILENCE);
  assert.deepEqual(rivals.silenced(9 + SILENCE), []);
  assert.deepEqual(rivals.silenced(10 + SILENCE), [one]);
  assert.deepEqual(rivals.silenced(10 + SILENCE), []);
  assert.equal(rivals.hear(one, 20 + SILENCE), true);
  assert.equal(rivals.count, 2);
});

Deno.test("claim rivals: a host that makes up MAC addresses costs no memory, and is counted", () => {
  const rivals = new Rivals();
  for (let i = 0; i < 1000; i++) rivals.hear({ address: "10.0.0.1", mac: `${i}` }, i / 1000);
  assert.equal(rivals.count, 32);
  assert.equal(rivals.uncounted, 968);
});

const { UP, RUNNING, LOOPBACK, NOARP } = InterfaceFlag;

/** A host whose interfaces have these flags and addresses. */
function host(...interfaces: [name: string, flags: number, ...addresses: string[]][]): Interfaces {
  return {
    addresses: () =>
      interfaces.flatMap(([name, , ...own]) =>
        own.map((address) => ({ name, address, mac: "02:00:00:00:00:01" }))
      ),
    flags: (name) => interfaces.find(([own]) => own === name)?.[1],
  };
}

Deno.test("claim place: an interface must be there, up, and have a carrier", () => {
  const refused = (flags: number) => stateRefusal("eth0", host(["eth0", flags]))?.line;
  assert.equal(refused(UP | RUNNING), undefined);
  assert.equal(refused(0), `Interface "eth0" is down; ip link set eth0 up`);
  assert.match(refused(UP)!, /^Interface "eth0" has no carrier; /);
  const gone = stateRefusal("eth0", host(["eth1", UP | RUNNING]));
  assert.deepEqual([gone?.status, gone?.message], [
    66,
    'There is no interface "eth0" on this host',
  ]);
});

Deno.test("claim place: the address may be where nobody is asked for it, and nowhere else", () => {
  const address = "10.0.0.100";
  const where = (name: string, flags: number) =>
    placeRefusal("eth0", [address], host(["eth0", UP], [name, flags, address]));
  assert.equal(where("lo", UP | LOOPBACK), undefined);
  assert.equal(where("dummy0", UP | NOARP), undefined);
  assert.equal(where("eth0", UP), undefined);
  assert.equal(
    where("eth1", UP)?.line,
    `Address "10.0.0.100" is on interface "eth1", and would be claimed on "eth0"; ` +
      `see ip address show to 10.0.0.100, and remove it from "eth1"`,
  );
  const both = host(["lo", LOOPBACK, "10.0.0.1", "::2"], ["eth0", UP, "::2"]);
  assert.deepEqual(lacking("eth0", ["10.0.0.1", "::2"], both), ["10.0.0.1"]);
});

Deno.test("claim place: addresses that the kernel keeps silent about", () => {
  const line = (last: string, flags: string, name = "eth0") =>
    `20010db80000000000000000000000${last} 02 40 00 ${flags}     ${name}`;
  const text = [
    ...[line("01", "80"), line("02", "88"), line("03", "c0"), line("04", "88", "eth1")],
    ...[line("05", "02"), ""],
  ].join("\n");
  assert.deepEqual(parseUnusable(text, "eth0"), ["2001:db8::2", "2001:db8::3"]);
  fc.assert(fc.property(fc.string(), (any) => void parseUnusable(any, "eth0")));
});

Deno.test("claim routers: those of the interface's routes, each once", () => {
  const four = [
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    "eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0",
    "eth0\t00016E0A\t01004D0A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    "eth1\t00026E0A\t02004D0A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    "eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    "",
  ].join("\n");
  assert.deepEqual(parseRoutes4(four, "eth0"), ["10.77.0.1"]);
  assert.deepEqual(parseRoutes4(four, "eth2"), []);
  const zero = "0".repeat(32);
  const six = [
    `20010db8007700000000000000000000 40 ${zero} 00 ${zero} 00000100 1 0 00000001     eth0`,
    `${zero} 00 ${zero} 00 fe800000000000000000000000000001 00000400 3 0 00000003     eth0`,
    `${zero} 00 ${zero} 00 20010db8007700000000000000000002 00000400 3 0 00000003     eth1`,
    "",
  ].join("\n");
  assert.deepEqual(parseRoutes6(six, "eth0"), ["fe80::1"]);
  fc.assert(fc.property(fc.string(), (text) => {
    parseRoutes4(text, "eth0");
    parseRoutes6(text, "eth0");
  }));
});
