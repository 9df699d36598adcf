import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { checkout, type Outcome, run } from "./t2cp.ts";

function install(...args: string[]): Promise<Outcome> {
  return run(Deno.execPath(), [
    "run",
    "-A",
    "--quiet",
    join(checkout, "cli/task/install.ts"),
    ...args,
  ]);
}

async function prefixed(use: (prefix: string) => Promise<void>): Promise<void> {
  const prefix = await Deno.makeTempDir({ prefix: "t2cp-install-" });
  try {
    await use(prefix);
  } finally {
    await Deno.remove(prefix, { recursive: true });
  }
}

/** All links below a directory, with their targets. */
async function links(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const entry of Deno.readDir(directory)) {
    const path = join(directory, entry.name);
    if (entry.isSymlink) found[path] = await Deno.readLink(path);
    if (entry.isDirectory) Object.assign(found, await links(path));
  }
  return found;
}

Deno.test("install links the command and each man page into its section, and says so", async () => {
  await prefixed(async (prefix) => {
    const { status, stdout, stderr } = await install("--prefix", prefix);
    assert.deepEqual([status, stderr], [0, ""]);
    const made = await links(prefix);
    assert.equal(made[join(prefix, "bin/t2cp")], join(checkout, "t2cp"));
    for await (const page of Deno.readDir(join(checkout, "man"))) {
      const section = basename(page.name).slice(-1);
      const at = join(prefix, `share/man/man${section}`, page.name);
      assert.equal(made[at], join(checkout, "man", page.name));
    }
    const said = Object.entries(made).map(([at, to]) => `Linked ${at} to ${to}`);
    assert.deepEqual(stdout.trimEnd().split("\n").toSorted(), said.toSorted());
    const version = await run(join(prefix, "bin/t2cp"), ["--version"], {
      env: { PATH: `${Deno.execPath().replace(/\/[^/]*$/, "")}:/usr/bin:/bin` },
    });
    assert.equal(version.status, 0);
  });
});

Deno.test("install may run again, and replaces another checkout's links", async () => {
  await prefixed(async (prefix) => {
    await Deno.mkdir(join(prefix, "bin"));
    await Deno.symlink("/elsewhere/t2cp", join(prefix, "bin/t2cp"));
    for (let i = 0; i < 2; i++) {
      assert.equal((await install("--prefix", prefix)).status, 0);
      assert.equal(await Deno.readLink(join(prefix, "bin/t2cp")), join(checkout, "t2cp"));
    }
  });
});

Deno.test("install touches nothing where a file stands in the way", async () => {
  await prefixed(async (prefix) => {
    await Deno.mkdir(join(prefix, "bin"));
    await Deno.writeTextFile(join(prefix, "bin/t2cp"), "precious");
    const { status, stderr } = await install("--prefix", prefix);
    assert.equal(status, 71);
    const path = join(prefix, "bin/t2cp");
    assert.equal(
      stderr,
      `t2cp: "${path}" exists and is no link; move it away or give another --prefix\n`,
    );
    assert.equal(await Deno.readTextFile(path), "precious");
    assert.deepEqual(await links(prefix), {});
  });
});

Deno.test("uninstall removes what install linked, and nothing else", async () => {
  await prefixed(async (prefix) => {
    await install("--prefix", prefix);
    await Deno.symlink("/elsewhere", join(prefix, "bin/other"));
    const { status, stdout } = await install("--remove", "--prefix", prefix);
    assert.equal(status, 0);
    assert.match(stdout, new RegExp(`^Removed ${join(prefix, "bin/t2cp")}$`, "m"));
    assert.deepEqual(await links(prefix), { [join(prefix, "bin/other")]: "/elsewhere" });
    const again = await install("--remove", "--prefix", prefix);
    assert.equal(again.stdout, `Nothing of this checkout is installed in ${prefix}\n`);
  });
});

Deno.test("uninstall leaves another checkout's link alone", async () => {
  await prefixed(async (prefix) => {
    await Deno.mkdir(join(prefix, "bin"));
    await Deno.symlink("/elsewhere/t2cp", join(prefix, "bin/t2cp"));
    await install("--remove", "--prefix", prefix);
    assert.equal(await Deno.readLink(join(prefix, "bin/t2cp")), "/elsewhere/t2cp");
  });
});

Deno.test("install without permission says how to get it", async () => {
  await prefixed(async (prefix) => {
    await Deno.chmod(prefix, 0o555);
    const args = [
      "run",
      "-A",
      "--quiet",
      join(checkout, "cli/task/install.ts"),
      "--prefix",
      prefix,
    ];
    // Root may write anywhere, unless it gives that capability away.
    const { status, stdout, stderr } = Deno.uid() === 0
      ? await run("setpriv", ["--bounding-set=-dac_override", Deno.execPath(), ...args])
      : await run(Deno.execPath(), args);
    assert.deepEqual([status, stdout], [77, ""]);
    const mend = `run as root, or add --prefix "$HOME/.local"`;
    assert.equal(stderr, `t2cp: Not permitted to change "${prefix}"; ${mend}\n`);
  });
});

Deno.test("install refuses an unknown flag", async () => {
  const { status, stderr } = await install("--prefx", "/tmp");
  assert.equal(status, 64);
  assert.match(
    stderr,
    /^t2cp: Unknown option '--prefx'.*; write "deno task install --prefix DIR"\n$/,
  );
});
