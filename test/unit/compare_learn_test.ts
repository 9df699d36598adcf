/**
 * Masks that are learnt from two runs.
 */
import assert from "node:assert/strict";
import { Lesson, maskOf } from "../../lib/compare/learn.ts";
import { Masks } from "../../lib/compare/masks.ts";

const encoder = new TextEncoder();

Deno.test("a learnt mask is the value of a field, or the word between the same texts", () => {
  const cases: [string, string, string][] = [
    ["ETag: a1\r\n", "ETag: b2\r\n", "^ETag:.*"],
    ['<a id="x17">\n', '<a id="x19">\n', '^<a id="[A-Za-z0-9_-]*">$'],
    ["took 3.5 s", "took 12.5 s", "^took [A-Za-z0-9_-]*\\.5 s$"],
    [`${"x ".repeat(20)}1`, `${"x ".repeat(20)}2`, `${"x ".repeat(12)}[A-Za-z0-9_-]*$`],
    ["it's 1", "it's 2", "^it\\x27s [A-Za-z0-9_-]*$"],
    ["at 10:00 (a)", "at 11:30 (b)", "^at .*\\)$"],
  ];
  for (const [a, b, mask] of cases) {
    assert.equal(maskOf(a, b), mask);
    for (const line of [a, b]) {
      const bytes = encoder.encode(line);
      assert.ok(new Masks([mask]).cover(bytes, 0, bytes.length, true, true, 0).hidden.includes(1));
    }
  }
});

Deno.test("what differs between two runs is masked, and what both have in common is compared", () => {
  const masks = new Masks();
  const lesson = new Lesson(masks);
  const page = (id: string, text: string): Uint8Array => encoder.encode(`id=${id}\n${text}`);
  const run = (which: "first" | "second", ...answers: Uint8Array[]): unknown => {
    const comparison = lesson[which](0);
    for (const answer of answers) {
      comparison.capturedClient(encoder.encode("GET"));
      comparison.liveClient();
      comparison.captured(page("captured", "text\n"));
      comparison.live(answer);
    }
    return comparison.finish().fields["answers_differing"];
  };
  run("first", page("1", "text\n"), page("2", "text\n"), page("3", "other\n"));
  // Masks change nothing for what is the same in both runs.
  const differing = run("second", page("7", "text\n"), page("8", "text\n"), page("9", "other\n"));
  assert.deepEqual(lesson.learnt, ["^id=[A-Za-z0-9_-]*$"]);
  assert.equal(differing, 1);
  assert.equal(lesson.unlearnt, 0);
});
