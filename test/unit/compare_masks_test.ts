/**
 * Masks: the same matches as JavaScript's regular expressions, and no text that makes them slow.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Masks, MAX_LINE } from "../../lib/compare/masks.ts";
import { PRESETS } from "../../lib/compare/presets.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0));

/** Which bytes of a line are hidden, as digits. */
function hidden(masks: Masks, line: string): string {
  const bytes = latin1(line);
  return masks.cover(bytes, 0, bytes.length, true, true, 0).hidden.subarray(0, bytes.length).join(
    "",
  );
}

/** The same, by trying every part of the line. */
function tried(pattern: string, line: string): string {
  const content = line.replace(/\r?\n$/, "");
  const covered = [...line].fill("0");
  for (let from = 0; from < line.length; from++) {
    for (let to = from + 1; to <= line.length; to++) {
      const front = `(?<=^[^]{${from}})`;
      const back = `(?=[^]{${line.length - to}}$(?![^]))`;
      // "$" of a mask stands in front of the line end, which no class takes but one that names it.
      const own = pattern.replaceAll("[^a]", "[^a\\n]")
        .replaceAll("$", `(?=[^]{${line.length - content.length}}$(?![^]))`);
      if (new RegExp(`${front}(?:${own})${back}`).test(line)) covered.fill("1", from, to);
    }
  }
  return covered.join("");
}

const leaf = fc.constantFrom("a", "b", "c", ".", "[ab]", "[^a]", "\\w", "\\S", "\\x61", "(?:)");
const { pattern } = fc.letrec<{ pattern: string; part: string }>((tie) => ({
  part: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc.tuple(tie("part"), fc.constantFrom("*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}"))
      .map(([part, times]) => `(?:${part})${times}`),
    fc.tuple(tie("part"), tie("part")).map(([a, b]) => `(${a}|${b})`),
    fc.tuple(tie("part"), tie("part")).map((parts) => parts.join("")),
  ),
  pattern: fc.tuple(
    fc.constantFrom("", "", "^"),
    tie("part"),
    fc.constantFrom("", "", "$"),
  ).map((parts) => parts.join("")),
}));
const line = fc.tuple(
  fc.array(fc.constantFrom(..."abcd "), { maxLength: 9 }).map((chars) => chars.join("")),
  fc.constantFrom("", "\n", "\r\n"),
).map((parts) => parts.join(""));

Deno.test("what a line hides does not depend on the lines before", () => {
  const piece = fc.record({
    text: fc.constantFrom("ab\n", "ab\r\n", "ab", "ac\n", `${"a".repeat(300)}b\n`, ""),
    begins: fc.boolean(),
    ends: fc.boolean(),
    side: fc.constantFrom<0 | 1>(0, 1),
  });
  type Piece = typeof piece extends fc.Arbitrary<infer Value> ? Value : never;
  const cover = (masks: Masks, { text, begins, ends, side }: Piece) => {
    const bytes = latin1(text);
    const { hidden, whole } = masks.cover(bytes, 0, bytes.length, begins, ends, side);
    return { hidden: hidden.slice(0, bytes.length), whole };
  };
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces: Piece[]) => {
      const masks = new Masks(["^a*b$"]);
      const alone = (one: Piece) => cover(new Masks(masks.patterns), one);
      for (const one of pieces) assert.deepEqual(cover(masks, one), alone(one));
      masks.add("c");
      for (const one of pieces) assert.deepEqual(cover(masks, one), alone(one));
    }),
  );
});

Deno.test("a mask hides every byte of every match", () => {
  fc.assert(
    fc.property(pattern, line, (mask, text) => {
      assert.equal(hidden(new Masks([mask]), text), tried(mask, text), `${mask} in "${text}"`);
    }),
    { numRuns: 300 },
  );
});

Deno.test("no text takes a mask long: what would is left unmasked, and counted", () => {
  const masks = new Masks(["(a|b)*a(a|b){14}c", "(a+)+c", "([ab]{1,300}c)+", "(.*)(.*)(.*)d"]);
  const text = Uint8Array.from({ length: MAX_LINE }, (_, i) => 0x61 + (i * 7919 >> 5 & 1));
  const begin = performance.now();
  for (let i = 0; i < 8; i++) masks.cover(text, 0, text.length, true, true, 0);
  assert.ok(performance.now() - begin < 8000);
  assert.ok(masks.unmasked > 0);
  assert.equal(hidden(masks, "xaac\n"), "01110");
});

Deno.test("a mask that an automaton cannot follow is refused with what to write", () => {
  const cases: [string, string][] = [
    ["", `Mask "" is empty; write one such as "^Date: .*"`],
    ["a*?b", `has "?" behind a repetition; a mask hides every match: write a class`],
    ["(a)\\1", `refers back to a group; write what the group would match`],
    ["(?=a)", `looks around itself or names a group; only`],
    ["(?<n>a)", `looks around itself`],
    ["(a", `lacks a ")"; write "\\("`],
    ["a)", `has a ")" too many; write "\\)"`],
    ["[a", `lacks a "]"; write "\\["`],
    ["[b-a]", `has a range that is none; write "\\-"`],
    ["*a", `has nothing in front of "*"; write "\\*"`],
    ["a\\", `ends with a backslash; write "\\\\"`],
    ["\\bfoo", `has "\\b", which means nothing here`],
    ["[é]", `has "é" in a class, whose members are bytes; write "(?:…|é)"`],
    ["a{3,2}", `repeats "{3,2}"; write 0 to 1000`],
    ["(a{1000}){1000}", `makes the masks too large`],
    ["(a?){1000}", `makes the masks too large`],
    ["(".repeat(100), `nests too deep`],
    ["@htp", `There is no preset "@htp"; write one of "@http-date", `],
  ];
  for (const [mask, message] of cases) {
    assert.throws(() => new Masks([mask]), (error) => {
      assert.ok(error instanceof Failure, String(error));
      assert.equal(error.status, ExitStatus.USAGE);
      assert.ok(error.line.includes(message), error.line);
      return true;
    });
  }
});

Deno.test("text beyond ASCII is compared as UTF-8", () => {
  const text = String.fromCharCode(...new TextEncoder().encode("x€y"));
  assert.equal(hidden(new Masks(["€"]), text), "01110");
  assert.equal(hidden(new Masks(["\\u20ac"]), text), "01110");
  assert.equal(hidden(new Masks(["\\xe2."]), text), "01100");
});

Deno.test("the presets hide what they say", () => {
  const cases: [string, string, string][] = [
    ["@http", "Date: Mon, 23 Nov 2026 23:50:25 GMT\r\n", "Date: Mon, 23 Nov 2026 23:50:25 GMT"],
    ["@http", 'etag: W/"abc"\r\n', 'etag: W/"abc"'],
    ["@http", "Set-Cookie: a=b; Path=/\r\n", "Set-Cookie: a=b; Path=/"],
    ["@http", "X-Request-ID: 17\r\n", "X-Request-ID: 17"],
    ["@http", "X-Date: 1\r\n", ""],
    ["@http", "Server: nginx\r\n", ""],
    ["@http-server", "Server: nginx\r\n", "Server: nginx"],
    ["@http-length", "Content-Length: 17\r\n", "Content-Length: 17"],
    ["@time", "at 2026-11-23T23:50:25.123456Z.\n", "2026-11-23T23:50:25.123456Z"],
    ["@time", "at 2026-11-23 23:50:25+01:00 \n", "2026-11-23 23:50:25+01:00"],
    ["@time", "<p>Mon, 23 Nov 2026 23:50:25 GMT\n", "Mon, 23 Nov 2026 23:50:25 GMT"],
    ["@time", "Nov 23 23:50:25 host x\n", "Nov 23 23:50:25"],
    ["@uuid", "id 123e4567-e89b-12d3-a456-426614174000 x", "123e4567-e89b-12d3-a456-426614174000"],
  ];
  for (const [mask, text, wanted] of cases) {
    const digits = hidden(new Masks([mask]), text);
    assert.equal([...text].filter((_, i) => digits[i] === "1").join(""), wanted, text);
  }
  for (const name of Object.keys(PRESETS)) new Masks([`@${name}`]);
});
