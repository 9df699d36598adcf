/**
 * Keeps the replica's sockets and the tracked flows in agreement: what only one of the two knows is removed in time.
 *
 * @module
 */
import type { Batch, BpfMap } from "../../ffi/bpf_map.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { formatEndpoint, formatService, type Service } from "../address.ts";
import {
  FLOW,
  type Flow,
  FLOW_KEY,
  type FlowEnds,
  JOINING,
  Mode,
  readFlow,
  readFlowKey,
  STRANGER,
  STRANGER_REPORTED,
} from "../flow/layout.ts";
import { runTool, ss } from "../host/facts.ts";
import type { Instance } from "../program/instance.ts";
import type { Control } from "./programs.ts";

/** Between two sweeps, in milliseconds. A socket is an orphan when two of them found it without a flow. */
const INTERVAL = 10_000;
/** From the start to the first sweep, in milliseconds: an earlier shadow may have left something. */
const FIRST = 2000;
/** A flow without a socket is forgotten after this silence, in microseconds: as long as TIME_WAIT lasts. */
const SILENCE = 60e6;
/** A connection that one side has closed is over after this silence, in microseconds; nothing shows that it is not. */
const HALF_CLOSED = 600e6;
/** A handshake that says nothing for this long will not go on, in microseconds: a SYN is repeated within 64 s. */
const HANDSHAKE = 120e6;
/** What keeps silence for this long counts as idle no more, in microseconds: tcp_keepalive_time's default. */
const IDLE = 7200e6;
/** So many sockets or flows are looked at before other work gets its turn. */
const AT_ONCE = 250;
/** Sockets destroyed by one call of ss. */
const CHUNK = 50;

/** One flow's name among others. */
function nameOf({ client, server }: FlowEnds): string {
  return `${client} ${server}`;
}

/** Reads local and peer of the lines of `ss -Htan`. */
export function parseSockets(text: string): FlowEnds[] {
  return text.split("\n").flatMap((line) => {
    const [, , , local, peer] = line.trim().split(/\s+/);
    return local === undefined || peer === undefined
      ? []
      : [{ client: plain(peer), server: plain(local) }];
  });
}

/** ss shows a dual-stack socket's IPv4 end as [::ffff:a.b.c.d]:port. */
function plain(end: string): string {
  const mapped = /^\[::ffff:([0-9.]+)\]:(\d+)$/.exec(end);
  return mapped === null ? end : formatEndpoint(mapped[1]!, Number(mapped[2]));
}

/**
 * Removes, in shadow mode only, replica sockets without a flow and flows without a socket; and what is remembered of
 * handshakes and of flows that have ended, once that is of no use any more.
 */
export class Sweeper {
  readonly #instance: Instance;
  readonly #control: Control;
  readonly #services: readonly Service[];
  /** Flows removed so far, and sockets destroyed. */
  readonly counts: { swept_flows: number; swept_sockets: number } = {
    swept_flows: 0,
    swept_sockets: 0,
  };
  #suspects = new Set<string>();
  #next = performance.now() + FIRST;
  #running: Promise<void> | undefined;

  /** Looks after `services` of `instance`. */
  constructor(instance: Instance, control: Control, services: readonly Service[]) {
    this.#instance = instance;
    this.#control = control;
    this.#services = services;
  }

  /** Starts a sweep if one is due; `failed` is told where it fails. */
  tick(failed: (error: unknown) => void, now: number = performance.now()): void {
    if (now < this.#next || this.#running !== undefined) return;
    this.#next = now + INTERVAL;
    this.#running = this.sweep().catch(failed).finally(() => this.#running = undefined);
  }

  /** Waits for the sweep under way. */
  async idle(): Promise<void> {
    await this.#running;
  }

  /** One sweep. */
  async sweep(): Promise<void> {
    await removeOld(this.#instance.map("handshakes"), isOldHandshake);
    await removeOld(this.#instance.map("strangers"), isOldStranger);
    if (this.#control.mode !== Mode.SHADOW) return;
    const sockets = (await Promise.all(this.#services.map(socketsOf))).flat();
    // Read after the sockets: a socket that is younger than its flow's entry cannot exist.
    const batch = this.#instance.map("flows").entries();
    const keys = new DataView(batch.keys.buffer);
    const flows = new Map<string, number>();
    for await (const index of unhurried(Array(batch.count).keys())) {
      flows.set(nameOf(readFlowKey(keys, index * FLOW_KEY.size)), index);
    }
    const orphans = new Set<string>();
    const destroy: FlowEnds[] = [];
    const forget: number[] = [];
    for await (const socket of unhurried(sockets)) {
      const name = nameOf(socket);
      const index = flows.get(name);
      flows.delete(name);
      if (index === undefined) {
        orphans.add(name);
        if (this.#suspects.has(name)) destroy.push(socket);
      } else if (this.#isStill(batch, index, isOver)) {
        destroy.push(socket);
        forget.push(index);
      }
    }
    this.#suspects = orphans;
    // Flows leave the map at the takeover while their sockets go on.
    if (this.#control.mode !== Mode.SHADOW) return;
    for (let i = 0; i < destroy.length; i += CHUNK) {
      await destroySockets(destroy.slice(i, i + CHUNK));
    }
    this.counts.swept_sockets += destroy.length;
    // Those that are left in `flows` have no socket.
    for await (const index of unhurried(flows.values())) {
      if (this.#isStill(batch, index, (flow) => silence(flow) > SILENCE)) forget.push(index);
    }
    for (const index of forget) {
      // The reset of a socket that was destroyed may have closed its flow already.
      const removed = this.#instance.map("flows").delete(keyAt(batch.keys, index));
      if (removed) this.counts.swept_flows += 1;
    }
  }

  /** Whether `test` is true of the flow, in the batch and in the map as it is now. */
  #isStill({ keys, values }: Batch, index: number, test: (flow: Flow) => boolean): boolean {
    if (!test(readFlow(new DataView(values.buffer), index * FLOW.size))) return false;
    const now = new Uint8Array(FLOW.size);
    const found = this.#instance.map("flows").lookup(keyAt(keys, index), now);
    return found && test(readFlow(new DataView(now.buffer), 0));
  }
}

function keyAt(keys: Uint8Array<ArrayBuffer>, index: number): Uint8Array<ArrayBuffer> {
  return keys.slice(index * FLOW_KEY.size, (index + 1) * FLOW_KEY.size);
}

/** Gives each of `items`, and lets other work run now and then: events must not wait for a sweep. */
async function* unhurried<T>(items: Iterable<T>): AsyncGenerator<T> {
  let count = 0;
  for (const item of items) {
    if (++count % AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve));
    yield item;
  }
}

/** How long nothing was heard of the flow, in microseconds. */
function silence(flow: Flow): number {
  return monotonicMicros() - flow.seen_ns / 1000;
}

/** Whether the connection has ended by all that can be known, though the tap missed the last of it. */
function isOver(flow: Flow): boolean {
  if (flow.client_fin === 0 && flow.primary_fin === 0) return false;
  const both = flow.client_fin !== 0 && flow.primary_fin !== 0;
  return silence(flow) > (both ? SILENCE : HALF_CLOSED);
}

/** Whether a handshake has come to nothing. */
function isOldHandshake(values: DataView, at: number, now: number): boolean {
  const silent = now - Number(values.getBigUint64(at + FLOW.seen_ns, true)) / 1000;
  const joining = values.getUint8(at + FLOW.synack_seen) === JOINING;
  return silent > (joining ? IDLE : HANDSHAKE);
}

/** Whether no late segment can belong to a flow that has ended, or an unknown flow has gone. */
function isOldStranger(values: DataView, at: number, now: number): boolean {
  const stamp = values.getUint32(at + STRANGER.stamp, true);
  const seen = (stamp & ~STRANGER_REPORTED) * 2 ** 30 / 1000;
  return now - seen > ((stamp & STRANGER_REPORTED) === 0 ? SILENCE : IDLE);
}

async function removeOld(
  map: BpfMap,
  isOld: (values: DataView, at: number, now: number) => boolean,
): Promise<void> {
  const { keySize, valueSize } = map.info;
  for (const { count, keys, values } of map.pieces()) {
    const view = new DataView(values.buffer);
    const now = monotonicMicros();
    for (let i = 0; i < count; i++) {
      if (!isOld(view, i * valueSize, now)) continue;
      map.delete(keys.subarray(i * keySize, (i + 1) * keySize));
    }
    await new Promise((resolve) => setTimeout(resolve));
  }
}

async function socketsOf(service: Service): Promise<FlowEnds[]> {
  const filter = ["src", `${bracketed(service)}`, "and", "sport", "=", `:${service.port}`];
  const text = await ss(["-Htan", "exclude", "listening", ...filter]);
  const server = formatService(service);
  return parseSockets(text).filter((ends) => ends.server === server);
}

function bracketed(service: Service): string {
  return service.family === 6 ? `[${service.address}]` : service.address;
}

/** Destroys connections of this host, with a reset where they are open. */
export async function destroySockets(sockets: readonly FlowEnds[]): Promise<void> {
  const filter = sockets.map(({ client, server }) => `( src ${server} and dst ${client} )`);
  await runTool("ss", ["-HKtan", ...filter.join(" or ").split(" ")], "iproute2");
}
