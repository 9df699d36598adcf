/**
 * The user space of `mirror --commit`: it looks for clients that have waited for the backup too long.
 *
 * The programs decide and act by themselves, at the next segment of a flow. This is for flows that have none: their
 * programs get a reminder, a frame that becomes the acknowledgement the client waits for.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { Injector, PcapError } from "../../ffi/libpcap.ts";
import type { Emitter } from "../event.ts";
import { COMMIT, ETHERTYPE_COMMIT, FLOW_KEY, HEARING, MARK_COMMIT } from "../flow/layout.ts";
import type { Instance } from "../program/instance.ts";

/** Between two looks, as a part of the timeout, and the bounds of it in milliseconds. */
const LOOKS_PER_TIMEOUT = 4;
const SHORTEST = 10;
const LONGEST = 250;
/** A look may take this part of the time at most. */
const SHARE = 0.05;
/** Reminders of one look; the others wait for the next. */
const MAX_REMINDERS = 4096;
/** SILENT_SHIFT of ffi/bpf/commit.h. */
const SILENT_SHIFT = 4;

const ETHERNET = 14;
const TCP = 20;

/**
 * The reminder for the flow whose `struct flow_key` stands in `keys` at `at`: a commit frame of this host's own, whose
 * headers name the flow and tell nothing else. `mac` is the interface's own address.
 */
export function reminderFrame(
  keys: DataView,
  at: number,
  mac: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const bytes = (from: number, length: number): Uint8Array =>
    new Uint8Array(keys.buffer, keys.byteOffset + at + from, length);
  const mapped = keys.getUint32(at) === 0 && keys.getUint32(at + 4) === 0 &&
    keys.getUint32(at + 8) === 0xffff;
  const ip = mapped ? 20 : 40;
  const frame = new Uint8Array(ETHERNET + ip + TCP);
  const view = new DataView(frame.buffer);
  frame.set(mac, 0);
  frame.set(mac, 6);
  view.setUint16(12, ETHERTYPE_COMMIT);
  if (mapped) {
    frame.set([0x45, 0, 0, ip + TCP, 0, 0, 0x40, 0, 64, 6], ETHERNET);
    frame.set(bytes(FLOW_KEY.server + 12, 4), ETHERNET + 12);
    frame.set(bytes(FLOW_KEY.client + 12, 4), ETHERNET + 16);
  } else {
    frame.set([0x60, 0, 0, 0, 0, TCP, 6, 64], ETHERNET);
    frame.set(bytes(FLOW_KEY.server, 16), ETHERNET + 8);
    frame.set(bytes(FLOW_KEY.client, 16), ETHERNET + 24);
  }
  frame.set(bytes(FLOW_KEY.server_port, 2), ETHERNET + ip);
  frame.set(bytes(FLOW_KEY.client_port, 2), ETHERNET + ip + 2);
  frame[ETHERNET + ip + 12] = TCP / 4 << 4;
  return frame;
}

/** See the module. */
export class CommitWatch implements Disposable {
  readonly #instance: Instance;
  readonly #emitter: Emitter;
  readonly #mac: Uint8Array;
  readonly #timeout: number;
  readonly #injector: Injector;
  readonly #hearing: Uint8Array<ArrayBuffer> = new Uint8Array(HEARING.size);
  #batch: Batch | undefined;
  #silent = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Looks after the flows of `instance`; `mac` is the address of its interface, `timeout` the one that its programs
   * have, in milliseconds.
   *
   * @throws {PcapError} where frames cannot be sent on the interface
   */
  constructor(instance: Instance, emitter: Emitter, mac: Uint8Array, timeout: number) {
    this.#instance = instance;
    this.#emitter = emitter;
    this.#mac = mac;
    this.#timeout = timeout;
    this.#injector = new Injector(instance.interface, MARK_COMMIT);
  }

  /** Looks again and again, until this is disposed of. */
  start(): void {
    const pause = Math.min(LONGEST, Math.max(SHORTEST, this.#timeout / LOOKS_PER_TIMEOUT));
    const look = (): void => {
      const start = performance.now();
      this.look();
      const took = performance.now() - start;
      this.#timer = setTimeout(look, Math.max(pause, took / SHARE));
    };
    this.#timer = setTimeout(look, pause);
  }

  /** Looks once. */
  look(): void {
    const silent = this.#isSilent();
    const patience = silent ? this.#timeout / (1 << SILENT_SHIFT) : this.#timeout;
    const overdue = BigInt(Math.round((monotonicMicros() - patience * 1000) * 1000));
    const batch = this.#batch = this.#instance.map("commits").entries(this.#batch);
    const keys = new DataView(batch.keys.buffer);
    const values = new DataView(batch.values.buffer);
    let reminders = 0;
    for (let i = 0; i < batch.count && reminders < MAX_REMINDERS; i++) {
      const since = values.getBigUint64(i * COMMIT.size + COMMIT.waiting_ns, true);
      if (since === 0n || since > overdue) continue;
      this.#remind(keys, i * FLOW_KEY.size);
      reminders += 1;
    }
    // The reminders of this look may have found out.
    this.#tell(this.#isSilent());
  }

  #remind(keys: DataView, at: number): void {
    try {
      this.#injector.send(reminderFrame(keys, at, this.#mac));
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
    clearTimeout(this.#timer);
    this.#injector[Symbol.dispose]();
  }
}
