/**
 * The user space of `mirror --commit`: it looks for clients that have waited for the backup too long.
 *
 * The programs decide and act by themselves, at the primary's next segment of a flow. This makes it send one: it gets a
 * segment with a byte that it has long had, which every host acknowledges once more (RFC 9293 section 3.10.7.4). A
 * primary that has failed does not, and its client goes on waiting, for the takeover.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { Injector, PcapError } from "../../ffi/libpcap.ts";
import type { Emitter } from "../event.ts";
import { FLOW_KEY, MARK_COMMIT } from "../flow/layout.ts";
import { COMMIT, HEARING } from "./layout.ts";
import type { Instance } from "../program/instance.ts";
import { Flag, segmentFrame } from "./frame.ts";
import { repeat } from "../program/repeat.ts";

/** Between two looks, as a part of the timeout, and the bounds of it in milliseconds. */
const LOOKS_PER_TIMEOUT = 4;
const SHORTEST = 10;
const LONGEST = 250;
/** Probes of one look; the others wait for the next. */
const MAX_PROBES = 4096;
/** SILENT_SHIFT of ffi/bpf/commit.h. */
const SILENT_SHIFT = 4;

/** A flow as the map `commits` has it: its `struct flow_key` at `keyAt` in `keys`, its `struct commit` at `at`. */
export interface CommitPlace {
  /** Flow keys, one behind the other. */
  keys: DataView;
  /** Offset of the flow's key. */
  keyAt: number;
  /** What is known of the flows, one behind the other. */
  values: DataView;
  /** Offset of what is known of the flow. */
  at: number;
}

/**
 * The segment that makes the primary acknowledge: the client's, with one old byte, and with an acknowledgement that says
 * nothing. `macs` are those of the primary and of the gateway. Even a replica that got it would have the byte already.
 */
export function probeFrame(
  { keys, keyAt, values, at }: CommitPlace,
  macs: { primary: Uint8Array; own: Uint8Array },
): Uint8Array<ArrayBuffer> {
  return segmentFrame(keys, keyAt, {
    source: macs.own,
    destination: macs.primary,
    toClient: false,
    // Two before what the client was told, so that the byte is old for sure; the acknowledgement is the handshake's.
    seq: values.getUint32(at + COMMIT.told_ack, true) - 2,
    ack: values.getUint32(at + COMMIT.iss, true) + 1,
    flags: Flag.ACK,
    payload: 1,
  });
}

/** See the module. */
export class CommitWatch implements Disposable {
  readonly #instance: Instance;
  readonly #emitter: Emitter;
  readonly #macs: { primary: Uint8Array; own: Uint8Array };
  readonly #timeout: number;
  readonly #injector: Injector;
  readonly #hearing: Uint8Array<ArrayBuffer> = new Uint8Array(HEARING.size);
  #batch: Batch | undefined;
  #silent = false;
  #looking: Disposable | undefined;

  /**
   * Looks after the flows of `instance`; `macs` are the addresses of the primary and of its interface, `timeout` the
   * one that its programs have, in milliseconds.
   *
   * @throws {PcapError} where frames cannot be sent on the interface
   */
  constructor(
    instance: Instance,
    emitter: Emitter,
    macs: { primary: Uint8Array; own: Uint8Array },
    timeout: number,
  ) {
    this.#instance = instance;
    this.#emitter = emitter;
    this.#macs = macs;
    this.#timeout = timeout;
    this.#injector = new Injector(instance.interface, MARK_COMMIT);
  }

  /** Looks again and again, until this is disposed of. */
  start(): void {
    const pause = Math.min(LONGEST, Math.max(SHORTEST, this.#timeout / LOOKS_PER_TIMEOUT));
    this.#looking = repeat(() => this.look(), pause);
  }

  /** Looks once. */
  look(): void {
    const silent = this.#isSilent();
    const patience = silent ? this.#timeout / (1 << SILENT_SHIFT) : this.#timeout;
    const overdue = BigInt(Math.round((monotonicMicros() - patience * 1000) * 1000));
    const batch = this.#batch = this.#instance.map("commits").entries(this.#batch);
    const keys = new DataView(batch.keys.buffer);
    const values = new DataView(batch.values.buffer);
    let probes = 0;
    for (let i = 0; i < batch.count && probes < MAX_PROBES; i++) {
      const at = i * COMMIT.size;
      const since = values.getBigUint64(at + COMMIT.waiting_ns, true);
      if (since === 0n || since > overdue) continue;
      this.#probe({ keys, keyAt: i * FLOW_KEY.size, values, at });
      probes += 1;
    }
    this.#tell(silent);
  }

  #probe(place: CommitPlace): void {
    try {
      this.#injector.send(probeFrame(place, this.#macs));
    } catch (error) {
      // The next look tries again; a link that is down has told the clients worse already.
      if (!(error instanceof PcapError)) throw error;
    }
  }

  #isSilent(): boolean {
    this.#instance.map("hearing").lookup(new Uint8Array(4), this.#hearing);
    return new DataView(this.#hearing.buffer).getUint32(HEARING.silent, true) !== 0;
  }

  #tell(silent: boolean): void {
    if (silent && !this.#silent) {
      this.#emitter.emit("warning", {
        message: `Nothing is heard from the backup: flows go on unprotected; see that ` +
          `"t2cp shadow --commit" runs there`,
      });
    }
    this.#silent = silent;
  }

  /** Ends the looking. */
  [Symbol.dispose](): void {
    this.#looking?.[Symbol.dispose]();
    this.#injector[Symbol.dispose]();
  }
}
