/**
 * Telling the recorder what the replicas have acknowledged, and adding up what flowed.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { FLOW, FLOW_KEY, type FlowEnds, readFlowKey } from "../flow/layout.ts";
import { after } from "../flow/sequence.ts";
import { nameAt } from "./watch.ts";

/** Flows of one message: its line must stay short. */
const MAX_FLOWS = 400;
/** A flow that has not moved for this long has said its last, in nanoseconds. */
const QUIET = 2e9;

/** What flowed since the start, as far as the looks saw it, in bytes of the clients. */
export interface Flowed {
  /** Sent by the clients. */
  seen_bytes: number;
  /** Acknowledged by the primary. */
  acknowledged_bytes: number;
  /** Acknowledged by the replicas. */
  delivered_bytes: number;
}

type Entry = "seen" | "acknowledged" | "delivered";
const ENTRIES: readonly Entry[] = ["seen", "acknowledged", "delivered"];
const OFFSETS: Readonly<Record<Entry, number>> = {
  seen: FLOW.client_end,
  acknowledged: FLOW.primary_ack,
  delivered: FLOW.replica_ack,
};

interface Known {
  irs: number;
  seen: number;
  acknowledged: number;
  delivered: number;
  told: number;
}

/** What is to be told of one flow. */
export type Told = FlowEnds & { upto: number };

/** See the module. */
export class Acknowledgements {
  /** In total. */
  readonly flowed: Flowed = { seen_bytes: 0, acknowledged_bytes: 0, delivered_bytes: 0 };
  #known = new Map<string, Known>();
  #round = 0;

  /**
   * Looks at the flows that have moved lately, at `ns` of CLOCK_MONOTONIC; returns what the recorder does not know, in
   * messages.
   */
  collect(batch: Batch, ns: number): Told[][] {
    const keys = new DataView(batch.keys.buffer, batch.keys.byteOffset);
    const flows = new DataView(batch.values.buffer, batch.values.byteOffset);
    const told: Told[] = [];
    const oldest = BigInt(Math.floor(ns - QUIET));
    this.#round += 1;
    for (let index = 0; index < batch.count; index++) {
      const at = index * FLOW.size;
      if (flows.getBigUint64(at + FLOW.seen_ns, true) < oldest) continue;
      const known = this.#follow(nameAt(batch, index), flows, at);
      if (known.told === known.delivered) continue;
      known.told = known.delivered;
      told.push({ ...readFlowKey(keys, index * FLOW_KEY.size), upto: known.delivered });
    }
    if (this.#round % 64 === 0) this.#forget(batch);
    const messages: Told[][] = [];
    for (let i = 0; i < told.length; i += MAX_FLOWS) messages.push(told.slice(i, i + MAX_FLOWS));
    return messages;
  }

  /** Begins anew with what the recorder is told: it does not know any more. */
  repeat(): void {
    for (const known of this.#known.values()) known.told = (known.delivered - 1) >>> 0;
  }

  #follow(name: string, flows: DataView, at: number): Known {
    const irs = flows.getUint32(at + FLOW.irs, true);
    let known = this.#known.get(name);
    if (known === undefined || known.irs !== irs) {
      const first = (irs + 1) >>> 0;
      known = { irs, seen: first, acknowledged: first, delivered: first, told: first };
      this.#known.set(name, known);
      // A flow that is older than this command may have come round more than half of the numbers.
      for (const entry of ENTRIES) this.#rise(known, entry, flows, at, true);
    }
    for (const entry of ENTRIES) this.#rise(known, entry, flows, at, false);
    return known;
  }

  #rise(known: Known, entry: Entry, flows: DataView, at: number, any: boolean): void {
    const value = flows.getUint32(at + OFFSETS[entry], true);
    if (!any && !after(value, known[entry])) return;
    this.flowed[`${entry}_bytes`] += (value - known[entry]) >>> 0;
    known[entry] = value;
  }

  /** Forgets who is not in the map any more. */
  #forget(batch: Batch): void {
    const names = new Set<string>();
    for (let index = 0; index < batch.count; index++) names.add(nameAt(batch, index));
    for (const name of this.#known.keys()) {
      if (!names.has(name)) this.#known.delete(name);
    }
  }
}
