import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { isBpfFs } from "../../ffi/bpf_fs.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import {
  makeRunDir,
  names,
  pinDir,
  readRecord,
  removePinDir,
  removeRecord,
  takeLock,
  writeRecord,
} from "../../lib/program/run_dir.ts";
import { PATIENCE, within } from "../fixture/wait.ts";

// The C library stays open for good, which the sanitizer would hold against the test that comes first.
isBpfFs("/");

async function inDirectory(use: (path: string) => Promise<void> | void): Promise<void> {
  const path = await Deno.makeTempDir({ prefix: "t2cp-run-dir-" });
  try {
    await use(path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

function failureOf(call: () => unknown): Failure {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof Failure, `${error}`);
    return error;
  }
  assert.fail("Nothing was thrown");
}

Deno.test("run directory: it is made with its parents, for its owner alone", async () => {
  await inDirectory((path) => {
    const runDir = join(path, "a", "b");
    makeRunDir(runDir);
    assert.equal(Deno.statSync(runDir).mode! & 0o777, 0o700);
    makeRunDir(runDir);
  });
});

Deno.test("run directory: one that cannot be made is named", async () => {
  await inDirectory((path) => {
    Deno.writeTextFileSync(join(path, "file"), "");
    const runDir = join(path, "file", "run");
    const failure = failureOf(() => makeRunDir(runDir));
    assert.equal(failure.status, ExitStatus.OS);
    assert.equal(
      failure.line,
      `Run directory "${runDir}" cannot be made; run as root, or name another with --run-dir`,
    );
  });
});

Deno.test("run directory: the names in it; none where it does not exist", async () => {
  await inDirectory((path) => {
    assert.deepEqual(names(join(path, "none")), []);
    assert.deepEqual(names(path), []);
    Deno.writeTextFileSync(join(path, "x"), "");
    Deno.mkdirSync(join(path, "y"));
    assert.deepEqual(names(path).toSorted(), ["x", "y"]);
  });
});

Deno.test("lock: a second one is refused with the first one's process, until that ends", async () => {
  await inDirectory((path) => {
    const first = takeLock(path, "shadow");
    const file = join(path, "shadow.lock");
    assert.equal(Deno.statSync(file).mode! & 0o777, 0o600);
    for (let i = 0; i < 2; i++) {
      const failure = failureOf(() => takeLock(path, "shadow"));
      assert.equal(failure.status, ExitStatus.TEMPORARY);
      assert.equal(
        failure.line,
        `Another "t2cp shadow" (process ${Deno.pid}) uses run directory "${path}"; ` +
          `stop it first, or name another directory with --run-dir`,
      );
    }
    // Another command's lock, and the same in another directory, are other locks.
    takeLock(path, "mirror")[Symbol.dispose]();
    Deno.mkdirSync(join(path, "other"));
    takeLock(join(path, "other"), "shadow")[Symbol.dispose]();
    first[Symbol.dispose]();
    takeLock(path, "shadow")[Symbol.dispose]();
  });
});

Deno.test("lock: a killed process leaves it free", async () => {
  await inDirectory(async (path) => {
    const module = import.meta.resolve("../../lib/program/run_dir.ts");
    const script = `const { takeLock } = await import(${JSON.stringify(module)});
      takeLock(${JSON.stringify(path)}, "shadow");
      console.log("taken");
      setInterval(() => {}, 1000);`;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", script],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    try {
      const { value } = await within(PATIENCE, reader.read(), "the lock");
      assert.equal(new TextDecoder().decode(value), "taken\n");
      assert.match(
        failureOf(() => takeLock(path, "shadow")).message,
        RegExp(`process ${child.pid}\\)`),
      );
    } finally {
      child.kill("SIGKILL");
      await reader.cancel();
      await child.status;
    }
    takeLock(path, "shadow")[Symbol.dispose]();
    assert.equal(Deno.readTextFileSync(join(path, "shadow.lock")), `${Deno.pid}\n`);
  });
});

Deno.test("lock: a longer number of an earlier process leaves no digits behind", async () => {
  await inDirectory((path) => {
    Deno.writeTextFileSync(join(path, "shadow.lock"), "999999999999999999\n");
    using _lock = takeLock(path, "shadow");
    assert.equal(Deno.readTextFileSync(join(path, "shadow.lock")), `${Deno.pid}\n`);
  });
});

Deno.test("record: what is written is read, and the last one stands", async () => {
  await inDirectory((path) => {
    const text = fc.string({ unit: "binary", maxLength: 20 });
    const records = fc.record({ interface: text, services: fc.array(text) }, {
      noNullPrototype: true,
    });
    fc.assert(
      fc.property(records, (record) => {
        writeRecord(path, "shadow", record);
        assert.deepEqual(readRecord(path, "shadow"), record);
      }),
      { numRuns: 50 },
    );
    assert.deepEqual(names(path), ["shadow.json"], "no half-made file stays");
    assert.equal(Deno.statSync(join(path, "shadow.json")).mode! & 0o777, 0o600);
  });
});

Deno.test("record: there is none before the first and after its removal", async () => {
  await inDirectory((path) => {
    assert.equal(readRecord(path, "shadow"), undefined);
    removeRecord(path, "shadow");
    writeRecord(path, "shadow", { interface: "eth0", services: ["10.0.0.1:80"] });
    assert.equal(readRecord(path, "mirror"), undefined);
    removeRecord(path, "shadow");
    assert.equal(readRecord(path, "shadow"), undefined);
    assert.equal(readRecord(join(path, "none"), "shadow"), undefined);
  });
});

Deno.test("pins: their directory goes with them, and the last one takes the common one along", async () => {
  await inDirectory((path) => {
    for (const command of ["shadow", "mirror"]) {
      Deno.mkdirSync(pinDir(path, command), { recursive: true });
      Deno.writeTextFileSync(join(pinDir(path, command), "flows"), "");
      Deno.writeTextFileSync(join(pinDir(path, command), "control"), "");
    }
    assert.equal(pinDir(path, "shadow"), join(path, "bpf", "shadow"));
    removePinDir(path, "shadow");
    assert.deepEqual(names(join(path, "bpf")), ["mirror"]);
    assert.deepEqual(names(pinDir(path, "mirror")).toSorted(), ["control", "flows"]);
    removePinDir(path, "mirror");
    assert.deepEqual(names(path), []);
  });
});

Deno.test("pins: removing what is not there changes nothing", async () => {
  await inDirectory((path) => {
    removePinDir(path, "shadow");
    removePinDir(join(path, "none"), "shadow");
    Deno.mkdirSync(pinDir(path, "mirror"), { recursive: true });
    removePinDir(path, "shadow");
    assert.deepEqual(names(join(path, "bpf")), ["mirror"]);
    // An empty one, as a start that failed early leaves it.
    Deno.mkdirSync(pinDir(path, "shadow"));
    removePinDir(path, "shadow");
    assert.deepEqual(names(join(path, "bpf")), ["mirror"]);
  });
});
