/**
 * What the lab's own client programs are told, as JSON in their only argument, and what they report
 * on standard output, one JSON object a line.
 *
 * @module
 */

import { nowMicros } from "../../clock.ts";
import { NdjsonWriter } from "../../ndjson.ts";

/** What every program is told. */
export interface Task {
  /** The service's address. */
  address: string;
  /** The service's port. */
  port: number;
  /** Messages, or connections, a second. */
  rate: number;
}

/** What the programs of a conversation are told: each flow sends `messages` in each direction. */
export interface ConversationTask extends Task {
  /** How many flows there are at once. */
  flows: number;
  /** How many messages each of them sends. */
  messages: number;
}

/** What the web client is told. */
export interface WebTask extends Task {
  /** How many connections it makes, one after the other. */
  connections: number;
  /** How many documents there are; the connections ask for them in turn. */
  documents: number;
  /** Bytes of each document. */
  size: number;
}

/** Bytes of content have arrived. */
export interface Arrival {
  /** The number of the flow, from 0. */
  flow: number;
  /** When, microseconds since the epoch. */
  time: number;
  /** How many bytes. */
  bytes: number;
  /** When the client asked for the first of them; absent where they come unasked. */
  asked?: number;
}

/** A flow has ended. */
export interface FlowEnd {
  /** The number of the flow. */
  flow: number;
  /** When, microseconds since the epoch. */
  ended: number;
  /** When the client began to connect. */
  begun: number;
  /** What was wrong with it; absent where nothing was. */
  problem?: string;
}

/** What a client program reports. */
export type Report = Arrival | FlowEnd;

const writer = new NdjsonWriter(Deno.stdout);

/** Reports to the lab. */
export function report(line: Report): void {
  writer.write(line);
}

/** Resolves at `time` in milliseconds of `performance.now`; at once where that has passed. */
export async function sleepUntil(time: number): Promise<void> {
  const wait = time - performance.now();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
}

/** Writes all of `bytes`. */
export async function sendAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

/**
 * Opens flow number `flow` at `due`, lets `talk` use it, and reports its end. Never throws: what
 * goes wrong with one flow is that flow's problem.
 */
export async function runFlow(
  flow: number,
  task: Task,
  due: number,
  talk: (conn: Deno.TcpConn, begun: number) => Promise<string | undefined>,
): Promise<void> {
  await sleepUntil(due);
  const begun = nowMicros();
  let problem: string | undefined;
  try {
    using conn = await Deno.connect({ hostname: task.address, port: task.port });
    conn.setNoDelay(true);
    problem = await talk(conn, begun);
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  report({ flow, begun, ended: nowMicros(), ...(problem === undefined ? {} : { problem }) });
}

/** Milliseconds between the openings of two flows of a conversation. */
const OPENING = 2;

/**
 * Opens all flows of a conversation, and starts `talk` on each of them once all are open, spread
 * over the time between two messages. `start` is in milliseconds of `performance.now`.
 */
export async function converse(
  task: ConversationTask,
  talk: (conn: Deno.TcpConn, flow: number, start: number) => Promise<string | undefined>,
): Promise<void> {
  const { flows, rate } = task;
  const open = Promise.withResolvers<number>();
  const now = performance.now();
  let missing = flows;
  const opened = () => {
    if (--missing === 0) open.resolve(performance.now());
  };
  await Promise.all(Array.from({ length: flows }, async (_, flow) => {
    let counted = false;
    const count = () => {
      if (!counted) opened();
      counted = true;
    };
    await runFlow(flow, task, now + flow * OPENING, async (conn) => {
      count();
      return talk(conn, flow, await open.promise + flow / flows * 1000 / rate);
    });
    // A flow that could not be opened keeps nobody waiting.
    count();
  }));
}

/** Sends a flow's messages at the task's pace, the first one at `start`, then ends the sending. */
export async function sendMessages(
  conn: Deno.TcpConn,
  { rate, messages }: Pick<ConversationTask, "rate" | "messages">,
  start: number,
  make: (index: number) => Uint8Array,
): Promise<void> {
  for (let index = 0; index < messages; index++) {
    await sleepUntil(start + index * 1000 / rate);
    await sendAll(conn, make(index));
  }
}
