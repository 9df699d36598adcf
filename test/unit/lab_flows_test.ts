import assert from "node:assert/strict";
import fc from "fast-check";
import { describeCommands } from "../../lib/lab/commands.ts";
import { Flows, spread } from "../../lib/lab/flows.ts";
import { amountOf, dueSeconds, messageCount, messageRate } from "../../lib/lab/pace.ts";
import { message, MESSAGE_SIZE, MessageCheck, messages } from "../../lib/lab/program/message.ts";
import { type Scenario, WORKLOADS } from "../../lib/lab/scenario.ts";
import { CHAT_PORT, ECHO_PORT, probeOf, WEB_PORT } from "../../lib/lab/servers.ts";
import { hostAddress, ROLES, ROUTES, SERVICE_PLACES } from "../../lib/lab/topology.ts";
import { parseProbe } from "../../lib/probe/spec.ts";

Deno.test("lab message: messages have one length, a number, and end in a line end", () => {
  for (const number of [0, 1, 26, 999_999, 65_535_000_000]) {
    const text = new TextDecoder().decode(message(number));
    assert.equal(text.length, MESSAGE_SIZE);
    assert.ok(text.startsWith(`${number} `));
    assert.ok(text.endsWith("\n"));
  }
  assert.notDeepEqual(message(1), message(2));
});

Deno.test("lab message: a stream is right however it is cut, and wrong where a byte differs", () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(fc.nat(2_000_000), cuts, fc.option(fc.nat(10_000)), (first, sizes, damage) => {
      const size = sizes.reduce((sum, next) => sum + next, 0);
      const stream = messages(first, size);
      if (damage !== null) stream[damage % size]! ^= 1;
      const check = new MessageCheck(first);
      let at = 0;
      for (const length of sizes) check.take(stream.subarray(at, at += length));
      assert.equal(check.equal, damage === null);
      assert.equal(check.bytes, size);
      assert.equal(check.complete, Math.floor(size / MESSAGE_SIZE));
    }),
    { numRuns: 200 },
  );
});

Deno.test("lab message: a flow that gets another one's messages is noticed", () => {
  const check = new MessageCheck(1_000_000);
  check.take(message(1_000_000));
  assert.equal(check.equal, true);
  check.take(message(2_000_001));
  assert.equal(check.equal, false);
});

Deno.test("lab flows: each flow's wait since the trigger, or since it asked where that was later", () => {
  const flows = new Flows();
  flows.take({ flow: 0, time: 100, bytes: 10, asked: 90 });
  flows.take({ flow: 1, time: 190, bytes: 10 });
  flows.take({ flow: 0, time: 205, bytes: 10, asked: 150 });
  flows.take({ flow: 0, time: 206, bytes: 10, asked: 205 });
  flows.take({ flow: 2, time: 250, bytes: 10, asked: 240 });
  flows.take({ flow: 1, time: 260, bytes: 5 });
  assert.deepEqual(flows.waits(200), [5, 10, 60]);
  assert.deepEqual(flows.waits(1000), []);
  assert.deepEqual(flows.latencies(), [10, 55, 1, 10]);
  assert.equal(flows.progress.bytes, 55);
  assert.equal(flows.progress.firstSince(200), 205);
});

Deno.test("lab flows: ends, failures, and the first problem in words", () => {
  const flows = new Flows();
  flows.take({ flow: 0, begun: 10, ended: 40 });
  assert.equal(flows.problem(), undefined);
  flows.take({ flow: 7, begun: 20, ended: 60, problem: "the content differs" });
  flows.take({ flow: 8, begun: 20, ended: 90, problem: "later" });
  assert.deepEqual([flows.ended, flows.failures], [3, 2]);
  assert.equal(flows.problem(), "2 of 3 flows failed, flow 7: the content differs");
  assert.deepEqual(flows.durations(), [30, 40, 70]);
});

Deno.test("lab flows: a spread in milliseconds; of nothing, nothing", () => {
  assert.deepEqual(spread([1000, 3000, 2000]), { p50: 2, p99: 2.98, max: 3 });
  assert.deepEqual(spread([]), { p50: null, p99: null, max: null });
});

Deno.test("lab pace: every workload has an amount; conversations take three seconds", () => {
  for (const workload of WORKLOADS) {
    const amount = amountOf(workload, {});
    const due = dueSeconds({ workload, rate: 40e6, ...amount } as Scenario);
    assert.ok(due >= 3 && due <= 10, `${workload} ${due}`);
  }
  assert.deepEqual(amountOf("echo", {}), { flows: 1, size: 38_400 });
  assert.deepEqual(amountOf("chat", { flows: 300 }), { flows: 300, size: 576_000 });
  assert.deepEqual(amountOf("connections", {}), { flows: 2000, size: 8_192_000 });
  assert.deepEqual(amountOf("connections", { flows: 3, size: 10 }), { flows: 3, size: 10 });
  assert.equal(messageCount(576_000, 300) / messageRate(300), 3);
});

Deno.test("lab pace: amounts that do not fit their workload are refused with what fits", () => {
  const cases: [RegExp, Parameters<typeof amountOf>][] = [
    [/"download" has one flow; choose a --flows up to 1/, ["download", { flows: 2 }]],
    [/"echo" has at most 1000 flows/, ["echo", { flows: 1001 }]],
    [/Size 63 is too small for one flow; choose a --size of at least 64/, ["chat", { size: 63 }]],
    [/too small for 5 flows; .* at least 320/, ["echo", { size: 319, flows: 5 }]],
    [/too small for 2000 flows; .* at least 2000/, ["connections", { size: 1999 }]],
    [/over an hour; choose a --size up to 46080000/, ["echo", { size: 46_080_001 }]],
  ];
  for (const [message, args] of cases) {
    assert.throws(() => amountOf(...args), (error: { line: string }) => message.test(error.line));
  }
});

Deno.test("lab topology: every host has an address and a route of each IP version", () => {
  for (const role of ["client", "primary", "backup"] as const) {
    assert.match(hostAddress(role, 4), /^10\.77\./);
    assert.match(hostAddress(role, 6), /^2001:db8:77:/);
    const { via } = ROUTES.find((route) => route.role === role)!;
    assert.match(via[4], /^10\.77\.[01]\.1$/);
    assert.match(via[6], /^2001:db8:77:(1:)?:1$/);
  }
  for (const { addresses } of SERVICE_PLACES) {
    assert.deepEqual(addresses, ["10.77.0.100/32", "2001:db8:77::100/128"]);
  }
  assert.equal(ROLES.length, 4);
});

Deno.test("lab commands: all of one IP version, as one can type them", () => {
  const options = { port: 80, interval: 50, multiplier: 3, commit: false };
  const four = describeCommands({ ...options, family: 4 }).join("\n");
  assert.ok(four.includes("--service 10.77.0.100:80") && !four.includes("2001:"));
  const six = describeCommands({ ...options, family: 6 }).join("\n");
  assert.ok(six.includes("--service '[2001:db8:77::100]:80'") && !six.includes("10.77"));
  assert.match(six, /detect --peer 2001:db8:77::11 .* \| ssh backup t2cp takeover --on failed/);
});

Deno.test("lab commands: the backup fetches the events of guard and detect", () => {
  const probe = "exec:echo probe";
  const options = { port: 80, interval: 50, multiplier: 3, commit: false, guard: 7, probe };
  const line = describeCommands({ ...options, family: 4 }).at(-1)!;
  assert.match(line, /^backup# +\{ ssh primary t2cp guard .* --pid 7 --target primary & /);
  assert.match(
    line,
    / & ssh gateway t2cp detect .* --probe 'exec:echo probe'; \} \| t2cp takeover /,
  );
});

Deno.test("lab servers: every probe of the lab is one that detect takes", () => {
  for (const family of [4, 6] as const) {
    for (const port of [WEB_PORT, ECHO_PORT, CHAT_PORT]) parseProbe(probeOf(port, family));
  }
});
