import assert from "node:assert/strict";
import {
  parseInterface,
  parsePath,
  parsePositive,
  runDirFlag,
  serviceFlag,
  statsFlag,
  wholeNumber,
} from "../../cli/common/flags.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";

function refuses(parse: (text: string) => unknown, texts: readonly string[]): void {
  for (const text of texts) {
    assert.throws(() => parse(text), (error) => {
      assert.ok(error instanceof Failure, `"${text}": ${error}`);
      assert.equal(error.status, ExitStatus.USAGE);
      assert.ok(error.mend !== undefined && error.message.startsWith(`"${text}" is not `));
      return true;
    }, `"${text}" was accepted`);
  }
}

Deno.test("the run directory is /run/t2cp unless given", () => {
  assert.equal(runDirFlag.default, "/run/t2cp");
  assert.equal(runDirFlag.parse("/tmp/x"), "/tmp/x");
  refuses(parsePath, ["", "a\0b"]);
});

Deno.test("the service flag reads services", () => {
  assert.equal(serviceFlag.parse("10.0.0.1:80").port, 80);
});

Deno.test("interface names are the kernel's", () => {
  for (const name of ["eth0", "br-lan", "wlp3s0.100", "a", "x".repeat(15), "veth@x"]) {
    assert.equal(parseInterface(name), name);
  }
  refuses(parseInterface, ["", "x".repeat(16), "ééééééé é", "a b", "a/b", "a:1", ".", ".."]);
});

Deno.test("positive numbers may have a fraction", () => {
  assert.equal(statsFlag.parse("1"), 1);
  assert.equal(parsePositive("0.5"), 0.5);
  refuses(parsePositive, ["", "0", "0.0", "-1", "1e3", "Infinity", "NaN", "1s", ".5", " 1"]);
});

Deno.test("whole numbers have a range", () => {
  const parse = wholeNumber(1, 255);
  assert.equal(parse("1"), 1);
  assert.equal(parse("255"), 255);
  refuses(parse, ["", "0", "256", "-1", "1.5", "0x10", "1e2", "9".repeat(30)]);
});
