/**
 * Shadow testing with the copies of the mirror: what clients ask the primary is played to a server on the backup, while
 * the shadow keeps its replicas there.
 */
import assert from "node:assert/strict";
import { poll } from "../fixture/wait.ts";
import { onStage, WEB } from "./stage.ts";

const SIZE = 100_000;

onStage(
  "mirror --payload, record --follow | replay on the backup: each answer is compared",
  async (stage) => {
    await stage.webServers(SIZE);
    await stage.shadow();
    await stage.mirror("--payload");
    const replay = stage.startPipe(
      "backup",
      ["record", "--follow", "--interface", "eth0", "--service", WEB],
      ["replay", "-", "--to", "127.0.0.1:80", "--settle", "10", "--wait", "60", "--mask", "@http"],
    );
    await replay.next("started");
    const url = `http://${WEB}/content`;
    // The recorder may begin amid a connection, so that what becomes of the first ones is open.
    const whole = await poll("a replayed connection", async () => {
      const { stdout } = await stage.shell("client", `curl -sS ${url} ${url} | wc -c`);
      assert.equal(stdout.trim(), String(2 * SIZE), "what the client gets is the primary's");
      return replay.events.find((event) => Number(event["received"]) > 2 * SIZE);
    });
    assert.deepEqual([whole["outcome"], whole["answers"]], ["equal", 2]);
    assert.deepEqual([whole["server"], whole["to"]], [WEB, "127.0.0.1:80"]);
  },
);
