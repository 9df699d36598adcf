import assert from "node:assert/strict";
import fc from "fast-check";
import { Progress } from "../../lib/lab/measure.ts";
import { drawPicture, type Moment } from "../../lib/lab/picture.ts";
import { element, escapeXml, pathData, svgDocument, ticks } from "../../lib/lab/svg.ts";

/** Asserts that `text` is well-formed XML of elements, attributes and text. */
function assertWellFormed(text: string): void {
  const open: string[] = [];
  const rest = text.replace(/^<\?xml version="1\.0" encoding="UTF-8"\?>\n/, "").replaceAll(
    /<(\/?)([a-zA-Z]+)((?: [a-zA-Z0-9:-]+="[^"<&]*(?:&#[0-9]+;[^"<&]*)*")*)(\/?)>/g,
    (_, close, name, attributes, empty) => {
      const names = [...attributes.matchAll(/ ([a-zA-Z0-9:-]+)=/g)].map(([, key]) => key);
      assert.equal(new Set(names).size, names.length, "an attribute comes twice");
      if (close) assert.equal(open.pop(), name);
      else if (!empty) open.push(name);
      return "";
    },
  );
  assert.deepEqual(open, [], "elements left open");
  assert.doesNotMatch(rest, /[<]|&(?!#[0-9]+;)/);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(text, /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/);
}

Deno.test("lab svg: any text in attributes and content stays well-formed", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    assertWellFormed(
      svgDocument(10, 10, "", text, element("text", { x: 1, class: text }, text)),
    );
  }));
  assert.equal(escapeXml(`<&>"'`), "&#60;&#38;&#62;&#34;&#39;");
});

Deno.test("lab svg: numbers are finite and short", () => {
  assert.equal(element("line", { x1: 1 / 3, y1: 2 }).text, '<line x1="0.33" y1="2"/>');
  assert.equal(pathData([[0, 1], [2.005, 3]]), "M0 1L2.01 3");
  assert.throws(() => element("line", { x1: NaN }), RangeError);
});

Deno.test("lab svg: ticks are round, in range, in order, and about as many as asked", () => {
  assert.deepEqual(ticks(0, 200, 5), [0, 50, 100, 150, 200]);
  assert.deepEqual(ticks(-82, 210, 6), [-50, 0, 50, 100, 150, 200]);
  assert.deepEqual(ticks(5, 5, 5), [5]);
  const number = fc.double({ min: -1e6, max: 1e6, noNaN: true });
  fc.assert(fc.property(number, fc.double({ min: 0.1, max: 1e9, noNaN: true }), (from, span) => {
    const values = ticks(from, from + span, 6);
    assert.ok(values.length >= 1 && values.length <= 8, String(values));
    assert.deepEqual(values, values.toSorted((a, b) => a - b));
    assert.ok(values.every((v) => v >= from - span * 1e-3 && v <= from + span * 1.001));
  }));
});

const start = 1_800_000_000_000_000;

function transfer(): Progress {
  const progress = new Progress();
  for (let index = 0; index < 5000; index++) {
    const pause = index >= 2000 ? 150_000 : 0;
    progress.add(start + index * 1000 + pause, 40_000);
  }
  return progress;
}

Deno.test("lab picture: axes with units, curve, every moment in marks and legend", () => {
  const cut = start + 2_000_000;
  const moments: Moment[] = [
    { label: "primary cut off", time: cut, look: "cut" },
    { label: "failure detected", time: cut + 148_000, look: "detected" },
    { label: "connections taken over", time: cut + 149_000, look: "active" },
    { label: "first new byte at the client", time: cut + 150_000, look: "first" },
  ];
  const text = drawPicture({ title: "a & b", verb: "received", progress: transfer(), moments });
  assertWellFormed(text);
  assert.match(text, /a &#38; b/);
  assert.match(text, /MB received/);
  assert.match(text, /time since the first byte \(s\)/);
  assert.match(text, /time since the failure \(ms\)/);
  assert.match(text, /prefers-color-scheme: dark/);
  for (const { label, look } of moments) {
    assert.ok(text.includes(label), label);
    assert.equal(text.split(`class="mark ${look}"`).length - 1, 3, "two plots and the legend");
  }
  assert.match(text, /after 148\.0 ms/);
  assert.ok(text.length < 200_000, `${text.length} bytes`);
});

Deno.test("lab picture: without a failure there is one plot and no legend", () => {
  const text = drawPicture({ title: "t", verb: "received", progress: transfer(), moments: [] });
  assertWellFormed(text);
  assert.doesNotMatch(text, /since the failure|class="mark/);
});

Deno.test("lab picture: little or no progress still gives a picture", () => {
  const one = new Progress();
  one.add(start, 10);
  const moments: Moment[] = [{ label: "primary cut off", time: start + 5, look: "cut" }];
  for (const progress of [new Progress(), one]) {
    assertWellFormed(drawPicture({ title: "t", verb: "sent", progress, moments }));
    assertWellFormed(drawPicture({ title: "t", verb: "sent", progress, moments: [] }));
  }
});
