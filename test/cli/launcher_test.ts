import assert from "node:assert/strict";
import { join } from "node:path";
import { checkout, type Outcome, run } from "./t2cp.ts";

/** A directory of its own for one test. */
async function scratch<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await Deno.makeTempDir({ prefix: "t2cp-launcher-" });
  try {
    return await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/**
 * Makes an executable script. Another process writes it: where a test of another file starts a program meanwhile, that
 * would have this one's descriptor for a moment, and what somebody may write cannot be run (ETXTBSY).
 */
async function script(path: string, text: string): Promise<void> {
  const write = ["-c", 'printf %s "$1" >"$2" && chmod 755 "$2"', "sh", text, path];
  assert.equal((await run("sh", write)).status, 0);
}

/** A `bin` with the system's tools that the launcher calls, and nothing else. */
async function tools(directory: string): Promise<string> {
  const bin = join(directory, "bin");
  await Deno.mkdir(bin);
  for (const tool of ["sh", "readlink", "mkdir", "ln", "cat"]) {
    const { stdout } = await run("sh", ["-c", `command -v ${tool}`]);
    await Deno.symlink(stdout.trim(), join(bin, tool));
  }
  return bin;
}

function launch(bin: string, directory: string, ...args: string[]): Promise<Outcome> {
  const env = { PATH: bin, HOME: directory, DENO_DIR: Deno.env.get("DENO_DIR") ?? "" };
  return run(join(checkout, "t2cp"), args, { env, clearEnv: true });
}

Deno.test("the launcher runs the Deno on PATH, from any directory and through links", async () => {
  await scratch(async (directory) => {
    const bin = await tools(directory);
    await script(join(bin, "deno"), `#!/bin/sh\necho "$$: $*"\n`);
    await Deno.symlink(join(checkout, "t2cp"), join(directory, "first"));
    await Deno.symlink("first", join(directory, "second"));
    const outcome = await run(join(directory, "second"), ["lab", "a b"], {
      cwd: "/",
      env: { PATH: bin },
      clearEnv: true,
    });
    assert.equal(outcome.stderr, "");
    const expected = `: run -A --quiet ${join(checkout, "cli", "main.ts")} lab a b\n`;
    assert.equal(outcome.stdout.replace(/^\d+/, ""), expected);
  });
});

Deno.test("the launcher becomes Deno, so that signals reach it", async () => {
  await scratch(async (directory) => {
    const bin = await tools(directory);
    await script(join(bin, "deno"), `#!/bin/sh\necho $$\n`);
    const command = new Deno.Command(join(checkout, "t2cp"), {
      env: { PATH: bin },
      clearEnv: true,
      stdout: "piped",
    });
    const child = command.spawn();
    const { stdout } = await child.output();
    assert.equal(new TextDecoder().decode(stdout).trim(), String(child.pid));
  });
});

Deno.test("without Deno the launcher takes npm's, and asks npx only once", async () => {
  await scratch(async (directory) => {
    const bin = await tools(directory);
    const log = join(directory, "npx.log");
    const deno = join(directory, "npm-deno");
    await script(deno, `#!/bin/sh\necho "npm's deno: $1"\n`);
    await script(join(bin, "npx"), `#!/bin/sh\necho "$*" >>${log}\necho ${deno}\n`);
    for (let start = 0; start < 2; start++) {
      const outcome = await launch(bin, directory, "--version");
      assert.deepEqual(outcome, { status: 0, stdout: "npm's deno: run\n", stderr: "" });
    }
    const calls = (await Deno.readTextFile(log)).trimEnd().split("\n");
    assert.equal(calls.length, 1);
    assert.match(calls[0] ?? "", /^--yes --loglevel=error deno@2\.\d+\.\d+ eval /);
  });
});

Deno.test("the launcher asks npx again where npm's Deno has gone", async () => {
  await scratch(async (directory) => {
    const bin = await tools(directory);
    const [old, fresh] = [join(directory, "old"), join(directory, "fresh")];
    for (const deno of [old, fresh]) await script(deno, `#!/bin/sh\necho $0\n`);
    await script(join(bin, "npx"), `#!/bin/sh\necho ${old}\n`);
    await launch(bin, directory);
    await Deno.remove(old);
    await script(join(bin, "npx"), `#!/bin/sh\necho ${fresh}\n`);
    assert.equal((await launch(bin, directory)).stdout, `${fresh}\n`);
  });
});

Deno.test("the launcher works where its cache cannot be written", async () => {
  await scratch(async (directory) => {
    const bin = await tools(directory);
    const deno = join(directory, "npm-deno");
    await script(deno, `#!/bin/sh\necho works\n`);
    await script(join(bin, "npx"), `#!/bin/sh\necho ${deno}\n`);
    const env = { PATH: bin, XDG_CACHE_HOME: "/proc/nowhere" };
    const outcome = await run(join(checkout, "t2cp"), [], { env, clearEnv: true });
    assert.deepEqual(outcome, { status: 0, stdout: "works\n", stderr: "" });
  });
});

Deno.test("the launcher says what is missing", async () => {
  await scratch(async (directory) => {
    const bin = await tools(directory);
    const none = await launch(bin, directory, "--version");
    assert.equal(none.status, 69);
    assert.match(none.stderr, /^t2cp: Neither Deno nor npx is on PATH; install .*\n$/);
    await script(join(bin, "npx"), "#!/bin/sh\nexit 1\n");
    const offline = await launch(bin, directory, "--version");
    assert.equal(offline.status, 75);
    assert.match(offline.stderr, /^t2cp: Cannot get Deno \S+ from npm; install .*\n$/);
  });
});
