/**
 * Probes that make an HTTP request.
 *
 * @module
 */
import { type Attempt, connectionError } from "./attempt.ts";
import { BadReply, HttpReply } from "./http_reply.ts";
import type { HttpProbe } from "./spec.ts";
import { connectTcp } from "./tcp.ts";

const BUFFER = 16 * 1024;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Whether a GET request is answered with a status that is wanted and a body that has the text that is wanted. A
 * redirect is an answer like any other. The body must come whole, or as far as it is looked at.
 */
export function httpAttempt(probe: HttpProbe): Attempt {
  const { path, host, match } = probe;
  const request = encoder.encode(
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: t2cp\r\nAccept: */*\r\nConnection: close\r\n\r\n`,
  );
  return async (signal, counters) => {
    let connection: Deno.TcpConn | undefined;
    const close = (): void => {
      try {
        connection?.close();
      } catch {
        // It is closed already.
      }
    };
    signal.addEventListener("abort", close, { once: true });
    try {
      connection = await connectTcp(probe.address, probe.port, signal);
      await writeAll(connection, request);
      const reply = await readReply(connection);
      if (match === undefined) counters.discarded_bytes += reply.body.length;
      return judge(probe, reply);
    } catch (error) {
      return error instanceof BadReply ? `${error.message}` : connectionError(error);
    } finally {
      signal.removeEventListener("abort", close);
      close();
    }
  };
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) at += await connection.write(bytes.subarray(at));
}

async function readReply(connection: Deno.TcpConn): Promise<HttpReply> {
  const reply = new HttpReply();
  const buffer = new Uint8Array(BUFFER);
  while (!reply.complete) {
    const length = await connection.read(buffer);
    if (length === null) reply.end();
    else reply.push(buffer.subarray(0, length));
  }
  return reply;
}

function judge({ status, match }: HttpProbe, reply: HttpReply): string | undefined {
  if (reply.status < status[0] || reply.status > status[1]) return `Status ${reply.status}`;
  if (match !== undefined && !decoder.decode(reply.body).includes(match)) {
    return `Status ${reply.status}, but the body lacks "${match}"`;
  }
  return undefined;
}
