/**
 * Keeps the replica's sockets and the tracked flows in agreement: what only one of the two knows is removed in time.
 *
 * @module
 */
import { monotonicMicros } from "../../ffi/clock.ts";
import { formatEndpoint, formatService, type Service } from "../address.ts";
import { FLOW_KEY, type FlowEnds, Mode } from "../flow/layout.ts";
import { runTool, ss } from "../host/facts.ts";
import type { Instance } from "../program/instance.ts";
import { type Control, readFlows } from "./programs.ts";

/** Between two sweeps, in milliseconds. A socket is an orphan when two of them found it without a flow. */
const INTERVAL = 10_000;
/** A flow without a socket is forgotten after this silence, in microseconds: as long as TIME_WAIT lasts. */
const SILENCE = 60e6;
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

/** Removes, in shadow mode only, replica sockets without a flow and flows without a socket. */
export class Sweeper {
  readonly #instance: Instance;
  readonly #control: Control;
  readonly #services: readonly Service[];
  #suspects = new Set<string>();
  #next = performance.now() + INTERVAL;
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
    if (this.#control.mode !== Mode.SHADOW) return;
    const sockets = (await Promise.all(this.#services.map(socketsOf))).flat();
    // Read after the sockets: a socket that is younger than its flow's entry cannot exist.
    const batch = this.#instance.map("flows").entries();
    const flows = [...readFlows(batch)];
    // Flows leave the map at the takeover while their sockets go on.
    if (this.#control.mode !== Mode.SHADOW) return;
    const known = new Set(flows.map(nameOf));
    const orphans = sockets.filter((socket) => !known.has(nameOf(socket)));
    const destroy = orphans.filter((socket) => this.#suspects.has(nameOf(socket)));
    this.#suspects = new Set(orphans.map(nameOf));
    for (let i = 0; i < destroy.length; i += CHUNK) {
      await destroySockets(destroy.slice(i, i + CHUNK));
    }

    const living = new Set(sockets.map(nameOf));
    const old = (monotonicMicros() - SILENCE) * 1000;
    flows.forEach((flow, index) => {
      if (living.has(nameOf(flow)) || flow.seen_ns > old) return;
      const key = batch.keys.slice(index * FLOW_KEY.size, (index + 1) * FLOW_KEY.size);
      this.#instance.map("flows").delete(key);
    });
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

async function destroySockets(sockets: readonly FlowEnds[]): Promise<void> {
  const filter = sockets.map(({ client, server }) => `( src ${server} and dst ${client} )`);
  await runTool("ss", ["-HKtan", ...filter.join(" or ").split(" ")], "iproute2");
}
