import assert from "node:assert/strict";
import { join } from "node:path";
import type { AnswerCheck, Verdict } from "../../lib/replay/answer_check.ts";
import { concat } from "../fixture/capture_file.ts";
import { CapturedServer, recordedIn, saidBy } from "../fixture/captured_server.ts";
import { replayFile } from "../fixture/replay.ts";
import { captureFolder } from "../fixture/tshark.ts";
import { within } from "../fixture/wait.ts";

/** The captures in which nothing was retransmitted or is missing, by INDEX.tsv. */
const names = captureFolder === undefined ? [] : (() => {
  const [head = "", ...lines] = Deno.readTextFileSync(join(captureFolder, "INDEX.tsv")).trim()
    .split("\n");
  const columns = head.split("\t");
  const cell = (line: string, name: string): string => line.split("\t")[columns.indexOf(name)]!;
  return lines.filter((line) => cell(line, "retx") === "0" && cell(line, "gap") === "0")
    .map((line) => cell(line, "file"));
})();

/** Keeps all that both servers say. */
class Collector implements AnswerCheck {
  readonly expected: Uint8Array[] = [];
  readonly came: Uint8Array[] = [];
  differs = false;

  get met(): boolean {
    return concat(...this.came).length >= concat(...this.expected).length;
  }
  capturedClient(): void {}
  liveClient(): void {}
  captured(bytes: Uint8Array): void {
    this.expected.push(bytes.slice());
  }
  capturedMissing(): void {}
  capturedEnd(): void {}
  live(bytes: Uint8Array): void {
    this.came.push(bytes.slice());
  }
  finish(): Verdict {
    return { outcome: "equal", fields: {} };
  }
}

Deno.test({
  name: "replay: real captures (T2CP_PCAPS) without losses are byte-exact in both directions",
  ignore: names.length === 0,
  async fn(t) {
    let conversations = 0;
    for (const name of names) {
      await t.step(name, async () => {
        const file = join(captureFolder!, name);
        for (const recorded of await recordedIn(file)) {
          const [client, server] = [saidBy(recorded, "client"), saidBy(recorded, "server")];
          if (client.length + server.length === 0) continue;
          assert.equal(recorded.lacks, false, "the index says that nothing is missing");
          const { flows, check, heard } = await play(file, recorded.conversation.number);
          assert.deepEqual(flows.map(({ outcome, reason }) => [outcome, reason]), [[
            "equal",
            undefined,
          ]]);
          assert.deepEqual(heard, client, "what the server heard");
          assert.deepEqual(concat(...check.came), server, "what the client heard");
          conversations++;
        }
      });
    }
    assert.ok(conversations >= names.length);
  },
});

async function play(file: string, flow: number) {
  const recorded = (await recordedIn(file))[flow]!;
  const server = new CapturedServer(recorded);
  const check = new Collector();
  try {
    const to = `127.0.0.1:${server.port}`;
    const { flows } = await replayFile(file, { to, flows: [flow], makeCheck: () => check });
    return { flows, check, heard: await within(30_000, server.heard, "the client's end") };
  } finally {
    server.close();
  }
}
