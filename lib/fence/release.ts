/**
 * `fence --release`: takes a fence away, that of a running process or one that was left.
 *
 * @module
 */
import { formatMac, parseService } from "../address.ts";
import type { Emitter } from "../event.ts";
import { isLockTaken, removeRecord, takeLock } from "../program/run_dir.ts";
import { askFence } from "./ask.ts";
import { Fence } from "./device.ts";
import { ServiceNeighbours } from "./neighbours.ts";
import { FENCE, type FenceRecord, readFenceRecord } from "./record.ts";

/** Settings of {@linkcode releaseFence}. */
export interface ReleaseOptions {
  /** Where the record and the control socket are. */
  runDir: string;
  /** All fences at this interface are taken away, whoever has put them there; undefined for the run directory's. */
  interface: string | undefined;
}

/**
 * Lets the primary speak again. A process that runs is asked to, and stays ready for the next event. Emits
 * `fence.released` where a fence was up.
 *
 * @throws {Failure} where the process does not do it
 */
export async function releaseFence(options: ReleaseOptions, emitter: Emitter): Promise<void> {
  const { runDir } = options;
  if (isLockTaken(runDir, FENCE)) {
    const answer = await askFence(runDir, "release");
    const services = answer["released"] as string[];
    if (services.length > 0) emitter.emit("fence.released", { services });
  } else {
    releaseLeft(options, readFenceRecord(runDir), emitter);
  }
}

/** Takes away what no process looks after. */
function releaseLeft(
  { runDir, interface: name }: ReleaseOptions,
  record: FenceRecord | undefined,
  emitter: Emitter,
): void {
  using _lock = record === undefined ? undefined : takeLock(runDir, FENCE);
  const own = record === undefined ? [] : Fence.find(record.interface, record.program) ?? [];
  const fences = name === undefined ? [own].flat() : Fence.at(name);
  for (const fence of fences) {
    using released = fence;
    if (released.lower()) {
      const ours = released.program === record?.program;
      const services = ours ? record!.services : released.services;
      emitter.emit("fence.released", { services, primary: formatMac(released.primary) });
    }
    released.remove();
  }
  if (record === undefined) return;
  removeRecord(runDir, FENCE);
  if (record.backup === undefined) return;
  const addresses = record.services.map((text) => parseService(text).address);
  using neighbours = new ServiceNeighbours(record.interface, addresses);
  neighbours.forget();
}
