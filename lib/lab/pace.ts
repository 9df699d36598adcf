/**
 * How much each workload moves, in how many flows, and how fast.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";
import { MESSAGE_SIZE } from "./program/message.ts";
import type { Scenario, WorkloadName } from "./scenario.ts";

/** Connections a second. */
export const CONNECTION_RATE = 200;

/** Messages a second on an only flow. */
const SINGLE_RATE = 200;

/** Messages a second on each of several flows. */
const SHARED_RATE = 10;

/** Bytes of a download or upload, and of each document of many connections. */
const TRANSFER_SIZE = 200e6;
const DOCUMENT_SIZE = 4096;

/** Seconds that a conversation takes, and takes at most. */
const CONVERSATION_SECONDS = 3;
const MAX_CONVERSATION_SECONDS = 3600;

/** How many flows each workload has unless told otherwise, and at most. */
const FLOWS: Readonly<Record<WorkloadName, { usual: number; most: number }>> = {
  download: { usual: 1, most: 1 },
  upload: { usual: 1, most: 1 },
  echo: { usual: 1, most: 1000 },
  chat: { usual: 1, most: 1000 },
  connections: { usual: 2000, most: 20_000 },
};

/** Messages a second in each direction on each of `flows` flows. */
export function messageRate(flows: number): number {
  return flows === 1 ? SINGLE_RATE : SHARED_RATE;
}

/** How many messages each of `flows` flows sends so that all of them send `size` bytes. */
export function messageCount(size: number, flows: number): number {
  return Math.max(1, Math.floor(size / flows / MESSAGE_SIZE));
}

/** Whether the workload is a conversation, whose pace is its own and not the link's. */
export function isConversation(workload: WorkloadName): boolean {
  return workload === "echo" || workload === "chat";
}

/**
 * The number of flows and bytes that a scenario has, where the user may have given neither.
 *
 * @throws {Failure} with status USAGE where they do not fit the workload
 */
export function amountOf(
  workload: WorkloadName,
  wish: { flows?: number; size?: number },
): { flows: number; size: number } {
  const { usual, most } = FLOWS[workload];
  const flows = wish.flows ?? usual;
  if (flows > most) {
    throw new Failure(
      ExitStatus.USAGE,
      `Workload "${workload}" has ${most === 1 ? "one flow" : `at most ${most} flows`}`,
      { mend: `choose a --flows up to ${most}` },
    );
  }
  if (!isConversation(workload)) {
    const size = wish.size ?? (workload === "connections" ? flows * DOCUMENT_SIZE : TRANSFER_SIZE);
    if (size < flows) refuseLess(flows, size, flows);
    return { flows, size };
  }
  const second = messageRate(flows) * flows * MESSAGE_SIZE;
  const size = wish.size ?? CONVERSATION_SECONDS * second;
  if (size < flows * MESSAGE_SIZE) refuseLess(flows, size, flows * MESSAGE_SIZE);
  if (size > MAX_CONVERSATION_SECONDS * second) {
    throw new Failure(
      ExitStatus.USAGE,
      `A workload "${workload}" of ${size} bytes takes over an hour`,
      {
        mend: `choose a --size up to ${MAX_CONVERSATION_SECONDS * second}`,
      },
    );
  }
  return { flows, size };
}

function refuseLess(flows: number, size: number, least: number): never {
  const count = flows === 1 ? "one flow" : `${flows} flows`;
  throw new Failure(ExitStatus.USAGE, `Size ${size} is too small for ${count}`, {
    mend: `choose a --size of at least ${least}`,
  });
}

/** Seconds that a client needs where nothing fails. */
export function dueSeconds({ workload, flows, size, rate }: Scenario): number {
  if (workload === "connections") return flows / CONNECTION_RATE;
  if (isConversation(workload)) return messageCount(size, flows) / messageRate(flows);
  return size / (rate > 0 ? rate : 20e6);
}
