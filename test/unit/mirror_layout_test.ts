import assert from "node:assert/strict";
import {
  COMMIT,
  HEARING,
  MARK_RESET,
  MAX_WAITING,
  MIRROR_ANSWERS,
  MIRROR_COMMIT,
  MIRROR_CONTROL,
  MIRROR_PAYLOAD,
  mirrorCounters,
  RESET,
  ResetState,
  SIGNALS,
  WAITING,
} from "../../lib/mirror/layout.ts";
import { assertCounters, bpfHeader, enumerators, testStructs } from "../fixture/layout.ts";

const header = bpfHeader("mirror_layout.h");

testStructs(header, {
  mirror_control: MIRROR_CONTROL,
  commit: COMMIT,
  hearing: HEARING,
  reset: RESET,
  signals: SIGNALS,
  waiting: WAITING,
});

Deno.test("mirror layout: the mark, the flags and the counters are those of the header", () => {
  const define = (name: string): number | undefined => header.defines.get(name);
  assert.equal(define("MARK_RESET"), MARK_RESET);
  assert.equal(define("MIRROR_PAYLOAD"), MIRROR_PAYLOAD);
  assert.equal(define("MIRROR_COMMIT"), MIRROR_COMMIT);
  assert.equal(define("MIRROR_ANSWERS"), MIRROR_ANSWERS);
  assert.equal(define("MAX_WAITING"), MAX_WAITING);
  assertCounters(header, "mirror_counter", "MIRROR_", mirrorCounters);
});

Deno.test("mirror layout: states of a reset are those of the header", () => {
  const states = Object.entries(ResetState).map(([name, value]) => [name.toLowerCase(), value]);
  assert.deepEqual(enumerators(header, "reset_state", "RESET_"), Object.fromEntries(states));
});
