import assert from "node:assert/strict";
import { answers, captureOf, says } from "../fixture/dialogue.ts";
import { TestServer } from "../fixture/replay.ts";
import { t2cp } from "./t2cp.ts";

const encoder = new TextEncoder();

Deno.test("replay --learn-mask hides what the server says differently in two runs, and no more", async () => {
  let asked = 0;
  await using server = new TestServer(async (connection) => {
    const buffer = new Uint8Array(1 << 10);
    for (let text = "same"; await connection.read(buffer) !== null; text = "new") {
      await connection.write(encoder.encode(`token=t${asked++};\n${text}\n`));
    }
  });
  const lines = [says("a"), answers("token=x;\nsame\n"), says("b"), answers("token=y;\nold\n")];
  const file = await Deno.makeTempFile({ prefix: "t2cp-learn-" });
  try {
    await Deno.writeFile(file, captureOf({ lines }));
    const { status, stdout, stderr } = await t2cp(
      ...["replay", file, "--to", server.text, "--top-speed", "--learn-mask"],
    );
    const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
    const flows = events.filter(({ type }) => type === "replay.flow");
    assert.equal(flows.length, 1, stdout);
    const { outcome, answers_differing: differing, expected } = flows[0];
    assert.deepEqual([outcome, differing, expected], ["differs", 1, "old\\n"]);
    assert.match(stderr, /learnt --mask '\^token=\[A-Za-z0-9_-\]\*;\$'/);
    assert.equal(status, 1);
    assert.equal(server.accepted, 2);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("replay --learn-mask needs a capture that can be played twice", async () => {
  const { status, stderr } = await t2cp("replay", "-", "--to", "127.0.0.1:9", "--learn-mask");
  assert.equal(status, 64);
  assert.match(stderr, /Standard input cannot be played twice; leave out --learn-mask/);
});
