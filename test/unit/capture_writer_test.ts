import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { FileNames } from "../../lib/capture/file_ring.ts";
import type { SeriesOptions } from "../../lib/capture/file_series.ts";
import { CaptureWriter } from "../../lib/capture/writer.ts";
import { Failure } from "../../lib/failure.ts";
import { readAll } from "../fixture/capture_file.ts";
import { poll } from "../fixture/wait.ts";

/** A directory for files, and the writer's warnings. */
interface Place {
  directory: string;
  warnings: string[];
  open(options?: Partial<SeriesOptions>): Promise<CaptureWriter>;
  /** Paths of the files, sorted by name. */
  files(): string[];
}

async function inPlace(test: (place: Place) => Promise<void>): Promise<void> {
  const parent = Deno.makeTempDirSync({ prefix: "t2cp-capture-" });
  const directory = join(parent, "files");
  const warnings: string[] = [];
  const place: Place = {
    directory,
    warnings,
    open: (options) =>
      CaptureWriter.open({
        directory,
        section: { hardware: "x86_64", os: "Linux", application: "t2cp" },
        interface: {
          name: "eth0",
          linkType: 1,
          snaplen: 65_535,
          filter: "tcp",
          comment: "service",
        },
        statistics: () => ({ received: 7, dropped: 2, interfaceDropped: 1, delivered: 5 }),
        warn: (message) => warnings.push(message),
        ...options,
      }),
    files: () =>
      [...Deno.readDirSync(directory)].map(({ name }) => join(directory, name)).toSorted(),
  };
  try {
    await test(place);
  } finally {
    Deno.removeSync(parent, { recursive: true });
  }
}

/** Gives the writer a frame of `size` bytes that all are `fill`, from memory that is used again. */
const memory = new DataView(new ArrayBuffer(300_000));
function put(writer: CaptureWriter, size: number, fill: number, seconds = 1, nanos = 0): void {
  new Uint8Array(memory.buffer).fill(fill, 0, size);
  writer.receive(memory, 0, size, size, seconds, nanos);
}

Deno.test("capture: what is written is read again, frames, lengths and times", async () => {
  const frame = fc.record({
    size: fc.oneof(fc.nat(200), fc.nat(20_000)),
    more: fc.nat(100),
    seconds: fc.nat(4_000_000_000),
    nanos: fc.nat(999_999_999),
    fill: fc.nat(255),
    at: fc.nat(9),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 60 }), async (frames) => {
      await inPlace(async ({ open, files, warnings }) => {
        const writer = await open();
        for (const { size, more, seconds, nanos, fill, at } of frames) {
          new Uint8Array(memory.buffer).fill(255 - fill).fill(fill, at, at + size);
          writer.receive(memory, at, size, size + more, seconds, nanos);
        }
        await writer.close();
        const [path] = files();
        const read = await readAll(Deno.readFileSync(path!));
        assert.equal(read.error, undefined);
        assert.deepEqual(
          read.frames,
          frames.map(({ size, more, seconds, nanos, fill }) => ({
            seconds,
            nanos,
            length: size + more,
            linkType: 1,
            interfaceId: 0,
            data: new Uint8Array(size).fill(fill),
          })),
        );
        assert.deepEqual(warnings, []);
        const size = Deno.statSync(path!).size;
        const expected = { files: 1, frames: frames.length, bytes: size, lost: 0 };
        assert.deepEqual({ ...writer.counters }, expected);
      });
    }),
    { numRuns: 25 },
  );
});

Deno.test("capture: files and their directory are their owner's alone", async () => {
  await inPlace(async ({ open, files, directory }) => {
    const writer = await open();
    assert.equal(Deno.statSync(files()[0]!).mode! & 0o777, 0o600);
    assert.equal(Deno.statSync(directory).mode! & 0o777, 0o700);
    await assert.rejects(open(), (error) => error instanceof Failure && error.status === 75);
    await writer.close();
    await (await open()).close();
  });
});

Deno.test("capture: frames are in the file soon, without a further one", async () => {
  await inPlace(async ({ open, files }) => {
    const writer = await open();
    put(writer, 60, 1);
    await poll(
      "a frame in the file",
      async () => (await readAll(Deno.readFileSync(files()[0]!))).frames.length === 1,
    );
    await writer.close();
  });
});

Deno.test("capture: only the snap length of a frame is kept, and its length is", async () => {
  await inPlace(async ({ open, files }) => {
    const options = { name: "eth0", linkType: 1, snaplen: 100, filter: "", comment: "" };
    const writer = await open({ interface: options });
    put(writer, 300, 7);
    put(writer, 99, 7);
    await writer.close();
    const { frames } = await readAll(Deno.readFileSync(files()[0]!));
    assert.deepEqual(frames.map(({ data, length }) => [data.length, length]), [[100, 300], [
      99,
      99,
    ]]);
  });
});

Deno.test("capture: a file ends before it gets too large, and only so many are kept", async () => {
  await inPlace(async ({ open, files }) => {
    const writer = await open({ rotateSize: 1 << 20, keep: 3 });
    for (let i = 0; i < 1000; i++) {
      put(writer, 10_000, i & 255);
      if (i % 50 === 49) await poll("space", () => writer.counters.frames > i - 50);
    }
    await writer.close();
    assert.equal(writer.counters.lost, 0);
    assert.ok(writer.counters.files >= 10 && writer.counters.files <= 14);
    assert.equal(files().length, 3);
    const read = [];
    for (const path of files()) {
      const bytes = Deno.readFileSync(path);
      assert.ok(bytes.length <= 1 << 20, `${bytes.length} bytes`);
      assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
      const { frames, error } = await readAll(bytes);
      assert.equal(error, undefined);
      read.push(...frames);
    }
    assert.ok(read.length > 150 && read.length < 300, `${read.length} frames`);
    // The newest files follow on each other: what they hold is the end of what was given.
    const expected = Array.from({ length: read.length }, (_, i) => (1000 - read.length + i) & 255);
    assert.deepEqual(read.map(({ data }) => data[0]), expected);
  });
});

Deno.test("capture: a file ends some time after its first frame; an empty one goes on", async () => {
  await inPlace(async ({ open, files }) => {
    const writer = await open({ rotateTime: 300 });
    put(writer, 60, 1);
    await poll("a second file", () => files().length === 2);
    await new Promise((resolve) => setTimeout(resolve, 600));
    assert.equal(files().length, 2);
    put(writer, 60, 2);
    await poll("a third file", () => files().length === 3);
    await writer.close();
    const counts = files().map(async (path) =>
      (await readAll(Deno.readFileSync(path))).frames.length
    );
    assert.deepEqual(await Promise.all(counts), [1, 1, 0]);
  });
});

Deno.test("capture: files of earlier runs count, also compressed ones, and nobody else's are removed", async () => {
  await inPlace(async ({ open, files, directory }) => {
    Deno.mkdirSync(directory);
    const old = [
      "t2cp-20200101T000000.000000Z-000001.pcapng",
      "t2cp-20200101T000000.000000Z-000002.pcapng.gz",
    ];
    const foreign = ["a.pcapng", "t2cp-notes.pcapng", "t2cp-20200101T000000.000000Z-000003.txt"];
    for (const name of [...old, ...foreign]) Deno.writeTextFileSync(join(directory, name), "");
    const writer = await open({ rotateTime: 50, keep: 2 });
    put(writer, 60, 1);
    await poll("the rotation", () => writer.counters.files === 2);
    await writer.close();
    const names = files().map((path) => path.slice(directory.length + 1));
    assert.equal(
      names.filter((name) => /^t2cp-2[0-9TZ.]+-00000[12]\.pcapng$/.test(name)).length,
      2,
    );
    assert.deepEqual(names.filter((name) => old.includes(name)), []);
    assert.equal(names.filter((name) => foreign.includes(name)).length, 3);
  });
});

Deno.test("capture: names sort in the order of the files", () => {
  const names = new FileNames();
  const all = [5e15, 5e15, 4e15, 1, 6e15, 5e15].map((now) => names.next(now));
  assert.deepEqual(all.toSorted(), all);
  assert.equal(all[0], "t2cp-21280611T085320.000000Z-000001.pcapng");
});

Deno.test("capture: a directory that cannot be written to costs frames until it can; both are said once", async () => {
  await inPlace(async ({ open, files, directory, warnings }) => {
    const writer = await open({ rotateTime: 50 });
    put(writer, 60, 1);
    await poll("a frame", () => writer.counters.frames === 1);
    Deno.renameSync(directory, `${directory}.away`);
    Deno.writeTextFileSync(directory, "in the way");
    await poll("the failure", () => warnings.length > 0);
    const message = `Cannot write capture files to "${directory}" at present: `;
    assert.ok(warnings[0]!.startsWith(message), warnings[0]);
    let sent = 1;
    await poll("loss", () => {
      put(writer, 60, 2);
      sent++;
      return writer.counters.lost > 0;
    });
    Deno.removeSync(directory);
    await poll("the next file", () => {
      put(writer, 60, 3);
      sent++;
      return warnings.length > 1;
    });
    await writer.close();
    const { frames, lost } = writer.counters;
    assert.equal(frames + lost, sent);
    assert.equal(
      warnings[1],
      `Capture files are written to "${directory}" again; ${lost} frames are in none`,
    );
    assert.equal(warnings.length, 2);
    const counts = files().map(async (path) => {
      const { frames, error } = await readAll(Deno.readFileSync(path));
      assert.equal(error, undefined);
      return frames.length;
    });
    const written = (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
    assert.equal(written, frames - 1);
  });
});

Deno.test("capture: a full queue of unwritten frames costs frames, and is said once", async () => {
  await inPlace(async ({ open, files, warnings }) => {
    const writer = await open();
    // No turn of the event loop, so that nothing can be written meanwhile.
    for (let i = 0; i < 1000; i++) put(writer, 60_000, 1);
    const { lost } = writer.counters;
    assert.ok(lost > 100 && lost < 700, `${lost} frames lost`);
    assert.equal(warnings.length, 1);
    await writer.close();
    assert.equal(
      warnings[1],
      `The disk has caught up with the capture; ${lost} frames are in no file`,
    );
    assert.equal((await readAll(Deno.readFileSync(files()[0]!))).frames.length, 1000 - lost);
  });
});

Deno.test("capture: half a block at the end of an earlier run's last file is removed, and nothing else", async () => {
  await inPlace(async ({ open, files, warnings }) => {
    const first = await open();
    for (let i = 0; i < 100; i++) put(first, 1000, 0xcc);
    await first.close();
    const [path] = files();
    const whole = Deno.readFileSync(path!);
    await (await open()).close();
    assert.deepEqual(Deno.readFileSync(path!), whole);
    Deno.removeSync(files()[1]!);

    Deno.writeFileSync(path!, whole.subarray(0, whole.length - 700));
    const writer = await open();
    await poll("the warning", () => warnings.length > 0);
    await writer.close();
    const { frames, error } = await readAll(Deno.readFileSync(path!));
    assert.equal(error, undefined);
    assert.equal(frames.length, 99);
    assert.match(warnings[0]!, /ended in half a block: \d+ bytes are removed$/);

    for (const path of files().slice(1)) Deno.removeSync(path);
    // The length of a block in the middle is another one: nothing behind it is removed.
    const broken = whole.slice(0, whole.length - 700);
    const middle = broken.length >> 1;
    broken[broken.indexOf(6, middle) + 4]! ^= 4;
    Deno.writeFileSync(path!, broken);
    await (await open()).close();
    assert.deepEqual(Deno.readFileSync(path!), broken);
  });
});

Deno.test({
  name: "capture: an old file that cannot be removed is reported once, and writing goes on",
  // Where the file system knows no immutable files, there is none that root cannot remove.
  ignore: Deno.uid() !== 0,
  async fn() {
    await inPlace(async ({ open, files, directory, warnings }) => {
      Deno.mkdirSync(directory);
      const old = join(directory, "t2cp-20200101T000000.000000Z-000001.pcapng");
      Deno.writeTextFileSync(old, "");
      const chattr = (change: string) =>
        new Deno.Command("chattr", { args: [change, old] }).output();
      const immutable = await chattr("+i").then(({ success }) => success, () => false);
      if (!immutable) return;
      try {
        const writer = await open({ rotateTime: 20, keep: 2 });
        await poll("several files", () => {
          put(writer, 60, 1);
          return writer.counters.files >= 4;
        });
        await writer.close();
        assert.equal(writer.counters.lost, 0);
        assert.equal(warnings.filter((text) => /cannot be removed/.test(text)).length, 1);
        assert.ok(files().includes(old));
      } finally {
        await chattr("-i");
      }
    });
  },
});
