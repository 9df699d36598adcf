import assert from "node:assert/strict";
import manifest from "../../deno.json" with { type: "json" };
import { shell, t2cp } from "./t2cp.ts";

const COMMANDS = ["mirror", "shadow", "detect", "takeover", "lab", "schema"];

Deno.test("t2cp --version prints the version", async () => {
  const outcome = await t2cp("--version");
  assert.deepEqual(outcome, { status: 0, stdout: `${manifest.version}\n`, stderr: "" });
});

Deno.test("t2cp --help names every command with its purpose", async (t) => {
  const { status, stdout, stderr } = await t2cp("--help");
  assert.equal(status, 0);
  assert.equal(stderr, "");
  for (const name of COMMANDS) assert.match(stdout, new RegExp(`^ {2}${name} +[A-Z]`, "m"));
  await t.assertSnapshot(stdout);
});

Deno.test("t2cp schema --help", async (t) => {
  const { status, stdout } = await t2cp("schema", "--help");
  assert.equal(status, 0);
  await t.assertSnapshot(stdout);
});

for (const name of COMMANDS) {
  Deno.test(`t2cp ${name} --help explains the command`, async () => {
    const { status, stdout, stderr } = await t2cp(name, "--help");
    assert.equal(status, 0);
    assert.equal(stderr, "");
    assert.match(stdout, new RegExp(`^USAGE\n {2}t2cp ${name}`));
    assert.match(stdout, /--help/);
  });

  Deno.test(`t2cp ${name} refuses an unknown flag`, async () => {
    const { status, stdout, stderr } = await t2cp(name, "--frobnicate-thoroughly");
    assert.equal(status, 64);
    assert.equal(stdout, "");
    const what = `(flag|command) "--frobnicate-thoroughly"`;
    assert.match(
      stderr,
      new RegExp(`^t2cp ${name}: Unknown ${what}; .*see t2cp ${name} --help\n$`),
    );
  });
}

Deno.test("wrong use is one line on stderr, suggests the nearest name, and exits with 64", async () => {
  const cases: [string[], string][] = [
    [["shcema"], `t2cp: Unknown command "shcema"; did you mean "schema"? see t2cp --help`],
    [["zzzzzzzzzzzz"], `t2cp: Unknown command "zzzzzzzzzzzz"; see t2cp --help`],
    [["--verbose"], `t2cp: Unknown flag "--verbose"; see t2cp --help`],
    [["lab", "rnu"], `t2cp lab: Unknown command "rnu"; did you mean "run"? see t2cp lab --help`],
    [
      ["schema", "surplus"],
      `t2cp schema: Too many arguments, expected 0 but encountered "surplus"; see t2cp schema --help`,
    ],
    [
      ["shadow", "--servise", "10.0.0.1:80"],
      `t2cp shadow: Unknown flag "--servise"; did you mean "--service"? see t2cp shadow --help`,
    ],
    [
      ["shadow", "--interface", "eth0", "--service", "10.0.0.1"],
      `t2cp shadow: --service: Service "10.0.0.1" lacks a port; write "10.0.0.1:80"`,
    ],
  ];
  for (const [args, line] of cases) {
    assert.deepEqual(await t2cp(...args), { status: 64, stdout: "", stderr: line + "\n" });
  }
});

Deno.test("a reader that goes early ends t2cp quietly", async () => {
  for (const command of ["schema", "--help", "lab --help"]) {
    const { stdout, stderr } = await shell(
      `t2cp ${command} > >(exec 0<&-; :) & wait $!; echo "status $?"; ` +
        `t2cp ${command} | head -c 1 >/dev/null; echo "statuses \${PIPESTATUS[*]}"`,
    );
    assert.equal(stdout, "status 0\nstatuses 0 0\n", command);
    assert.equal(stderr, "", command);
  }
});

Deno.test("a full disk is a failure of the operating system", async () => {
  const { stdout, stderr } = await shell(`t2cp schema >/dev/full; echo "status $?"`);
  assert.equal(stdout, "status 71\n");
  assert.match(stderr, /^t2cp schema: Cannot write the output: No space left on device.*\n$/);
});

Deno.test("a closed stderr does not change the exit status", async () => {
  const { stdout } = await shell(`t2cp nonsense 2>&-; echo "status $?"`);
  assert.equal(stdout, "status 64\n");
});

Deno.test("t2cp schema prints JSON", async () => {
  const { status, stdout } = await t2cp("schema");
  assert.equal(status, 0);
  assert.equal(JSON.parse(stdout).title, "t2cp event");
});
