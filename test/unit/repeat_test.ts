import assert from "node:assert/strict";
import { threadMicros } from "../../ffi/clock.ts";
import { repeat } from "../../lib/program/repeat.ts";
import { poll } from "../fixture/wait.ts";

// Loads the library, which stays.
threadMicros();

Deno.test("repeat: a turn that cost much is followed by a rest", async () => {
  let micros = 0, turns = 0;
  using _turns = repeat(
    () => {
      turns += 1;
      micros += 3e6;
    },
    1,
    () => micros,
  );
  await poll("the first turn", () => turns > 0);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(turns, 1, "the next one comes after a minute");
});

Deno.test("repeat: time in which the thread did not run does not count", async () => {
  let turns = 0;
  const wait = new Int32Array(new SharedArrayBuffer(4));
  const start = performance.now();
  using _turns = repeat(() => {
    turns += 1;
    Atomics.wait(wait, 0, 0, 500);
  }, 1);
  await poll("a third turn", () => turns === 3);
  // By the clock on the wall each would have been followed by ten seconds.
  assert.ok(performance.now() - start < 10_000, "soon");
});
