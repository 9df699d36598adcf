/**
 * `shadow`: gives each flow a replica on the backup, and keeps it silent.
 *
 * @module
 */
import { join } from "node:path";
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { runOrdinary, runRealtime } from "../../ffi/scheduler.ts";
import { familyOf, formatService, type Service, to16Bytes } from "../address.ts";
import { requireSocketPath, serveControl } from "../control.ts";
import type { Emitter } from "../event.ts";
import type { ActiveFields } from "../vocabulary/takeover.ts";
import { ExitStatus, Failure } from "../failure.ts";
import type { FlowEvent } from "../flow/event.ts";
import { FLOW, Mode, modeName, readFlow, TELL_GATEWAY, WANT_FLOW_EVENTS } from "../flow/layout.ts";
import { after } from "../flow/sequence.ts";
import { AttachmentGuard } from "../program/attachment_guard.ts";
import { emitFlowEvent, pumpEvents, StatsTimer } from "../program/events.ts";
import { Instance } from "../program/instance.ts";
import {
  type InstanceRecord,
  makeRunDir,
  readRecord,
  removeRecord,
  requireSameInterface,
  takeLock,
  writeRecord,
} from "../program/run_dir.ts";
import { takeOver } from "../takeover/run.ts";
import { Takeover } from "../takeover/takeover.ts";
import {
  checkHost,
  commitWarnings,
  explainLoad,
  type HostFacts,
  hostWarnings,
} from "./preflight.ts";
import { ResetWatch } from "./resets.ts";
import { StuckWatch } from "./stuck.ts";
import { Sweeper } from "./sweep.ts";
import { Control, readCounters, readFlows, shadowKind, writeServices } from "./programs.ts";

/** Settings of {@linkcode runShadow}. */
export interface ShadowOptions {
  /** The interface that receives the copied traffic and the clients' segments after takeover. */
  interface: string;
  /** What is replicated; TCP only. */
  services: readonly Service[];
  /** Where pins, lock, record and control socket are. */
  runDir: string;
  /** Ports of services whose connections from before the start are joined in the middle. */
  join: readonly number[];
  /** Tell the gateway what the replicas acknowledge, for `mirror --commit`. */
  commit: boolean;
  /** Report opened and closed flows. */
  flows: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
}

/** Counters that must stay at zero while all is well; each rise gives a warning. */
const anomalies: Readonly<Record<string, string>> = {
  implausible:
    "client segments outside the primary's window; the tap loses segments, or someone forges them",
  malformed: "client frames that could not be read: fragments, or broken ones",
  truncated: "client frames shorter than they say; the copy must have the whole payload",
  events_lost: "events did not fit into the ring buffer",
};

/** Seconds between warnings of one kind. */
const WARNING_PAUSE = 10;

/**
 * Runs until `stop` is aborted; the programs stay attached after it, and keep the replica silent.
 *
 * @throws {Failure} where the host lacks something, or another shadow is in the way
 */
export async function runShadow(
  options: ShadowOptions,
  host: HostFacts,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  const { runDir, services } = options;
  requireSocketPath(join(runDir, "shadow.sock"));
  makeRunDir(runDir);
  using _lock = takeLock(runDir, "shadow");
  const record = { interface: options.interface, services: services.map(formatService) };
  requireSameInterface(runDir, "shadow", options.interface);
  requireAllServices(runDir, record.services);
  const stray = options.join.find((port) => !services.some((service) => service.port === port));
  if (stray !== undefined) {
    throw new Failure(ExitStatus.USAGE, `No service has port ${stray} to join`, {
      mend: "name it with --service, too",
    });
  }
  await checkHost(services, host);
  using instance = openRecorded(options, record, host);
  using control = new Control(instance.map("control"));
  const takeovers: Promise<unknown>[] = [];
  const activate = (): ActiveFields => {
    const takeover = Takeover.prepare(runDir);
    // The latest one goes on listening to neighbours and rivals.
    const turn = takeovers.length + 1;
    const keep = (): boolean => takeovers.length === turn;
    const { active, settled, watched } = takeOver(takeover, emitter, keep, stop);
    takeovers.push(Promise.all([settled, watched]).finally(() => takeover[Symbol.dispose]()));
    // From here on the servers need the processors more.
    runOrdinary();
    return active;
  };
  const sweeper = new Sweeper(instance, control, services);
  const read = (): Record<string, unknown> => ({
    ...readStats(instance, control),
    ...sweeper.counts,
  });
  await using _server = await serveShadow(runDir, instance, read, activate);
  const { mode } = control;
  const stats = new StatsTimer(emitter, read, options.stats);
  const warn = new AnomalyWatch(emitter, readCounters(instance.map("counters")));
  emitter.emit("started", {
    ...record,
    adopted: instance.adopted,
    mode: modeName(mode),
    // A gap that is told late is healed late.
    realtime: runRealtime(),
  });
  for (const message of hostWarnings(services, options.interface, host)) {
    emitter.emit("warning", { message });
  }
  if (options.commit) {
    for (const message of commitWarnings(host)) emitter.emit("warning", { message });
  }
  if (mode !== Mode.SHADOW) {
    emitter.emit("warning", {
      message: `This host has taken over and answers the clients; to shadow again, give the ` +
        `service back to a primary, then: t2cp shadow --clear`,
    });
  }
  const guard = new AttachmentGuard(instance, emitter);
  const sweepFailed = (error: unknown): void =>
    emitter.emit("warning", { message: `Old sockets could not be swept away: ${error}` });
  const each = (): void => {
    stats.tick();
    // Once the host is active, whoever detaches the programs means it.
    if (control.mode === Mode.SHADOW) {
      guard.look();
      resets.look();
    } else {
      // The primary is gone: it will not reset anything any more.
      resets.end();
    }
    sweeper.tick(sweepFailed);
    warn.look(readCounters(instance.map("counters")));
  };
  const stillMissing = (gap: FlowEvent): boolean => isMissing(instance.map("flows"), gap);
  const stuck = new StuckWatch(emitter, () => control.countUnprotected());
  const onEvent = (event: FlowEvent): void => stuck.look(event);
  const resets = new ResetWatch(instance.map("flows"), (event) => {
    control.countUnprotected();
    emitFlowEvent(event, emitter);
  });
  const take = (event: FlowEvent): boolean => resets.take(event);
  const hooks = { each, due: () => stats.due(), take, onEvent, stillMissing };
  await pumpEvents(instance.map("events"), emitter, stop, hooks);
  resets.end();
  await Promise.all([sweeper.idle(), ...takeovers]);
  stats.emit();
}

/** A service that is left out would speak: its replica's connections live on. */
function requireAllServices(runDir: string, services: readonly string[]): void {
  const missing = readRecord(runDir, "shadow")?.services.find((text) => !services.includes(text));
  if (missing === undefined) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `Service "${missing}" is replicated in run directory "${runDir}" already`,
    { mend: "name it, too, or t2cp shadow --clear first" },
  );
}

/** The record is there before anything is attached, and goes again where nothing is. */
function openRecorded(
  options: ShadowOptions,
  record: InstanceRecord,
  host: HostFacts,
): Instance {
  const earlier = readRecord(options.runDir, "shadow");
  writeRecord(options.runDir, "shadow", record);
  try {
    return openInstance(options, host, earlier !== undefined);
  } catch (error) {
    if (earlier === undefined) removeRecord(options.runDir, "shadow");
    else writeRecord(options.runDir, "shadow", earlier);
    throw error;
  }
}

function openInstance(options: ShadowOptions, host: HostFacts, reclaim: boolean): Instance {
  try {
    return Instance.open(shadowKind, options.runDir, options.interface, reclaim, (instance) => {
      writeServices(instance.map("services"), options.services, options.join, ownScale(host));
      using control = new Control(instance.map("control"));
      // The mode stays as it is: who was active is active still.
      const flags = (options.flows ? WANT_FLOW_EVENTS : 0) | (options.commit ? TELL_GATEWAY : 0);
      control.configure(flags, ownIpv4(options, host));
    });
  } catch (error) {
    throw explainLoad(error, host);
  }
}

/** The window scale that this host's kernel offers: tcp_select_initial_window(). */
export function ownScale(host: HostFacts): number {
  const [, , buffer = 0] = (host.sysctl("net/ipv4/tcp_rmem") ?? "").split(/\s+/).map(Number);
  const space = Math.max(buffer, Number(host.sysctl("net/core/rmem_max") ?? 0), 1);
  return Math.min(14, Math.max(0, Math.floor(Math.log2(space)) - 15));
}

/** The interface's own IPv4 address, in whose name the host may ask ARP. */
function ownIpv4(options: ShadowOptions, host: HostFacts): Uint8Array {
  const virtual = new Set(options.services.map((service) => service.address));
  const own = host.addresses().find(({ name, address }) =>
    name === options.interface && familyOf(address) === 4 && !virtual.has(address)
  );
  return own === undefined ? new Uint8Array(4) : to16Bytes(own.address).subarray(12);
}

function readStats(instance: Instance, control: Control): Record<string, unknown> {
  const counters = readCounters(instance.map("counters"));
  return {
    mode: modeName(control.mode),
    flows: instance.map("flows").entries().count,
    ...counters,
    flows_unprotected: counters["flows_unprotected"]! + control.foundUnprotected,
  };
}

function serveShadow(
  runDir: string,
  instance: Instance,
  read: () => Record<string, unknown>,
  activate: () => ActiveFields,
): Promise<AsyncDisposable> {
  return serveControl(join(runDir, "shadow.sock"), {
    *flows() {
      for (const flow of readFlows(instance.map("flows").entries())) yield { flow };
    },
    *stats() {
      yield { stats: read() };
    },
    *activate() {
      yield { active: activate() };
    },
  });
}

/** Whether the replica of the gap's flow has not received its bytes by another way. */
function isMissing(flows: BpfMap, gap: FlowEvent): boolean {
  const value = new Uint8Array(FLOW.size);
  if (!flows.lookup(gap.key, value)) return false;
  const flow = readFlow(new DataView(value.buffer), 0);
  return after(gap.to, flow.client_next) && after(gap.to, flow.replica_ack);
}

/** Turns rising counters into warnings, one of a kind in a while. */
class AnomalyWatch {
  readonly #emitter: Emitter;
  readonly #seen: Record<string, number>;
  readonly #quietUntil = new Map<string, number>();

  constructor(emitter: Emitter, counters: Record<string, number>) {
    this.#emitter = emitter;
    this.#seen = counters;
  }

  look(counters: Record<string, number>, now: number = performance.now()): void {
    for (const [name, text] of Object.entries(anomalies)) {
      const rise = counters[name]! - this.#seen[name]!;
      if (rise <= 0 || now < (this.#quietUntil.get(name) ?? 0)) continue;
      this.#seen[name] = counters[name]!;
      this.#quietUntil.set(name, now + WARNING_PAUSE * 1000);
      this.#emitter.emit("warning", { message: `${rise} ${text}`, counter: name, count: rise });
    }
  }
}
