/**
 * A program of the lab: many short HTTP connections, begun at a steady pace, one request each; every
 * byte of each reply is compared.
 *
 * @module
 */

import { nowMicros } from "../../clock.ts";
import { FLOW_MESSAGES, MessageCheck } from "./message.ts";
import { report, runFlow, sendAll, type WebTask } from "./protocol.ts";

const task: WebTask = JSON.parse(Deno.args[0]!);

/** Asks for the document that is flow number `flow`'s turn, and compares it. */
async function fetchDocument(
  conn: Deno.TcpConn,
  flow: number,
  begun: number,
): Promise<string | undefined> {
  const document = flow % task.documents;
  const request = `GET /${document} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n`;
  await sendAll(conn, new TextEncoder().encode(request));
  const check = new MessageCheck(document * FLOW_MESSAGES);
  const buffer = new Uint8Array(64 * 1024);
  let head: string | undefined = "";
  for (let got = await conn.read(buffer); got !== null; got = await conn.read(buffer)) {
    let body = buffer.subarray(0, got);
    if (head !== undefined) {
      // One character a byte, so that positions are the same.
      const text: string = head + String.fromCharCode(...body);
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) {
        head = text;
        continue;
      }
      if (!text.startsWith("HTTP/1.1 200 ")) return `the reply is "${text.split("\r\n")[0]}"`;
      body = body.subarray(end + 4 - head.length);
      head = undefined;
    }
    if (body.length === 0) continue;
    report({ flow, time: nowMicros(), bytes: body.length, asked: begun });
    check.take(body);
  }
  if (!check.equal) return "the content differs";
  return check.bytes === task.size ? undefined : `${check.bytes} of ${task.size} bytes came`;
}

const start = performance.now();
await Promise.all(
  Array.from({ length: task.connections }, (_, flow) =>
    runFlow(
      flow,
      task,
      start + flow * 1000 / task.rate,
      (conn, begun) => fetchDocument(conn, flow, begun),
    )),
);
