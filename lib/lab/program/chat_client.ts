/**
 * A program of the lab: flows on which both ends send at their own pace. The server's messages are
 * compared; then it says what it has received.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { nowMicros } from "../../clock.ts";
import { FLOW_MESSAGES, message, MESSAGE_SIZE, MessageCheck } from "./message.ts";
import { type ConversationTask, converse, report, sendMessages } from "./protocol.ts";

const task: ConversationTask = JSON.parse(Deno.args[0]!);

async function talk(
  conn: Deno.TcpConn,
  flow: number,
  start: number,
): Promise<string | undefined> {
  const hash = createHash("sha256");
  const sending = sendMessages(conn, task, start, (index) => {
    const text = message(flow * FLOW_MESSAGES + index);
    hash.update(text);
    return text;
  }).then(() => conn.closeWrite());
  const check = new MessageCheck(conn.localAddr.port * FLOW_MESSAGES);
  const size = task.messages * MESSAGE_SIZE;
  let receipt = "";
  const receiving = (async () => {
    const buffer = new Uint8Array(64 * 1024);
    for (let got = await conn.read(buffer); got !== null; got = await conn.read(buffer)) {
      const content = buffer.subarray(0, Math.min(got, size - check.bytes));
      if (content.length > 0) report({ flow, time: nowMicros(), bytes: content.length });
      check.take(content);
      receipt += new TextDecoder().decode(buffer.subarray(content.length, got));
    }
  })();
  await Promise.all([sending, receiving]);
  if (!check.equal) return "the content from the server differs";
  if (check.bytes < size) return `${size - check.bytes} bytes from the server are missing`;
  return receipt === `${hash.digest("hex")}\n` ? undefined : "the content at the server differs";
}

await converse(task, talk);
