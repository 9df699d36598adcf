import assert from "node:assert/strict";
import { t2cp } from "../cli/t2cp.ts";
import { marked, readPage, section } from "../fixture/man.ts";

/** The flags in a help text, without those that every command has. */
function flagsOf(help: string): string[] {
  const lines = help.slice(help.indexOf("\nFLAGS\n")).split("\n");
  return lines.flatMap((line) => /^ +(?:-\w +)?\[?--([a-z][a-z-]*)/.exec(line)?.[1] ?? [])
    .filter((name) => name !== "help");
}

/** The names below COMMANDS in a help text. */
function commandsOf(help: string): string[] {
  const [, table = ""] = help.split("\nCOMMANDS\n");
  return table.split("\n").flatMap((line) => /^ {2}([a-z]+) /.exec(line)?.[1] ?? []);
}

async function helpOf(...command: string[]): Promise<string> {
  const { status, stdout } = await t2cp(...command, "--help");
  assert.equal(status, 0);
  return stdout;
}

/** The flags that the macro Fl marks, which gives them their first hyphen. */
function documented(lines: readonly string[]): Set<string> {
  const long = [...marked(lines, "Fl")].filter((flag) => /^-[a-z]/.test(flag));
  return new Set(long.map((flag) => flag.slice(1)));
}

const commands = commandsOf(await helpOf());

Deno.test("t2cp(8) describes the flags of t2cp itself, and names every command's page", () => {
  const page = readPage("t2cp.8");
  const flags = documented(page);
  for (const name of ["help", "version"]) assert.ok(flags.has(name), name);
  assert.ok(commands.length > 0);
  for (const name of commands) {
    assert.ok(page.some((line) => line.includes(`Xr t2cp-${name} 8`)), name);
  }
});

for (const command of commands) {
  Deno.test(`t2cp-${command}(8) describes every flag, and its synopsis shows no other`, async () => {
    const page = readPage(`t2cp-${command}.8`);
    const help = await helpOf(command);
    const below = await Promise.all(commandsOf(help).map((name) => helpOf(command, name)));
    const flags = new Set([help, ...below].flatMap(flagsOf));

    const described = documented(page);
    for (const flag of flags) assert.ok(described.has(flag), `--${flag} is not described`);
    for (const flag of documented(section(page, "SYNOPSIS"))) {
      assert.ok(flags.has(flag), `--${flag} does not exist`);
    }
  });
}
