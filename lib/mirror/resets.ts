/**
 * The user space of `mirror --hold-resets`: it sends the primary's resets on their way when they were held back for long
 * enough. The programs decide then whether they may go: see ffi/bpf/reset.h.
 *
 * @module
 */
import { monotonicMicros } from "../../ffi/clock.ts";
import { Injector, PcapError } from "../../ffi/libpcap.ts";
import type { Mapping } from "../../ffi/mapping.ts";
import { FLOW_KEY } from "../flow/layout.ts";
import { MARK_RESET, RESET, ResetState, SIGNALS } from "./layout.ts";
import type { Instance } from "../program/instance.ts";
import { Flag, segmentFrame } from "./frame.ts";
import { repeat } from "../program/repeat.ts";

/** Between two looks, as a part of the bound, and the bounds of it in milliseconds. */
const LOOKS_PER_BOUND = 20;
const SHORTEST = 5;
const LONGEST = 25;
/** Resets that one look sends; the others wait for the next. */
const MAX_SENT = 4096;
/** A flow is forgotten this long after its bound, in milliseconds: the client's answer may bring another reset. */
const LINGER = 5000;

/** A flow as the map `resets` has it: its `struct flow_key` at `keyAt` in `keys`, its `struct reset` at `at`. */
export interface ResetPlace {
  /** Flow keys, one behind the other. */
  keys: DataView;
  /** Offset of the flow's key. */
  keyAt: number;
  /** The resets, one behind the other. */
  values: DataView;
  /** Offset of the flow's. */
  at: number;
}

/** The reset as the primary sent it; `macs` are those of the primary and of the gateway. */
export function resetFrame(
  { keys, keyAt, values, at }: ResetPlace,
  macs: { primary: Uint8Array; own: Uint8Array },
): Uint8Array<ArrayBuffer> {
  return segmentFrame(keys, keyAt, {
    source: macs.primary,
    destination: macs.own,
    toClient: true,
    seq: values.getUint32(at + RESET.seq, true),
    ack: values.getUint32(at + RESET.ack, true),
    flags: values.getUint8(at + RESET.flags) & (Flag.RST | Flag.ACK),
    payload: 0,
  });
}

/** See the module. */
export class HeldResets implements Disposable {
  readonly #instance: Instance;
  readonly #macs: { primary: Uint8Array; own: Uint8Array };
  readonly #bound: number;
  readonly #injector: Injector;
  readonly #mapping: Mapping;
  readonly #noted: BigUint64Array;
  #known: bigint | undefined;
  #looking: Disposable | undefined;

  /**
   * Looks after the resets of `instance`; `macs` are the addresses of the primary and of the interface, `bound` is for
   * how many milliseconds they are held back, 0 for not at all.
   *
   * @throws {PcapError} where frames cannot be sent on the interface
   */
  constructor(
    instance: Instance,
    macs: { primary: Uint8Array; own: Uint8Array },
    bound: number,
  ) {
    this.#instance = instance;
    this.#macs = macs;
    this.#bound = bound;
    this.#mapping = instance.map("signals").mapValues();
    this.#noted = new BigUint64Array(this.#mapping.buffer, SIGNALS.resets_noted, 1);
    try {
      this.#injector = new Injector(instance.interface, MARK_RESET);
    } catch (error) {
      this.#mapping[Symbol.dispose]();
      throw error;
    }
  }

  /** Looks again and again, until this is disposed of. */
  start(): void {
    const pause = Math.min(LONGEST, Math.max(SHORTEST, this.#bound / LOOKS_PER_BOUND));
    this.#looking = repeat(() => this.look(), pause);
  }

  /** Sends what is due, and forgets what has long been. Without a new reset since all was forgotten it costs nothing. */
  look(): void {
    const noted = Atomics.load(this.#noted, 0);
    if (noted !== this.#known && this.#pass(this.#bound) === 0) this.#known = noted;
  }

  /** Sends all that is held back, for nobody will do it later. */
  end(): void {
    this.#pass(0);
  }

  /** Sends what was held back for `bound` milliseconds. Returns how many flows are known still. */
  #pass(bound: number): number {
    const map = this.#instance.map("resets");
    const now = monotonicMicros();
    const old: Uint8Array<ArrayBuffer>[] = [];
    let known = 0, sent = 0;
    for (const { count, keys, values } of map.pieces()) {
      const place = { keys: new DataView(keys.buffer), values: new DataView(values.buffer) };
      for (let i = 0; i < count; i++) {
        const at = i * RESET.size, keyAt = i * FLOW_KEY.size;
        const age = now - Number(place.values.getBigUint64(at + RESET.since_ns, true)) / 1000;
        const held = values[at + RESET.state] === ResetState.HELD;
        known += 1;
        if (held && age >= bound * 1000 && sent < MAX_SENT) {
          this.#send(resetFrame({ ...place, keyAt, at }, this.#macs));
          sent += 1;
        } else if (!held && age > (this.#bound + LINGER) * 1000) {
          old.push(keys.slice(keyAt, keyAt + FLOW_KEY.size));
        }
      }
    }
    for (const key of old) if (map.delete(key)) known -= 1;
    return known;
  }

  #send(frame: Uint8Array<ArrayBuffer>): void {
    try {
      this.#injector.send(frame);
    } catch (error) {
      // It is held still, and the next look tries again.
      if (!(error instanceof PcapError)) throw error;
    }
  }

  /** Ends the looking. */
  [Symbol.dispose](): void {
    this.#looking?.[Symbol.dispose]();
    this.#injector[Symbol.dispose]();
    this.#mapping[Symbol.dispose]();
  }
}
