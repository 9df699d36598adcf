import assert from "node:assert/strict";
import { Failure } from "../../lib/failure.ts";
import {
  formatBytes,
  formatMillis,
  parseLinkRate,
  parsePoint,
  parseRate,
  parseSize,
} from "../../lib/lab/quantity.ts";

function refused(parse: (text: string) => unknown, texts: string[]): void {
  for (const text of texts) {
    assert.throws(
      () => parse(text),
      (error) =>
        error instanceof Failure && error.status === 64 && error.message.includes(`"${text}"`) &&
        error.mend !== undefined,
      text,
    );
  }
}

Deno.test("lab quantity: sizes with decimal and binary factors", () => {
  assert.equal(parseSize("1"), 1);
  assert.equal(parseSize("200M"), 200_000_000);
  assert.equal(parseSize("200MB"), 200_000_000);
  assert.equal(parseSize("64Ki"), 65_536);
  assert.equal(parseSize("1.5k"), 1500);
  assert.equal(parseSize("1GiB"), 2 ** 30);
  refused(parseSize, ["", "0", "-1", "M", "1 M", "1m", "1e9", "0.5", "101G", "1MM", "0x10"]);
});

Deno.test("lab quantity: rates in MB/s, 0 for no limit", () => {
  assert.equal(parseRate("40"), 40e6);
  assert.equal(parseRate("0.5"), 5e5);
  assert.equal(parseRate("0"), 0);
  refused(parseRate, ["", "-1", "fast", "40M", "0.01", "10001", "1e3"]);
});

Deno.test("lab quantity: link rates as tc writes them", () => {
  assert.equal(parseLinkRate("1gbit"), 1e9);
  assert.equal(parseLinkRate("100mbit"), 1e8);
  assert.equal(parseLinkRate("2.5gbit"), 2.5e9);
  refused(parseLinkRate, ["", "1", "1Gbit", "1g", "0mbit", "10kbit", "1000gbit"]);
});

Deno.test("lab quantity: points in a transfer", () => {
  assert.deepEqual(parsePoint("40%"), { share: 0.4 });
  assert.deepEqual(parsePoint("1.5s"), { seconds: 1.5 });
  assert.deepEqual(parsePoint("800ms"), { seconds: 0.8 });
  refused(parsePoint, ["", "40", "0%", "100%", "-1s", "1m", "3601s", "s", "%"]);
});

Deno.test("lab quantity: formats for people", () => {
  assert.equal(formatBytes(0), "0 bytes");
  assert.equal(formatBytes(999), "999 bytes");
  assert.equal(formatBytes(200e6), "200 MB");
  assert.equal(formatBytes(39_731_234), "39.73 MB");
  assert.equal(formatMillis(2.345), "2.35 ms");
  assert.equal(formatMillis(152.34), "152.3 ms");
  assert.equal(formatMillis(null), "–");
});
