/**
 * The client of `bench:stall`: downloads /content, and tells the longest time without a new byte. With patience it gives
 * up a connection that is silent, connects anew, and asks for the rest.
 *
 * Each line of output is a JSON object: `{"bytes"}` while it goes on, and one {@linkcode StallResult} at the end.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { runRealtimeAlone } from "../../ffi/scheduler.ts";

/** What the client is to do; its only argument, as JSON. */
export interface StallTask {
  /** The server's address. */
  address: string;
  /** Bytes of the content. */
  size: number;
  /** A connection that is silent for so long is given up, in milliseconds; undefined waits for ever. */
  patience?: number;
}

/** What it has seen. */
export interface StallResult {
  /** The longest time without a new byte, in milliseconds. */
  stall_ms: number;
  /** How often it had to connect anew. */
  reconnects: number;
  /** Hash of all bytes, in hexadecimal. */
  sha256: string;
}

/** Bytes between two lines of progress. */
const STEP = 1 << 20;

const task: StallTask = JSON.parse(Deno.args[0]!);
const hash = createHash("sha256");
let bytes = 0;
let told = 0;
let last: number | undefined;
let stall = 0;

function take(body: Uint8Array): void {
  if (body.length === 0) return;
  const now = performance.now();
  if (last !== undefined) stall = Math.max(stall, now - last);
  last = now;
  bytes += body.length;
  hash.update(body);
  if (bytes < told + STEP) return;
  told = bytes;
  console.log(JSON.stringify({ bytes }));
}

/** Asks for what is missing, on one connection; resolves when there is nothing more to hope for on it. */
function attempt(): Promise<void> {
  return new Promise((resolve) => {
    const socket: Socket = connect(80, task.address);
    const end = (): void => {
      socket.destroy();
      resolve();
    };
    let head: string | undefined = "";
    if (task.patience !== undefined) socket.setTimeout(task.patience, end);
    socket.on("error", end);
    socket.on("close", end);
    socket.on("connect", () => {
      socket.write(
        `GET /content HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=${bytes}-\r\n\r\n`,
      );
    });
    socket.on("data", (chunk: Uint8Array) => {
      if (head === undefined) return take(chunk);
      // One character a byte, so that positions are the same.
      const before = head.length;
      head += String.fromCharCode(...chunk);
      const body = head.indexOf("\r\n\r\n") + 4;
      if (body < 4) return;
      if (!head.startsWith("HTTP/1.1 206 ")) throw new Error(head.split("\r\n")[0]);
      head = undefined;
      take(chunk.subarray(body - before));
    });
  });
}

runRealtimeAlone();
let attempts = 0;
for (; bytes < task.size; attempts++) await attempt();
const result: StallResult = {
  stall_ms: Math.round(stall * 1000) / 1000,
  reconnects: attempts - 1,
  sha256: hash.digest("hex"),
};
console.log(JSON.stringify(result));
