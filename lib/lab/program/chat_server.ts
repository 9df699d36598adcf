/**
 * A program of the lab: speaks first and at its own pace, whatever it receives meanwhile, and ends
 * by saying what it has received. All that it sends follows from the client's port and bytes, so
 * that primary and replica send the same.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { FLOW_MESSAGES, message } from "./message.ts";
import { type ConversationTask, sendAll, sendMessages } from "./protocol.ts";

const task: ConversationTask = JSON.parse(Deno.args[0]!);

async function serve(conn: Deno.TcpConn): Promise<void> {
  using _ = conn;
  conn.setNoDelay(true);
  const first = conn.remoteAddr.port * FLOW_MESSAGES;
  const sending = sendMessages(conn, task, performance.now(), (index) => message(first + index));
  const hash = createHash("sha256");
  const receiving = (async () => {
    const buffer = new Uint8Array(64 * 1024);
    for (let got = await conn.read(buffer); got !== null; got = await conn.read(buffer)) {
      hash.update(buffer.subarray(0, got));
    }
  })();
  await Promise.all([sending, receiving]);
  await sendAll(conn, new TextEncoder().encode(`${hash.digest("hex")}\n`));
}

for await (const conn of Deno.listen({ hostname: task.address, port: task.port })) {
  // One client's end is no matter for the others.
  serve(conn).catch((error) => console.error(`${error}`));
}
