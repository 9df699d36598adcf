import assert from "node:assert/strict";
import {
  CRASH,
  GUARD_CONTROL,
  GUARD_EVENT,
  guardCounters,
  GUARDED,
  guardEventTypes,
  HELD,
  MARK_RELEASE,
  readGuardEvent,
} from "../../lib/guard/layout.ts";
import { describeExit, isCrash } from "../../lib/guard/processes.ts";
import { assertCounters, bpfHeader, enumerators, testStructs } from "../fixture/layout.ts";

const header = bpfHeader("guard_layout.h");

testStructs(header, {
  guard_control: GUARD_CONTROL,
  guarded: GUARDED,
  held: HELD,
  crash: CRASH,
  guard_event: GUARD_EVENT,
});

Deno.test("guard layout: the mark, the counters and the events are those of the header", () => {
  assert.equal(header.defines.get("MARK_RELEASE"), MARK_RELEASE);
  assertCounters(header, "guard_counter", "GUARD_", guardCounters);
  const types = guardEventTypes.flatMap((name, value) => name === undefined ? [] : [[name, value]]);
  assert.deepEqual(
    enumerators(header, "guard_event_type", "GUARD_EVENT_"),
    Object.fromEntries(types),
  );
});

Deno.test("guard layout: an event is read whole, and one cut short or of another type is none", () => {
  const view = new DataView(new ArrayBuffer(GUARD_EVENT.size + 3), 3);
  view.setUint32(GUARD_EVENT.type, 2, true);
  view.setUint32(GUARD_EVENT.tgid, 4711, true);
  view.setBigUint64(GUARD_EVENT.ns, 123_456_789n, true);
  view.setUint32(GUARD_EVENT.exit_code, 9, true);
  new TextEncoder().encodeInto("nginx", new Uint8Array(view.buffer, 3 + GUARD_EVENT.name));
  assert.deepEqual(readGuardEvent(view), {
    type: "exit",
    pid: 4711,
    ns: 123_456_789,
    exitCode: 9,
    name: "nginx",
  });
  assert.equal(readGuardEvent(new DataView(view.buffer, 3, GUARD_EVENT.size - 1)), undefined);
  view.setUint32(GUARD_EVENT.type, 77, true);
  assert.equal(readGuardEvent(view), undefined);
});

Deno.test("guard: what counts as a crash", () => {
  // wait(2): the signal in the low seven bits, 128 for a core dump, the status above.
  const cases: [code: number, text: string, crash: boolean][] = [
    [0, "status 0", false],
    [1 << 8, "status 1", true],
    [143 << 8, "status 143", true],
    [9, "signal 9", true],
    [11 | 128, "signal 11", true],
    [6, "signal 6", true],
    [13, "signal 13", true],
    [1, "signal 1", false],
    [2, "signal 2", false],
    [15, "signal 15", false],
  ];
  for (const [code, text, crash] of cases) {
    assert.equal(describeExit(code), text);
    assert.equal(isCrash(code), crash, text);
  }
});
