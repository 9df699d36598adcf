import assert from "node:assert/strict";
import { ExitStatus, Failure } from "../../lib/failure.ts";

Deno.test("a failure's line joins message and mend", () => {
  const failure = new Failure(ExitStatus.NO_INPUT, `No interface "br9"`, { mend: "see ip link" });
  assert.equal(failure.line, `No interface "br9"; see ip link`);
  assert.equal(failure.status, 66);
  assert.equal(new Failure(ExitStatus.OS, "Cannot fork").line, "Cannot fork");
});

Deno.test("a failure's line is one line, whatever the message holds", () => {
  const failure = new Failure(ExitStatus.OS, "libbpf says:\n  -22\n", { mend: "try\r\nagain" });
  assert.equal(failure.line, "libbpf says: -22; try again");
});

Deno.test("a failure keeps its cause", () => {
  const cause = new Error("deep");
  assert.equal(new Failure(ExitStatus.OS, "Cannot", { cause }).cause, cause);
});
