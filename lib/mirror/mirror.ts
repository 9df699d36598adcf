/**
 * `mirror`: feeds the backup with a copy of the traffic between the clients and the primary.
 *
 * @module
 */
import { formatMac, formatService, type Service } from "../address.ts";
import type { Emitter } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { serviceKey, ServiceValue, WANT_FLOW_EVENTS } from "../flow/layout.ts";
import {
  COMMIT,
  HEARING,
  MIRROR_ANSWERS,
  MIRROR_COMMIT,
  MIRROR_CONTROL,
  MIRROR_PAYLOAD,
  mirrorCounters,
  RESET,
  SIGNALS,
  WAITING,
} from "./layout.ts";
import { macOf } from "../host/links.ts";
import { AttachmentGuard } from "../program/attachment_guard.ts";
import { pumpEvents, StatsTimer } from "../program/events.ts";
import { Instance, type InstanceKind, requireInterface } from "../program/instance.ts";
import {
  makeRunDir,
  readRecord,
  removeRecord,
  requireSameInterface,
  takeLock,
  writeRecord,
} from "../program/run_dir.ts";
import { requireHandled } from "../program/services.ts";
import { writeServices } from "../shadow/programs.ts";
import { CommitWatch } from "./commit.ts";
import { resolveMac } from "./neighbour.ts";
import { PassiveWatch } from "./passive.ts";
import { HeldResets } from "./resets.ts";

/** Programs and maps of `mirror`. */
export const mirrorKind: InstanceKind = {
  name: "mirror",
  object: "mirror.bpf.o",
  everywhere: false,
  valueSizes: {
    control: MIRROR_CONTROL.size,
    services: 4,
    flows: 4,
    commits: COMMIT.size,
    openings: COMMIT.size,
    hearing: HEARING.size,
    resets: RESET.size,
    signals: SIGNALS.size,
    waiting: WAITING.size,
    counters: 8,
    events: 0,
  },
};

/** Settings of {@linkcode runMirror}. */
export interface MirrorOptions {
  /** The gateway's interface to both servers. */
  interface: string;
  /** The primary's MAC or IP address. */
  primary: string;
  /** The backup's MAC or IP address. */
  backup: string;
  /** What is copied; TCP only. */
  services: readonly Service[];
  /** Where pins, lock and record are. */
  runDir: string;
  /** Copy the primary's segments with their payload, not just their headers. */
  payload: boolean;
  /** Tell the client only what both servers have acknowledged. */
  commit: boolean;
  /** How long a client waits for the backup, in milliseconds. */
  commitTimeout: number;
  /** For how long resets of the primary are held back, in milliseconds; 0 for not at all. */
  holdResets: number;
  /** What the events of a suspicion call the primary. */
  target: string;
  /** How long a client may wait for an answer before the primary is suspect, in milliseconds; for ever unless given. */
  unanswered?: number;
  /** How many resets of the primary within a second make it suspect; any number does not unless given. */
  resets?: number;
  /** Report opened and closed flows. */
  flows: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
}

/**
 * Runs until `stop` is aborted, and detaches then. What a killed one left attached goes on copying, and is adopted.
 *
 * @throws {Failure} where a neighbour does not answer, or another mirror is in the way
 */
export async function runMirror(
  options: MirrorOptions,
  emitter: Emitter,
  stop: AbortSignal,
): Promise<void> {
  const { runDir } = options;
  requireHandled(options.services);
  requireInterface(options.interface);
  requireSameInterface(runDir, "mirror", options.interface);
  const [primary, backup] = await Promise.all([
    resolveMac(options.primary, options.interface),
    resolveMac(options.backup, options.interface),
  ]);
  const own = macOf(options.interface);
  if (formatMac(primary) === formatMac(backup)) {
    throw new Failure(ExitStatus.USAGE, `Primary and backup have the same MAC address`, {
      mend: "name two hosts",
    });
  }
  makeRunDir(runDir);
  using _lock = takeLock(runDir, "mirror");
  const record = {
    interface: options.interface,
    services: options.services.map(formatService),
  };
  const earlier = readRecord(runDir, "mirror");
  writeRecord(runDir, "mirror", record);
  const reclaim = earlier !== undefined;
  const prepare = (instance: Instance): void => {
    const value = new Uint8Array(MIRROR_CONTROL.size);
    value.set(primary, MIRROR_CONTROL.primary_mac);
    value.set(backup, MIRROR_CONTROL.backup_mac);
    value.set(own, MIRROR_CONTROL.own_mac);
    const flags = (options.flows ? WANT_FLOW_EVENTS : 0) |
      (options.payload ? MIRROR_PAYLOAD : 0) | (options.commit ? MIRROR_COMMIT : 0) |
      (options.unanswered !== undefined ? MIRROR_ANSWERS : 0);
    const view = new DataView(value.buffer);
    view.setUint32(MIRROR_CONTROL.flags, flags, true);
    view.setUint32(MIRROR_CONTROL.commit_timeout, options.commitTimeout, true);
    view.setUint32(MIRROR_CONTROL.hold_resets, options.holdResets, true);
    writeServices(instance.map("services"), options.services);
    numberServices(instance, options.services);
    instance.map("control").update(new Uint8Array(4), value);
  };
  using instance = openRecorded(runDir, options.interface, reclaim, prepare);
  try {
    using passive = new PassiveWatch(instance, emitter, {
      target: options.target,
      services: options.services,
      unanswered: options.unanswered && options.unanswered * 1000,
      resets: options.resets,
    });
    const read = (): Record<string, number> => {
      const sums = instance.map("counters").sums();
      const counters = mirrorCounters.map((name, index) => [name, sums[index] ?? 0]);
      return { ...Object.fromEntries(counters), ...passive.counters };
    };
    using commit = options.commit
      ? new CommitWatch(instance, emitter, { primary, own }, options.commitTimeout)
      : undefined;
    using resets = new HeldResets(instance, { primary, own }, options.holdResets);
    const guard = new AttachmentGuard(instance, emitter);
    const stats = new StatsTimer(emitter, read, options.stats);
    emitter.emit("started", {
      ...record,
      primary: formatMac(primary),
      backup: formatMac(backup),
      ...(options.commit ? { commit_timeout_ms: options.commitTimeout } : {}),
      hold_resets_ms: options.holdResets,
      unanswered_ms: options.unanswered,
      resets: options.resets,
      adopted: instance.adopted,
    });
    let failed = 0;
    const each = (): void => {
      stats.tick();
      guard.look();
      const now = read()["failed"]!;
      if (now > failed) {
        emitter.emit("warning", {
          message: `${now - failed} copies were not taken by interface "${options.interface}"`,
          counter: "failed",
          count: now - failed,
        });
        failed = now;
      }
    };
    commit?.start();
    resets.start();
    passive.start();
    await pumpEvents(instance.map("events"), emitter, stop, { each, due: () => stats.due() });
    resets.end();
    stats.emit();
  } finally {
    instance.clear();
    removeRecord(runDir, "mirror");
  }
}

/** Tells the programs the place of each service in the counts of resets. */
function numberServices(instance: Instance, services: readonly Service[]): void {
  for (const [place, { address, port }] of services.entries()) {
    const value = new Uint32Array([ServiceValue.KNOWN | place << ServiceValue.PLACE]);
    instance.map("services").update(serviceKey(address, port), new Uint8Array(value.buffer));
  }
}

/** Opens the programs; the record goes again where nothing new is attached. */
function openRecorded(
  runDir: string,
  interfaceName: string,
  reclaim: boolean,
  prepare: (instance: Instance) => void,
): Instance {
  try {
    return Instance.open(mirrorKind, runDir, interfaceName, reclaim, prepare);
  } catch (error) {
    if (!reclaim) removeRecord(runDir, "mirror");
    throw error;
  }
}
