/**
 * The backup's BPF programs and maps, as TypeScript sees them.
 *
 * @module
 */
import type { Batch, BpfMap } from "../../ffi/bpf_map.ts";
import type { Mapping } from "../../ffi/mapping.ts";
import type { Service } from "../address.ts";
import {
  CONTROL,
  DRAINING,
  FLOW,
  type Flow,
  FLOW_KEY,
  type FlowEnds,
  type Mode,
  readFlow,
  readFlowKey,
  SERVICE_KEY,
  serviceKeys,
  ServiceValue,
  shadowCounters,
  STRANGER,
  TELL_GATEWAY,
} from "../flow/layout.ts";
import { FROZEN } from "../freeze/layout.ts";
import type { InstanceKind } from "../program/instance.ts";

/** Programs and maps of `shadow`. */
export const shadowKind: InstanceKind = {
  name: "shadow",
  object: "shadow.bpf.o",
  everywhere: true,
  valueSizes: {
    control: CONTROL.size,
    services: 4,
    flows: FLOW.size,
    handshakes: FLOW.size,
    strangers: STRANGER.size,
    frozen: FROZEN.size,
    counters: 8,
    events: 0,
    gaps: 0,
  },
};

/** A tracked flow. */
export interface TrackedFlow extends FlowEnds, Flow {}

/** The map `control`, mapped into this process: reading and writing it costs no system call. */
export class Control implements Disposable {
  readonly #mapping: Mapping;
  readonly #mode: Int32Array;
  readonly #view: DataView;
  readonly #frozenUntil: BigInt64Array;

  /** Maps `map`, which must stay open for as long as this object is used. */
  constructor(map: BpfMap) {
    this.#mapping = map.mapValues();
    this.#mode = new Int32Array(this.#mapping.buffer, CONTROL.mode, 1);
    this.#view = new DataView(this.#mapping.buffer);
    this.#frozenUntil = new BigInt64Array(this.#mapping.buffer, CONTROL.frozen_until_ns, 1);
  }

  /** The mode that the programs act by. */
  get mode(): number {
    return Atomics.load(this.#mode, 0);
  }

  /** Lets the programs act by another mode from now on. */
  set mode(mode: Mode) {
    Atomics.store(this.#mode, 0, mode);
  }

  /** Whether the clients were told only what the replicas have acknowledged, as far as this host can know. */
  get committed(): boolean {
    return (this.#view.getUint32(CONTROL.flags, true) & TELL_GATEWAY) !== 0;
  }

  /** Keeps everything of the service from the replica from now on. */
  drain(): void {
    this.#view.setUint32(CONTROL.flags, DRAINING, true);
  }

  /** Sets what does not change while the programs run; `ownIpv4` has four bytes, zeros for none. */
  configure(flags: number, ownIpv4: Uint8Array): void {
    this.#view.setUint32(CONTROL.flags, flags, true);
    new Uint8Array(this.#mapping.buffer, CONTROL.own_ipv4, 4).set(ownIpv4);
  }

  /** Flows that were found unprotected here, rather than by the programs, since these were attached. */
  get foundUnprotected(): number {
    return this.#view.getUint32(CONTROL.found_unprotected, true);
  }

  /** Counts one more of them. */
  countUnprotected(): void {
    this.#view.setUint32(CONTROL.found_unprotected, this.foundUnprotected + 1, true);
  }

  /** Whether the replicas have got, since the takeover, what the recorder knows of. */
  get surveyed(): boolean {
    return this.#view.getUint32(CONTROL.surveyed, true) !== 0;
  }

  set surveyed(surveyed: boolean) {
    this.#view.setUint32(CONTROL.surveyed, surveyed ? 1 : 0, true);
  }

  /** Until when frozen flows are frozen, in nanoseconds of CLOCK_MONOTONIC; 0 for none. */
  get frozenUntil(): bigint {
    return Atomics.load(this.#frozenUntil, 0);
  }

  set frozenUntil(nanoseconds: bigint) {
    Atomics.store(this.#frozenUntil, 0, nanoseconds);
  }

  /** Changes it from one moment to another; false where another process was first. */
  moveFrozenUntil(from: bigint, to: bigint): boolean {
    return Atomics.compareExchange(this.#frozenUntil, 0, from, to) === from;
  }

  /** Unmaps it. */
  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}

/**
 * Makes the map `services` hold exactly `services` and their addresses. Connections to the ports in `join` that began
 * before the shadow may be joined; both their ends are taken to scale windows by `wscale`.
 */
export function writeServices(
  map: BpfMap,
  services: readonly Service[],
  join: readonly number[] = [],
  wscale = 0,
): void {
  const wanted = serviceKeys(services);
  const known = map.entries();
  const size = map.info.keySize;
  // First the new ones, so that no moment lacks one that stays.
  for (const key of wanted) {
    const port = new DataView(key.buffer).getUint16(SERVICE_KEY.port);
    const joined = join.includes(port) ? ServiceValue.JOIN | wscale << ServiceValue.WSCALE : 0;
    const value = new Uint32Array([ServiceValue.KNOWN | joined]);
    map.update(key, new Uint8Array(value.buffer));
  }
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
