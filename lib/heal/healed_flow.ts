/**
 * The flows of a shadow with what was healed and lost of each.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { FLOW, FLOW_KEY, readFlowKey } from "../flow/layout.ts";
import { type FlowAccount, type Ledger, newAccount } from "./ledger.ts";

/** A flow as the control socket shows it; numbers of bytes modulo 4 GiB. */
export interface HealedFlow extends FlowAccount {
  /** Bytes that the client has sent, as the tap showed. */
  seen_bytes: number;
  /** Bytes of them that the primary has acknowledged. */
  acknowledged_bytes: number;
  /** Bytes of them that the replica has acknowledged. */
  delivered_bytes: number;
}

/** The flows of the map `flows`, then those that have gone and of which bytes are lost. */
export function* healedFlows(batch: Batch, ledger: Ledger): Generator<HealedFlow> {
  const keys = new DataView(batch.keys.buffer);
  const flows = new DataView(batch.values.buffer);
  const known = new Set<FlowAccount>();
  for (let i = 0; i < batch.count; i++) {
    const ends = readFlowKey(keys, i * FLOW_KEY.size);
    const account = ledger.find(ends) ?? { ...ends, ...newAccount() };
    const first = (flows.getUint32(i * FLOW.size + FLOW.irs, true) + 1) >>> 0;
    const since = (offset: number): number =>
      (flows.getUint32(i * FLOW.size + offset, true) - first) >>> 0;
    known.add(account);
    yield {
      ...account,
      seen_bytes: since(FLOW.client_end),
      acknowledged_bytes: since(FLOW.primary_ack),
      delivered_bytes: since(FLOW.replica_ack),
    };
  }
  for (const account of ledger.accounts) {
    if (known.has(account) || account.lost_bytes === 0) continue;
    yield { ...account, seen_bytes: 0, acknowledged_bytes: 0, delivered_bytes: 0 };
  }
}
