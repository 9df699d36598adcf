import assert from "node:assert/strict";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import {
  block,
  type Bytes,
  concat,
  enhancedPacket,
  interfaceBlock,
  option,
  pack,
  pcapHeader,
  pcapRecord,
  readAll,
  section,
} from "../fixture/capture_file.ts";

const orders = [true, false] as const;
const data = Uint8Array.of(1, 2, 3, 4, 5);
const none = new Uint8Array(0);

/** What stands for a frame of `data`. */
function frame(seconds: number, nanos: number, more: object = {}): object {
  return { seconds, nanos, length: 5, linkType: 1, interfaceId: 0, data, ...more };
}

async function frames(...parts: readonly Uint8Array[]): Promise<object[]> {
  const { frames, error } = await readAll(concat(...parts));
  assert.equal(error, undefined);
  return frames;
}

Deno.test("capture: pcap in either byte order, microseconds and nanoseconds", async () => {
  for (const little of orders) {
    const micros = [pcapHeader(little), pcapRecord(little, 7, 999_999, data)];
    assert.deepEqual(await frames(...micros), [frame(7, 999_999_000)]);
    const nanos = [
      pcapHeader(little, 0xa1b23c4d, 101),
      pcapRecord(little, 2 ** 32 - 1, 1, data, 9),
    ];
    const expected = frame(2 ** 32 - 1, 1, { linkType: 101, length: 9 });
    assert.deepEqual(await frames(...nanos), [expected]);
  }
});

Deno.test("capture: pcap with the longer record headers, and a frame check sequence's length", async () => {
  const record = concat(
    pack(true, [32, 7], [32, 1], [32, 5], [32, 5], [32, 1], [16, 8], [8, 4], [8, 0]),
    data,
  );
  const header = pcapHeader(true, 0xa1b2cd34, 0x24000001);
  assert.deepEqual(await frames(header, record, record), [frame(7, 1000), frame(7, 1000)]);
});

Deno.test("capture: a pcap time with a fraction above a second is carried", async () => {
  const record = pcapRecord(true, 7, 2_500_000, data);
  assert.deepEqual(await frames(pcapHeader(true), record), [frame(9, 500_000_000)]);
});

Deno.test("capture: pcapng of two sections in both byte orders, interfaces of several link types", async () => {
  const parts = orders.flatMap((little) => [
    section(little),
    interfaceBlock(little, 1),
    interfaceBlock(little, 101, option(little, 9, Uint8Array.of(9))),
    enhancedPacket(little, 1, 1_700_000_000_123_456_789n, data),
    enhancedPacket(little, 0, 1_700_000_000_123_456n, data, 99),
  ]);
  const expected = [
    frame(1_700_000_000, 123_456_789, { linkType: 101, interfaceId: 1 }),
    frame(1_700_000_000, 123_456_000, { length: 99 }),
  ];
  assert.deepEqual(await frames(...parts), [...expected, ...expected]);
});

Deno.test("capture: unknown blocks and options, statistics and names are passed over", async () => {
  for (const little of orders) {
    const options = concat(
      option(little, 2, new TextEncoder().encode("eth0")),
      option(little, 0x8123, data),
      option(little, 9, Uint8Array.of(6)),
      option(little, 0, none),
    );
    const ends = pack(little, [32, 0]);
    const parts = [
      section(little),
      interfaceBlock(little, 1, options),
      block(little, 4, ends),
      block(little, 5, pack(little, [32, 0], [32, 0], [32, 0])),
      block(little, 0x0badcafe, data),
      block(little, 0xbad, concat(pack(little, [32, 32473]), data)),
      enhancedPacket(little, 0, 1_000_001n, data, 5, option(little, 2, pack(little, [32, 1]))),
      block(little, 0x80000001, none),
    ];
    assert.deepEqual(await frames(...parts), [frame(1, 1000)]);
  }
});

Deno.test("capture: simple packets have no time, obsolete ones have a 16-bit interface", async () => {
  for (const little of orders) {
    const long = pack(little, [32, 5]);
    const parts = [
      section(little),
      interfaceBlock(little, 1, none, 3),
      block(little, 3, concat(long, data.subarray(0, 3))),
      block(
        little,
        2,
        concat(pack(little, [16, 0], [16, 77], [32, 0], [32, 5], [32, 5], [32, 5]), data),
      ),
    ];
    assert.deepEqual(await frames(...parts), [
      frame(0, 0, { data: data.subarray(0, 3) }),
      frame(0, 5000),
    ]);
  }
});

Deno.test("capture: time stamps of every resolution and offset, as exact arithmetic has them", async () => {
  await fc.assert(fc.asyncProperty(
    fc.oneof(fc.integer({ min: 0, max: 19 }), fc.integer({ min: 0x80, max: 0x80 + 63 })),
    fc.option(fc.bigInt({ min: -5_000_000_000n, max: 5_000_000_000n }), { nil: undefined }),
    fc.array(fc.bigInt({ min: 0n, max: 2n ** 63n }), { minLength: 1, maxLength: 4 }),
    fc.boolean(),
    async (resolution, offset, any, little) => {
      const units = (resolution & 0x80) === 0
        ? 10n ** BigInt(resolution)
        : 2n ** BigInt(resolution & 0x7f);
      const stamps = any.map((stamp) => stamp % (units << 40n));
      const signed = new Uint8Array(8);
      new DataView(signed.buffer).setBigInt64(0, offset ?? 0n, little);
      const options = concat(
        option(little, 9, Uint8Array.of(resolution)),
        offset === undefined ? none : option(little, 14, signed),
      );
      const parts = stamps.map((stamp) => enhancedPacket(little, 0, stamp, data));
      const got = await frames(section(little), interfaceBlock(little, 1, options), ...parts);
      assert.deepEqual(
        got,
        stamps.map((stamp) =>
          frame(
            Number(stamp / units + (offset ?? 0n)),
            Number(stamp % units * 1_000_000_000n / units),
          )
        ),
      );
    },
  ));
});

/** A pcapng with frames of sizes from 0 to 2000 bytes. */
function mixed(): Bytes {
  const sizes = [0, 1, 64, 1514, 2000, 3];
  return concat(
    section(true),
    interfaceBlock(true, 1),
    ...sizes.map((size, i) => enhancedPacket(true, 0, BigInt(i), new Uint8Array(size).fill(i))),
  );
}

Deno.test("capture: the result does not depend on the pieces in which the input comes", async () => {
  const whole = await readAll(mixed());
  assert.equal(whole.frames.length, 6);
  for (const step of [1, 2, 3, 7, 64, 1000]) {
    assert.deepEqual(await readAll(mixed(), step), whole);
  }
});

Deno.test("capture: gzip of one and of several members, and Zstandard", async () => {
  const plain = mixed();
  const expected = await readAll(plain);
  const members = concat(gzipSync(plain.subarray(0, 99)), gzipSync(plain.subarray(99)));
  for (const packed of [gzipSync(plain), members, zstdCompressSync(plain)]) {
    assert.deepEqual(await readAll(new Uint8Array(packed)), expected);
    assert.deepEqual(await readAll(new Uint8Array(packed), 10), expected);
  }
});

Deno.test("capture: a frame of several MiB is read, and the buffer grows for it", async () => {
  const large = new Uint8Array(5 << 20).fill(7);
  const got = await readAll(
    concat(
      section(true),
      interfaceBlock(true, 1),
      enhancedPacket(true, 0, 1n, data),
      enhancedPacket(true, 0, 2n, large),
      enhancedPacket(true, 0, 3n, data),
    ),
    300_000,
  );
  assert.equal(got.error, undefined);
  assert.deepEqual(got.frames.map((frame) => frame.data.length), [5, 5 << 20, 5]);
  assert.deepEqual(got.frames[1]!.data, large);
});

Deno.test("capture: a file of headers alone has no frames and is sound", async () => {
  assert.deepEqual(await frames(pcapHeader(false)), []);
  assert.deepEqual(await frames(section(false)), []);
});
