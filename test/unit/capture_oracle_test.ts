import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { CaptureWriter } from "../../lib/capture/writer.ts";
import { readAll } from "../fixture/capture_file.ts";
import { captureFolder, frameList, hasTshark, wireshark } from "../fixture/tshark.ts";

const names = captureFolder === undefined
  ? []
  : [...Deno.readDirSync(captureFolder)].map(({ name }) => name)
    .filter((name) => /\.(pcap|pcapng|cap)$/.test(name)).toSorted();

function time({ seconds, nanos }: { seconds: number; nanos: number }): string {
  return `${seconds}.${String(nanos).padStart(9, "0")}`;
}

Deno.test({
  name:
    "capture: real files (T2CP_PCAPS) have the frames, first and last times that capinfos finds",
  ignore: names.length === 0 || !hasTshark,
  async fn() {
    const paths = names.map((name) => join(captureFolder!, name));
    const { lines, complaint } = await wireshark("capinfos", "-TrcaeS", ...paths);
    assert.equal(complaint, "");
    const expected = lines.map((line) => line.split("\t").slice(1));
    assert.equal(expected.length, names.length);
    for (const [i, path] of paths.entries()) {
      const { frames, error } = await readAll(Deno.readFileSync(path));
      assert.equal(error, undefined, path);
      const times = frames.map(time).toSorted();
      const [count, first, last] = expected[i]!;
      assert.equal(frames.length, Number(count), path);
      assert.ok(times[0]!.startsWith(first!) && times.at(-1)!.startsWith(last!), path);
    }
  },
});

Deno.test({
  name: "capture: each frame of a real file (T2CP_PCAPS) has tshark's time and lengths",
  ignore: names.length === 0 || !hasTshark,
  async fn() {
    // tshark takes its time to start: each pcapng, and two others.
    const chosen = names.filter((name, i) => name.endsWith("ng") || i % 40 === 10);
    await Promise.all(chosen.map(async (name) => {
      const path = join(captureFolder!, name);
      const { frames } = await readAll(Deno.readFileSync(path));
      const ours = frames.map((frame, i) =>
        [i + 1, time(frame), frame.data.length, frame.length].join("\t")
      );
      assert.deepEqual(ours, await frameList(path), name);
    }));
  },
});

Deno.test({
  name: "capture: tshark reads what is written, with interface, comment and statistics",
  ignore: !hasTshark,
  async fn() {
    const directory = Deno.makeTempDirSync({ prefix: "t2cp-capture-" });
    try {
      const writer = await CaptureWriter.open({
        directory,
        section: { hardware: "x86_64", os: "Linux 6.18", application: "t2cp 9" },
        interface: {
          name: "eth7",
          linkType: 1,
          snaplen: 90,
          filter: "tcp port 81",
          comment: "service é [fd77::100]:81",
        },
        statistics: () => ({ received: 7, dropped: 2, interfaceDropped: 1, delivered: 5 }),
        warn: (message) => assert.fail(message),
      });
      const sizes = [14, 60, 91, 1514, 66_000];
      for (const [i, size] of sizes.entries()) {
        writer.receive(
          new DataView(new ArrayBuffer(size)),
          0,
          size,
          size + i,
          1_800_000_000 + i,
          i,
        );
      }
      await writer.close();
      const [name] = [...Deno.readDirSync(directory)].map((entry) => entry.name);
      const path = join(directory, name!);
      assert.deepEqual(
        await frameList(path),
        sizes.map((size, i) =>
          [i + 1, `${1_800_000_000 + i}.00000000${i}`, Math.min(size, 90), size + i].join("\t")
        ),
      );
      const { lines } = await wireshark("capinfos", path);
      const facts = lines.map((line) => line.trim().replace(/\s+=?\s*/g, " ")).join("\n");
      for (
        const fact of [
          "Capture hardware: x86_64",
          "Capture oper-sys: Linux 6.18",
          "Capture application: t2cp 9",
          "Name eth7",
          "Filter string tcp port 81",
          "Comment service é [fd77::100]:81",
          "Time precision nanoseconds (9)",
          "Number of stat entries 2",
        ]
      ) assert.ok(facts.includes(fact), `${fact} in\n${facts}`);
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  },
});

Deno.test({
  name: "capture: a real file (T2CP_PCAPS) gives the same compressed",
  ignore: names.length === 0,
  async fn() {
    for (const name of names.slice(0, 10)) {
      const plain = Deno.readFileSync(join(captureFolder!, name));
      const expected = await readAll(plain);
      assert.deepEqual(await readAll(new Uint8Array(gzipSync(plain))), expected);
      assert.deepEqual(await readAll(new Uint8Array(zstdCompressSync(plain))), expected);
    }
  },
});
