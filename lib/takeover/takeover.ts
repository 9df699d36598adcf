/**
 * Takeover: from shadow mode to active mode, in one round trip for every flow.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { Injector } from "../../ffi/libpcap.ts";
import { familyOf, parseMac, parseService, to16Bytes } from "../address.ts";
import { formatTime, nowMicros } from "../clock.ts";
import type { ActiveFields } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { after, FLOW, FLOW_KEY, MARK_INJECTED, Mode } from "../flow/layout.ts";
import { openPinnedMaps } from "../program/instance.ts";
import { readRecord } from "../program/run_dir.ts";
import { readControl, setMode, shadowKind } from "../shadow/programs.ts";
import { arpAnnouncement, WakeFrames } from "./frames.ts";

/** What a takeover did: the fields of its `active` event. */
export type Activation = ActiveFields & {
  /** When the event came that asked for it. */
  trigger: string;
  /** The services, as the user wrote them. */
  services: readonly string[];
  /** Flows that the replica had lost before, which are reset now. */
  flows_lost: number;
};

/** What is ready before the event comes: maps, sockets, frames. */
export class Takeover implements Disposable {
  /** The interface that speaks after the takeover. */
  readonly interface: string;
  /** The services, as the user wrote them. */
  readonly services: readonly string[];
  /** The service addresses. */
  readonly addresses: readonly string[];
  readonly #maps: Map<string, BpfMap>;
  readonly #wire: Injector;
  readonly #inward: Injector;
  readonly #announcements: Uint8Array<ArrayBuffer>[];
  readonly #frames = new WakeFrames();

  private constructor(
    record: { interface: string; services: string[] },
    maps: Map<string, BpfMap>,
    wire: Injector,
    inward: Injector,
  ) {
    this.interface = record.interface;
    this.services = record.services;
    this.addresses = [...new Set(record.services.map((text) => parseService(text).address))];
    this.#maps = maps;
    this.#wire = wire;
    this.#inward = inward;
    const mac = macOf(record.interface);
    this.#announcements = this.addresses.filter((address) => familyOf(address) === 4).flatMap(
      (address) => {
        const bytes = to16Bytes(address).subarray(12);
        return [arpAnnouncement("request", bytes, mac), arpAnnouncement("reply", bytes, mac)];
      },
    );
  }

  /**
   * Opens what `shadow` pinned under `runDir`, and does all that can be done before the event.
   *
   * @throws {Failure} with status UNAVAILABLE where no shadow was started there
   */
  static prepare(runDir: string): Takeover {
    const record = readRecord(runDir, "shadow");
    const maps = record === undefined ? undefined : openPinnedMaps(shadowKind, runDir);
    if (record === undefined || maps === undefined) {
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `No shadow was started in run directory "${runDir}"`,
        {
          mend: "start t2cp shadow first, or name its directory with --run-dir",
        },
      );
    }
    const opened: Disposable[] = [...maps.values()];
    try {
      const wire = new Injector(record.interface);
      opened.push(wire);
      const inward = new Injector(record.interface, MARK_INJECTED);
      opened.push(inward);
      const takeover = new Takeover(record, maps, wire, inward);
      takeover.#rehearse();
      return takeover;
    } catch (error) {
      for (const thing of opened) thing[Symbol.dispose]();
      throw error;
    }
  }

  /** The mode that the host is in. */
  get mode(): number {
    return readControl(this.map("control")).mode;
  }

  /**
   * Enters active mode, announces the addresses and wakes every flow. `trigger` is the time of the event that asked
   * for it, in microseconds since the epoch. A second call finds the host active and wakes the flows again.
   */
  activate(trigger: number = nowMicros()): Activation {
    const start = performance.now();
    const elapsed = (): number => Math.round((performance.now() - start) * 1000) / 1000;
    const steps: Record<string, number> = {};
    if (this.mode !== Mode.ACTIVE) setMode(this.map("control"), Mode.SETTLING);
    steps["active_mode"] = elapsed();
    this.announce();
    steps["announced"] = elapsed();
    const { woken, lost } = this.wake();
    steps["woken"] = elapsed();
    return {
      trigger: formatTime(trigger),
      services: this.services,
      flows: woken,
      flows_lost: lost,
      took_ms: elapsed(),
      steps,
    };
  }

  /** Announces the service addresses at this host's MAC address. */
  announce(): void {
    for (const frame of this.#announcements) this.#wire.send(frame);
  }

  /**
   * Wakes every flow from both ends: the client's acknowledgement with its real window starts a replica that waits to
   * send; a segment with an old sequence number makes the replica acknowledge, which starts a client that waits.
   * Returns how many flows there were, and how many the replica had lost before.
   */
  wake(): { woken: number; lost: number } {
    const batch = this.map("flows").entries();
    const keys = new DataView(batch.keys.buffer);
    const flows = new DataView(batch.values.buffer);
    const result = { woken: 0, lost: 0 };
    for (let i = 0; i < batch.count; i++) {
      const at = i * FLOW.size;
      if (flows.getUint8(at + FLOW.replica_reset) !== 0) {
        result.lost += 1;
        continue;
      }
      const key = i * FLOW_KEY.size;
      const clientAck = flows.getUint32(at + FLOW.client_ack, true);
      const replicaEnd = flows.getUint32(at + FLOW.replica_end, true);
      const ack = after(clientAck, replicaEnd) ? replicaEnd : clientAck;
      const window = flows.getUint16(at + FLOW.client_window, true);
      // The highest sequence number: the replica takes windows from no older segment (RFC 9293 section 3.10.7.4).
      const seq = flows.getUint32(at + FLOW.client_end, true);
      this.#inward.send(this.#frames.build(keys, key, flows, at, { seq, ack, window }));
      const old = (flows.getUint32(at + FLOW.replica_ack, true) - 1) >>> 0;
      this.#inward.send(this.#frames.build(keys, key, flows, at, { seq: old, ack, window }));
      result.woken += 1;
    }
    return result;
  }

  /** The map `name` of the shadow. */
  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new TypeError(`Map "${name}" is not open`);
    return map;
  }

  [Symbol.dispose](): void {
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    this.#wire[Symbol.dispose]();
    this.#inward[Symbol.dispose]();
  }

  /** Runs the code of the event on made-up flows, so that it is compiled when the event comes. */
  #rehearse(): void {
    const keys = new DataView(new ArrayBuffer(FLOW_KEY.size));
    const flows = new DataView(new ArrayBuffer(FLOW.size));
    for (let i = 0; i < 200; i++) {
      this.#frames.build(keys, 0, flows, 0, { seq: i, ack: i, window: i });
    }
    this.map("flows").entries();
  }
}

function macOf(interfaceName: string): Uint8Array<ArrayBuffer> {
  const found = Deno.networkInterfaces().find(({ name }) => name === interfaceName);
  if (found === undefined) {
    throw new Failure(ExitStatus.NO_INPUT, `Interface "${interfaceName}" has no address`, {
      mend: `see ip address show dev ${interfaceName}`,
    });
  }
  return parseMac(found.mac);
}
