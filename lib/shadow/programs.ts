/**
 * The backup's BPF programs and maps, as TypeScript sees them.
 *
 * @module
 */
import type { Batch, BpfMap } from "../../ffi/bpf_map.ts";
import type { Service } from "../address.ts";
import {
  CONTROL,
  FLOW,
  type Flow,
  FLOW_KEY,
  type FlowEnds,
  type Mode,
  readFlow,
  readFlowKey,
  serviceKeys,
  shadowCounters,
} from "../flow/layout.ts";
import type { InstanceKind } from "../program/instance.ts";

/** Programs and maps of `shadow`. */
export const shadowKind: InstanceKind = {
  name: "shadow",
  object: "shadow.bpf.o",
  valueSizes: {
    control: CONTROL.size,
    services: 4,
    flows: FLOW.size,
    handshakes: FLOW.size,
    strangers: 4,
    counters: 8,
    events: 0,
  },
};

/** A tracked flow. */
export interface TrackedFlow extends FlowEnds, Flow {}

const KEY = new Uint8Array(4);

/** What the map `control` says. */
export interface Control {
  mode: number;
  flags: number;
  /** Network byte order, as four bytes; zeros where the interface has no IPv4 address. */
  ownIpv4: Uint8Array;
}

/** Reads the map `control`. */
export function readControl(map: BpfMap): Control {
  const value = new Uint8Array(CONTROL.size);
  map.lookup(KEY, value);
  const view = new DataView(value.buffer);
  return {
    mode: view.getUint32(CONTROL.mode, true),
    flags: view.getUint32(CONTROL.flags, true),
    ownIpv4: value.slice(CONTROL.own_ipv4, CONTROL.own_ipv4 + 4),
  };
}

/** Writes the map `control` whole. */
export function writeControl(map: BpfMap, control: Control): void {
  const value = new Uint8Array(CONTROL.size);
  const view = new DataView(value.buffer);
  view.setUint32(CONTROL.mode, control.mode, true);
  view.setUint32(CONTROL.flags, control.flags, true);
  value.set(control.ownIpv4, CONTROL.own_ipv4);
  map.update(KEY, value);
}

/** Changes the mode, and nothing else. */
export function setMode(map: BpfMap, mode: Mode): void {
  writeControl(map, { ...readControl(map), mode });
}

/** Makes the map `services` hold exactly `services` and their addresses. */
export function writeServices(map: BpfMap, services: readonly Service[]): void {
  const one = new Uint8Array([1, 0, 0, 0]);
  const wanted = serviceKeys(services);
  const known = map.entries();
  const size = map.info.keySize;
  // First the new ones, so that no moment lacks one that stays.
  for (const key of wanted) map.update(key, one);
  for (let i = 0; i < known.count; i++) {
    const key = known.keys.slice(i * size, (i + 1) * size);
    if (!wanted.some((other) => other.every((byte, at) => byte === key[at]))) map.delete(key);
  }
}

/** The flows that were read from the map `flows` or `handshakes`, one after the other. */
export function* readFlows(batch: Batch): Generator<TrackedFlow> {
  const keys = new DataView(batch.keys.buffer);
  const values = new DataView(batch.values.buffer);
  for (let i = 0; i < batch.count; i++) {
    yield {
      ...readFlowKey(keys, i * FLOW_KEY.size),
      ...readFlow(values, i * FLOW.size),
    };
  }
}

/** The counters by name. */
export function readCounters(map: BpfMap): Record<string, number> {
  const sums = map.sums();
  return Object.fromEntries(shadowCounters.map((name, index) => [name, sums[index] ?? 0]));
}
