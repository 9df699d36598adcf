/**
 * Takeover: from shadow mode to active mode, in one round trip for every flow.
 *
 * @module
 */
import type { Batch, BpfMap } from "../../ffi/bpf_map.ts";
import { Injector } from "../../ffi/libpcap.ts";
import { familyOf, parseMac, parseService, to16Bytes } from "../address.ts";
import { formatTime, nowMicros } from "../clock.ts";
import type { ActiveFields } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { after, FLOW, FLOW_KEY, MARK_INJECTED, Mode } from "../flow/layout.ts";
import { openPinnedMaps } from "../program/instance.ts";
import { readRecord } from "../program/run_dir.ts";
import { Control, shadowKind } from "../shadow/programs.ts";
import { arpAnnouncement, neighbourAdvertisement, nobodysFrame, WakeFrames } from "./frames.ts";

/** How often the code of the event runs before it; enough for V8 to compile it. */
const REHEARSALS = 200;

/** What is ready before the event comes: maps, sockets, frames. */
export class Takeover implements Disposable {
  /** The interface that speaks after the takeover. */
  readonly interface: string;
  /** The services, as the user wrote them. */
  readonly services: string[];
  /** The service addresses. */
  readonly addresses: readonly string[];
  readonly #maps: Map<string, BpfMap>;
  readonly #control: Control;
  #batch: Batch;
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
    this.#control = new Control(this.map("control"));
    this.#batch = this.map("flows").entries();
    this.#wire = wire;
    this.#inward = inward;
    const mac = macOf(record.interface);
    this.#announcements = this.addresses.flatMap((address) => announcements(address, mac));
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
    return this.#control.mode;
  }

  /** Lets go of all flows: from now on no program looks after them. */
  finish(): void {
    this.#control.mode = Mode.ACTIVE;
  }

  /**
   * Enters active mode, announces the addresses and wakes every flow. `trigger` is the time of the event that asked
   * for it, in microseconds since the epoch. A second call finds the host active and wakes the flows again.
   */
  activate(trigger: number = nowMicros()): ActiveFields {
    const start = performance.now();
    const elapsed = (): number => Math.round((performance.now() - start) * 1000) / 1000;
    const steps: Record<string, number> = {};
    if (this.mode !== Mode.ACTIVE) this.#control.mode = Mode.SETTLING;
    steps["active_mode"] = elapsed();
    // The replicas' segments find their way to the clients before the announcement too.
    const { woken, lost } = this.wake();
    steps["woken"] = elapsed();
    this.announce();
    steps["announced"] = elapsed();
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
    const batch = this.#batch = this.map("flows").entries(this.#batch);
    const keys = new DataView(batch.keys.buffer);
    const flows = new DataView(batch.values.buffer);
    const result = { woken: 0, lost: 0 };
    for (let i = 0; i < batch.count; i++) {
      const at = i * FLOW.size;
      if (flows.getUint8(at + FLOW.replica_reset) !== 0) {
        result.lost += 1;
        continue;
      }
      this.#wakeFlow(keys, i * FLOW_KEY.size, flows, at, (frame) => this.#inward.send(frame));
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

  /** Closes maps and sockets; the takeover stands. */
  [Symbol.dispose](): void {
    this.#control[Symbol.dispose]();
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    this.#wire[Symbol.dispose]();
    this.#inward[Symbol.dispose]();
  }

  #wakeFlow(
    keys: DataView,
    keyAt: number,
    flows: DataView,
    at: number,
    send: (frame: Uint8Array<ArrayBuffer>) => void,
  ): void {
    const clientAck = flows.getUint32(at + FLOW.client_ack, true);
    const replicaEnd = flows.getUint32(at + FLOW.replica_end, true);
    const ack = after(clientAck, replicaEnd) ? replicaEnd : clientAck;
    const window = flows.getUint16(at + FLOW.client_window, true);
    // The highest sequence number: the replica takes windows from no older segment (RFC 9293 section 3.10.7.4).
    const seq = flows.getUint32(at + FLOW.client_end, true);
    send(this.#frames.build(keys, keyAt, flows, at, { seq, ack, window }));
    const old = (flows.getUint32(at + FLOW.replica_ack, true) - 1) >>> 0;
    send(this.#frames.build(keys, keyAt, flows, at, { seq: old, ack, window }));
  }

  /** Runs the code of the event on made-up flows, so that it is compiled when the event comes. */
  #rehearse(): void {
    const keys = new DataView(new ArrayBuffer(FLOW_KEY.size));
    const flows = new DataView(new ArrayBuffer(FLOW.size));
    const nothing = nobodysFrame();
    for (let i = 0; i < REHEARSALS; i++) {
      this.#wakeFlow(keys, 0, flows, 0, () => this.#inward.send(nothing));
      this.#batch = this.map("flows").entries(this.#batch);
    }
  }
}

/** What tells the neighbours that `address` is at `mac`. */
function announcements(address: string, mac: Uint8Array): Uint8Array<ArrayBuffer>[] {
  const bytes = to16Bytes(address);
  if (familyOf(address) === 6) return [neighbourAdvertisement(bytes, mac)];
  const ipv4 = bytes.subarray(12);
  return [arpAnnouncement("request", ipv4, mac), arpAnnouncement("reply", ipv4, mac)];
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
