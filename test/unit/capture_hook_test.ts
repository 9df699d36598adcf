import assert from "node:assert/strict";
import { type HookBounds, RotateHook } from "../../lib/capture/rotate_hook.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";

interface Hooked {
  run(path: string): void;
  close(): Promise<void>;
  warnings: string[];
  /** Lines of the file `$LOG`, which the command may write to. */
  log(): string[];
}

async function withHook(
  command: (log: string) => string,
  bounds: Partial<HookBounds>,
  test: (hook: Hooked) => Promise<void>,
): Promise<void> {
  const log = Deno.makeTempFileSync({ prefix: "t2cp-hook-" });
  const warnings: string[] = [];
  const hook = new RotateHook(command(log), (message) => warnings.push(message), {
    lastWait: PATIENCE,
    ...bounds,
  });
  try {
    await test({
      run: (path) => hook.run(path),
      close: () => hook.close(),
      warnings,
      log: () => Deno.readTextFileSync(log).trimEnd().split("\n"),
    });
  } finally {
    await hook.close();
    Deno.removeSync(log);
  }
}

/** What /proc says of the processes in a group, without the ended ones that nobody has waited for. */
function runningOf(group: number): string[] {
  const stats = [...Deno.readDirSync("/proc")].filter(({ name }) => /^\d+$/.test(name)).map(
    ({ name }) => {
      try {
        return Deno.readTextFileSync(`/proc/${name}/stat`);
      } catch {
        return "";
      }
    },
  );
  return stats.filter((stat) => {
    const [state, , inGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return Number(inGroup) === group && state !== "Z";
  });
}

Deno.test("hook: a command gets the path as its last argument and in its environment", async () => {
  const command = (log: string) => `f() { echo "$#:$2:$T2CP_FILE" >> ${log}; }; f two`;
  await withHook(command, {}, async ({ run, close, log, warnings }) => {
    run("/a b/it's.pcapng");
    await close();
    assert.deepEqual(log(), ["2:/a b/it's.pcapng:/a b/it's.pcapng"]);
    assert.deepEqual(warnings, []);
  });
});

Deno.test("hook: a command runs at the lowest priority, and fails with a warning", async () => {
  const command = (log: string) => `nice >> ${log}; exit 3; true`;
  await withHook(command, {}, async ({ run, close, log, warnings }) => {
    run("/a");
    await close();
    assert.deepEqual(log(), ["19"]);
    assert.deepEqual(warnings, ['The rotation command ended with status 3 for "/a"']);
  });
});

Deno.test("hook: only so many commands run at once, and only so many files wait", async () => {
  const command = (log: string) => `f() { echo + >> ${log}; sleep 0.2; echo - >> ${log}; }; f`;
  await withHook(command, { atOnce: 2, waiting: 3 }, async ({ run, close, log, warnings }) => {
    for (let i = 1; i <= 7; i++) run(`/${i}`);
    await close();
    let running = 0;
    for (const line of log()) {
      running += line === "+" ? 1 : -1;
      assert.ok(running <= 2);
    }
    assert.equal(log().length, 2 * 5);
    assert.deepEqual(
      warnings,
      [6, 7].map((i) => `The rotation command was not run for "/${i}": too many files wait for it`),
    );
  });
});

Deno.test("hook: a command that takes too long is ended, with its children", async () => {
  const command = (log: string) =>
    `trap "" TERM; echo $$ >> ${log}; sleep 60 & wait; sleep 60; true`;
  await withHook(command, { runTime: 3000 }, async ({ run, close, log, warnings }) => {
    // At the lowest priority it may have come to its end before it could say anything.
    let runs = 0;
    await poll("the command", () => {
      if (runs === warnings.length) {
        run("/a");
        runs += 1;
      }
      return log()[0] !== "";
    });
    await close();
    const ended = 'The rotation command took too long and was ended for "/a"';
    assert.deepEqual(warnings, Array(runs).fill(ended));
    const group = Number(log()[0]);
    // At that priority it may not have had its turn to end.
    await poll("the end of all its processes", () => runningOf(group).length === 0);
  });
});

Deno.test("hook: the end waits for commands within its bound", async () => {
  const bounds = { lastWait: 100, atOnce: 1 };
  await withHook(() => "sleep 60; true", bounds, async ({ run, close, warnings }) => {
    for (const path of ["/a", "/b", "/c"]) run(path);
    await close();
    assert.deepEqual(warnings, [
      "The rotation command was not run for 2 files, since t2cp ends",
      'The rotation command took too long and was ended for "/a"',
    ]);
  });
});
