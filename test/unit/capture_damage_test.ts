import assert from "node:assert/strict";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { readCapture } from "../../lib/capture/open.ts";
import { ExitStatus } from "../../lib/failure.ts";
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
  sourceOf,
} from "../fixture/capture_file.ts";

const data = Uint8Array.of(1, 2, 3, 4, 5);

/** A small file of each kind, as the parts that it may be cut between. */
const files: Record<string, Bytes[]> = {
  pcap: [pcapHeader(true), ...[1, 2, 3].map((time) => pcapRecord(true, time, 0, data))],
  "pcap, big-endian": [pcapHeader(false), pcapRecord(false, 1, 0, data)],
  pcapng: [
    section(true),
    interfaceBlock(true, 1, option(true, 9, Uint8Array.of(9))),
    enhancedPacket(true, 0, 1n, data),
    block(true, 5, new Uint8Array(12)),
    enhancedPacket(true, 0, 2n, data),
    section(false),
    interfaceBlock(false, 1),
    enhancedPacket(false, 0, 3n, data),
    block(false, 3, concat(pack(false, [32, 5]), data)),
  ],
};

Deno.test("capture: a file cut at any byte gives what is whole, then the cut block's number and offset", async () => {
  for (const [kind, parts] of Object.entries(files)) {
    const whole = concat(...parts);
    const all = (await readAll(whole)).frames;
    for (let size = 0; size < whole.length; size++) {
      const ends = parts.map((_, i) => concat(...parts.slice(0, i + 1)).length);
      const complete = ends.filter((end) => end <= size).length;
      const { frames, error } = await readAll(whole.subarray(0, size), 13);
      assert.deepEqual(frames, all.slice(0, frames.length), kind);
      if (complete > 0 && ends[complete - 1] === size) {
        assert.equal(error, undefined, `${kind} of ${size} bytes`);
        continue;
      }
      assert.ok(error !== undefined, `${kind} of ${size} bytes`);
      assert.equal(error.status, ExitStatus.BAD_INPUT);
      const offset = complete === 0 ? 0 : ends[complete - 1];
      assert.deepEqual(error.place, { file: "test", block: complete + 1, offset });
      assert.match(
        error.message,
        new RegExp(`^Block ${complete + 1} at byte ${offset} of "test" `),
      );
    }
  }
});

Deno.test("capture: flipped bits give frames or an error with its place, and never more than the file has", async () => {
  const plain = Object.values(files).map((parts) => concat(...parts));
  const packed = plain.flatMap((file) => [gzipSync(file), zstdCompressSync(file)]);
  const kinds = [...plain, ...packed.map((file) => new Uint8Array(file))];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...kinds),
      fc.array(fc.nat(1 << 12), { minLength: 1, maxLength: 4 }),
      async (file, flips) => {
        const broken = file.slice();
        for (const flip of flips) broken[(flip >> 3) % file.length]! ^= 1 << (flip & 7);
        const { frames, error } = await readAll(broken);
        assert.ok(frames.length <= 8);
        if (error === undefined) return;
        assert.ok(error.place.block >= 1 && error.place.offset <= 1 << 16);
      },
    ),
    { numRuns: 1000 },
  );
});

/** The message for a file of these parts, without its beginning "Block 3 at byte 48 of …". */
async function complaint(...parts: readonly Uint8Array[]): Promise<string> {
  const { error } = await readAll(concat(...parts), 7);
  assert.ok(error !== undefined);
  return error.message.replace(/^Block (\d+) at byte (\d+) of "test" /, "$1@$2 ");
}

Deno.test("capture: a length that no memory should be spent on is refused", async () => {
  const claims = pack(true, [32, 1], [32, 0], [32, 0xfffffff0], [32, 5]);
  assert.equal(
    await complaint(pcapHeader(true), claims),
    "2@24 claims 4294967296 bytes, more than 16777216",
  );
  assert.equal(
    await complaint(section(true), pack(true, [32, 6], [32, 0xfffffff0], [32, 0])),
    "2@28 claims 4294967280 bytes, more than 16777216",
  );
});

Deno.test("capture: what is wrong with a pcapng block is said", async () => {
  const start = [section(true), interfaceBlock(true, 1)];
  const at = "3@48";
  const bad: [Bytes, string][] = [
    [pack(true, [32, 6], [32, 8], [32, 8]), "claims 8 bytes"],
    [pack(true, [32, 6], [32, 13], [32, 8]), "claims 13 bytes"],
    [pack(true, [32, 9], [32, 12], [32, 16]), "claims 12 bytes at its start, 16 at its end"],
    [enhancedPacket(true, 1, 0n, data), "names interface 1, which no block describes"],
    [block(true, 6, new Uint8Array(16)), "has 16 bytes within, and needs 20"],
    [
      block(true, 6, pack(true, [32, 0], [32, 0], [32, 0], [32, 9], [32, 9], [32, 0])),
      "claims a frame of 9 bytes and has room for 4",
    ],
    [
      interfaceBlock(true, 1, pack(true, [16, 2], [16, 99])),
      "has an option 2 of 99 bytes, longer than the block",
    ],
    [block(true, 0x0a0d0d0a, data), "is a section header without a byte-order magic"],
    [
      block(true, 0x0a0d0d0a, pack(true, [32, 0x1a2b3c4d], [16, 2], [16, 0], [32, 0], [32, 0])),
      "has version 2 of the format, which is not known",
    ],
  ];
  for (const [block, message] of bad) {
    assert.equal(await complaint(...start, block), `${at} ${message}`);
  }
});

Deno.test("capture: what is no capture file is refused as its first block", async () => {
  assert.equal(await complaint(), "1@0 is missing, for there are no bytes");
  const neither = "1@0 begins neither a pcap nor a pcapng";
  assert.equal(await complaint(data), neither);
  assert.equal(await complaint(new Uint8Array(gzipSync(data))), neither);
  const old = pack(true, [32, 0xa1b2c3d4], [16, 1], [16, 0], [32, 0], [32, 0], [32, 0], [32, 1]);
  assert.equal(await complaint(old), "1@0 has version 1 of the format, which is not known");
});

Deno.test("capture: compressed data that is cut or broken is an error, after the frames before it", async () => {
  const noise = () => crypto.getRandomValues(new Uint8Array(60_000));
  const file = concat(
    section(true),
    interfaceBlock(true, 1),
    ...Array.from({ length: 50 }, (_, i) => enhancedPacket(true, 0, BigInt(i), noise())),
  );
  const packed = new Uint8Array(gzipSync(file));
  const cut = await readAll(packed.subarray(0, packed.length / 2));
  assert.match(cut.error?.message ?? "", /cannot be decompressed/);
  assert.ok(cut.frames.length >= 20 && cut.frames.length < 50, `${cut.frames.length} frames`);
  const squeezed = new Uint8Array(zstdCompressSync(file));
  const half = await readAll(squeezed.subarray(0, squeezed.length / 2));
  assert.ok(half.error !== undefined);
  assert.ok(half.frames.length >= 20 && half.frames.length < 50, `${half.frames.length} frames`);
});

Deno.test("capture: data that expands a thousandfold does not fill the memory", async () => {
  const before = Deno.memoryUsage().rss;
  const frame = enhancedPacket(true, 0, 0n, new Uint8Array(250_000));
  const member = gzipSync(concat(...Array.from({ length: 64 }, () => frame)));
  const head = gzipSync(concat(section(true), interfaceBlock(true, 1)));
  const whole = concat(head, ...Array.from({ length: 20 }, () => member));
  using capture = await readCapture(sourceOf(whole), "test");
  while (await capture.reader.fill()) {
    while (capture.reader.next());
  }
  assert.equal(capture.reader.frames, 20 * 64);
  const grown = Deno.memoryUsage().rss - before;
  assert.ok(grown < 200e6, `${grown} bytes more`);
});
