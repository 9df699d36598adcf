/**
 * Looking for replicas that stand still behind their primary.
 *
 * @module
 */
import { FLOW, FLOW_KEY } from "../flow/layout.ts";
import { after, later } from "../flow/sequence.ts";
import type { Batch } from "../../ffi/bpf_map.ts";

/** Bytes that the tap has not shown are reported as a gap; where no report comes, this is waited, in milliseconds. */
const UNREPORTED = 10;
/** A replica may delay its acknowledgement by up to 40 ms; asked, it acknowledges at once. In milliseconds. */
const ASK = 20;
/** One that still lacks bytes then has not got them, in milliseconds. */
const BEHIND = 30;

/** What is to be done about a flow. */
export interface Finding {
  /** The flow's key as text. */
  name: string;
  /** Its number in the batch. */
  index: number;
  /** Ask the replica what it has, or give it what it lacks. */
  what: "ask" | "heal";
  /** The end of what it lacks: a sequence number. */
  to: number;
  /** For how long it has stood still, in milliseconds. */
  age: number;
}

interface Suspect {
  ack: number;
  since: number;
  asked: boolean;
}

const decoder = new TextDecoder("latin1");

/** The key of flow number `index` of a batch as text; as good as the bytes, and fit for a Map. */
export function nameAt({ keys }: Batch, index: number): string {
  return nameOf(keys.subarray(index * FLOW_KEY.size, (index + 1) * FLOW_KEY.size));
}

/** A `struct flow_key` as text. */
export function nameOf(key: Uint8Array): string {
  return decoder.decode(key);
}

/** Remembers which flows stood behind at the last look, and since when. */
export class LagWatch {
  #suspects = new Map<string, Suspect>();

  /**
   * Looks at all flows, at `now` in milliseconds. After the takeover, when `settling`, there is no time to lose, and
   * what the client has sent behind a hole counts as well.
   */
  look(batch: Batch, now: number, settling: boolean): Finding[] {
    const flows = new DataView(batch.values.buffer, batch.values.byteOffset);
    const findings: Finding[] = [];
    const suspects = new Map<string, Suspect>();
    for (let index = 0; index < batch.count; index++) {
      const at = index * FLOW.size;
      const ack = flows.getUint32(at + FLOW.replica_ack, true);
      const primary = flows.getUint32(at + FLOW.primary_ack, true);
      const sent = flows.getUint32(at + FLOW.client_end, true);
      const to = settling ? later(primary, sent) : primary;
      if (!after(to, ack) || flows.getUint8(at + FLOW.replica_reset) !== 0) continue;
      const name = nameAt(batch, index);
      const known = this.#suspects.get(name);
      const suspect = known?.ack === ack ? known : { ack, since: now, asked: false };
      suspects.set(name, suspect);
      const age = now - suspect.since;
      const shown = flows.getUint32(at + FLOW.client_next, true);
      const missed = after(primary, later(shown, ack));
      if (settling ? after(primary, ack) || age >= ASK : age >= (missed ? UNREPORTED : BEHIND)) {
        findings.push({ name, index, what: "heal", to, age });
      } else if (age >= (settling ? 0 : ASK) && !suspect.asked) {
        suspect.asked = true;
        findings.push({ name, index, what: "ask", to, age });
      }
    }
    this.#suspects = suspects;
    return findings;
  }
}
