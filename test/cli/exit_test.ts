import assert from "node:assert/strict";
import { join } from "node:path";
import { checkout, type Outcome, run } from "./t2cp.ts";

const program = ["run", "-A", "--quiet", join(checkout, "test/fixture/commands.ts")];

function fixture(...args: string[]): Promise<Outcome> {
  return run(Deno.execPath(), [...program, ...args]);
}

/** A running command of the fixture, once it has printed its `started`. */
async function started(
  name: string,
  wrapper: readonly string[] = [],
): Promise<{ child: Deno.ChildProcess; reader: ReadableStreamDefaultReader<string> }> {
  const [head = "", ...rest] = [...wrapper, Deno.execPath(), ...program, name];
  const command = new Deno.Command(head, {
    args: rest,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const child = command.spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await reader.read();
  assert.match(value, /"type":"started"/);
  return { child, reader };
}

async function rest(reader: ReadableStreamDefaultReader<string>): Promise<string> {
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return text;
    text += value;
  }
}

Deno.test("a command that is done exits with 0 and says nothing", async () => {
  assert.deepEqual(await fixture("done"), { status: 0, stdout: "", stderr: "" });
});

Deno.test("a failure is one line with its mend, and its own exit status", async () => {
  const stderr = `t2cp fail: No interface "br9"; see "ip link"\n`;
  assert.deepEqual(await fixture("fail"), { status: 66, stdout: "", stderr });
});

Deno.test("any other error is a bug, with its stack, and exits with 70", async () => {
  for (const name of ["bug", "late", "timer"]) {
    const { status, stdout, stderr } = await fixture(name);
    assert.deepEqual([status, stdout], [70, ""], name);
    assert.match(
      stderr,
      /^(TypeError: x is not a function|RangeError: nobody (awaits|catches) me)\n/,
    );
    assert.match(stderr, /at .*commands\.ts:\d+/);
    const last = `\nt2cp ${name}: This is a bug in t2cp; please report it with the lines above\n`;
    assert.ok(stderr.endsWith(last), stderr);
  }
  assert.equal((await fixture("thrown")).status, 70);
});

Deno.test("what the operating system refuses is one line, 77 where permission lacks, else 71", async () => {
  assert.deepEqual(await fixture("denied"), {
    status: 77,
    stdout: "",
    stderr: "t2cp denied: Cannot load the program: EPERM; run as root\n",
  });
  assert.deepEqual(await fixture("refused"), {
    status: 71,
    stdout: "",
    stderr: "t2cp refused: Cannot load the program: ENOSPC\n",
  });
});

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  Deno.test(`${signal} stops a command in order`, async () => {
    const { child, reader } = await started("wait");
    child.kill(signal);
    assert.match(await rest(reader), new RegExp(`"message":"${signal}"`));
    const { code, signal: ended } = await child.status;
    assert.deepEqual([code, ended], [0, null]);
    assert.equal(await new Response(child.stderr).text(), "");
  });
}

Deno.test("a command under nohup goes on when its terminal closes", async () => {
  const { child, reader } = await started("wait", ["nohup"]);
  child.kill("SIGHUP");
  child.kill("SIGTERM");
  assert.match(await rest(reader), /"message":"SIGTERM"/);
  assert.equal((await child.status).code, 0);
  await child.stderr.cancel();
});

Deno.test("a reader that goes away stops a command in order and quietly", async () => {
  const { child, reader } = await started("flood");
  await reader.cancel();
  assert.equal((await child.status).code, 0);
  assert.equal(await new Response(child.stderr).text(), "stopped\n");
});

Deno.test("a command stops within seconds though its reader does not read", async () => {
  const { child, reader } = await started("flood");
  const errors = child.stderr.pipeThrough(new TextDecoderStream());
  const before = performance.now();
  child.kill("SIGTERM");
  const { code } = await child.status;
  assert.ok(performance.now() - before < 30_000);
  assert.equal(code, 75);
  assert.deepEqual(
    (await Array.fromAsync(errors)).join(""),
    [
      "stopped",
      "t2cp flood: The reader of the output does not read; its last events are lost",
      "",
    ].join("\n"),
  );
  await reader.cancel();
});
