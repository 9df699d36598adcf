import assert from "node:assert/strict";
import { Failure } from "../../lib/failure.ts";
import {
  checkName,
  claimDirectory,
  labDirectory,
  type LabState,
  listNames,
  parseState,
  readState,
  writeState,
} from "../../lib/lab/state.ts";
import { identify, isAlive, mountsBelow, run } from "../../lib/lab/system.ts";

const state: LabState = {
  name: "one",
  created: "2026-01-31T12:00:00.000000Z",
  owner: { pid: 1, start: 2 },
  madeNamespaceMount: false,
  scratch: ["/tmp/x"],
  processes: [{ pid: 3, start: 4, what: "nginx", role: "primary" }],
};

async function inTemporary(work: (directory: string) => void): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("lab state: what is written is read back", () =>
  inTemporary((runDir) => {
    claimDirectory(runDir, "one");
    assert.equal(readState(runDir, "one"), undefined, "claimed, not yet described");
    writeState(runDir, state);
    assert.deepEqual(readState(runDir, "one"), state);
    assert.deepEqual(listNames(runDir), ["one"]);
    assert.equal(readState(runDir, "two"), undefined);
    for (const part of ["gateway", "primary", "backup", "log"]) {
      assert.ok(Deno.statSync(`${labDirectory(runDir, "one")}/${part}`).isDirectory);
    }
  }));

Deno.test("lab state: a name can be claimed once", () =>
  inTemporary((runDir) => {
    claimDirectory(runDir, "one");
    assert.throws(
      () => claimDirectory(runDir, "one"),
      (error) => error instanceof Failure && error.line.includes("t2cp lab down --name one"),
    );
  }));

Deno.test("lab state: without a run directory there are no labs", () => {
  assert.deepEqual(listNames("/nonexistent/t2cp"), []);
});

Deno.test("lab state: text that is no state is none", () => {
  assert.deepEqual(parseState(JSON.stringify(state)), state);
  const { owner: _, ...unowned } = state;
  assert.deepEqual(parseState(JSON.stringify(unowned)), unowned);
  const damaged = [
    "",
    "{",
    "null",
    "[]",
    "7",
    JSON.stringify({ ...state, name: 1 }),
    JSON.stringify({ ...state, processes: [{ pid: "3", start: 4 }] }),
    JSON.stringify({ ...state, processes: {} }),
    JSON.stringify({ ...state, scratch: [1] }),
    JSON.stringify({ ...state, owner: {} }),
    JSON.stringify(state).slice(0, -1),
  ];
  for (const text of damaged) assert.equal(parseState(text), undefined, text);
});

Deno.test("lab state: names that fit into names of namespaces and files", () => {
  for (const name of ["lab", "run-123", "0", "a".repeat(32)]) assert.equal(checkName(name), name);
  for (const name of ["", "-a", "a b", "A", "../x", "a/b", "a".repeat(33), "ä"]) {
    assert.throws(() => checkName(name), Failure, name);
  }
});

Deno.test("lab state: a process is told apart from a later one of its number", () => {
  const own = identify(Deno.pid)!;
  assert.ok(isAlive(own));
  assert.ok(!isAlive({ ...own, start: own.start + 1 }));
  assert.equal(identify(2 ** 22 + 1), undefined);
});

Deno.test("lab state: a program that fails is reported with its last words", async () => {
  assert.equal(await run(["cat"], { stdin: "echo" }), "echo");
  await assert.rejects(
    run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"]),
    (error) => error instanceof Failure && error.status === 71 && error.message.endsWith("second"),
  );
  await assert.rejects(
    run(["t2cp-no-such-program"]),
    (error) => error instanceof Failure && error.status === 69 && /lab setup/.test(error.line),
  );
});

Deno.test("lab state: mounts below a directory, the deepest first", () => {
  const mounts = mountsBelow("/proc");
  assert.equal(mounts.at(-1), "/proc");
  assert.deepEqual(mountsBelow("/pro"), []);
});
