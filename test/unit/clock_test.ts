import assert from "node:assert/strict";
import fc from "fast-check";
import { formatTime, nowMicros } from "../../lib/clock.ts";

Deno.test("the clock follows the system's wall clock", () => {
  const before = Date.now() * 1000;
  const now = nowMicros();
  const after = (Date.now() + 1) * 1000;
  assert.ok(before <= now && now <= after, `${before} <= ${now} <= ${after}`);
  assert.ok(Number.isSafeInteger(now));
});

Deno.test("the clock resolves well below a millisecond", () => {
  const times = Array.from({ length: 2000 }, () => nowMicros() % 1000);
  assert.ok(new Set(times).size > 20, `${new Set(times).size} values of microseconds`);
});

Deno.test("times are RFC 3339 in UTC with microseconds", () => {
  assert.equal(formatTime(0), "1970-01-01T00:00:00.000000Z");
  assert.equal(formatTime(1_769_860_800_000_250), "2026-01-31T12:00:00.000250Z");
  assert.equal(formatTime(1_769_860_800_999_999.5), "2026-01-31T12:00:00.999999Z");
  assert.equal(formatTime(-1), "1969-12-31T23:59:59.999999Z");
});

Deno.test("a formatted time reads back to the same microsecond", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -62_135_596_800_000_000, max: 253_402_300_799_999_999 / 100 }),
      (t) => {
        const text = formatTime(t);
        assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
        assert.equal(Number(Temporal.Instant.from(text).epochNanoseconds / 1000n), t);
      },
    ),
  );
});

Deno.test("a time beyond the year 9999 is refused", () => {
  assert.throws(() => formatTime(253_402_300_800_000_000), RangeError);
  assert.throws(() => formatTime(NaN), RangeError);
});
