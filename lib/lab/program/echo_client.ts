/**
 * A program of the lab: many echo flows at once; every byte that comes back is compared.
 *
 * @module
 */

import { nowMicros } from "../../clock.ts";
import { FLOW_MESSAGES, message, MESSAGE_SIZE, MessageCheck } from "./message.ts";
import { type ConversationTask, converse, report, sendMessages } from "./protocol.ts";

const task: ConversationTask = JSON.parse(Deno.args[0]!);

async function talk(
  conn: Deno.TcpConn,
  flow: number,
  start: number,
): Promise<string | undefined> {
  const first = flow * FLOW_MESSAGES;
  const check = new MessageCheck(first);
  const sent: number[] = [];
  const sending = sendMessages(conn, task, start, (index) => {
    sent.push(nowMicros());
    return message(first + index);
  }).then(() => conn.closeWrite());
  const receiving = (async () => {
    const buffer = new Uint8Array(64 * 1024);
    for (let got = await conn.read(buffer); got !== null; got = await conn.read(buffer)) {
      const asked = sent[check.complete];
      report({ flow, time: nowMicros(), bytes: got, ...(asked === undefined ? {} : { asked }) });
      check.take(buffer.subarray(0, got));
    }
  })();
  await Promise.all([sending, receiving]);
  if (!check.equal) return "the content differs";
  const missing = task.messages * MESSAGE_SIZE - check.bytes;
  return missing === 0 ? undefined : `${missing} bytes are missing`;
}

await converse(task, talk);
