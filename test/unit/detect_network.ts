/**
 * A network without sockets on a virtual clock, for one detector; what it prints is collected.
 *
 * @module
 */
import type { Datagram, UdpAddress } from "../../ffi/udp.ts";
import type { Authenticator } from "../../lib/bfd/authentication.ts";
import { type ControlPacket, decode, emptyPacket, encode } from "../../lib/bfd/packet.ts";
import { Session, type SessionOptions } from "../../lib/bfd/session.ts";
import { Detector, type DetectorOptions } from "../../lib/detect/detector.ts";
import { addressBytes, type Network, type Sender } from "../../lib/detect/network.ts";
import { Emitter, type Event } from "../../lib/event.ts";
import { NdjsonWriter } from "../../lib/ndjson.ts";
import { seeded } from "./bfd_link.ts";

export const PEER = "192.0.2.2";

export function udpAddress(address: string): UdpAddress {
  return { address: addressBytes(address), port: 49152, scopeId: 0 };
}

/** A host on the network, with one BFD session of its own. */
export interface Host {
  session: Session;
  received: ControlPacket[];
}

export class VirtualNetwork implements Network {
  now = 1_000_000;
  /** Nothing passes while set. */
  cut = false;
  /** How much later than asked the detector wakes. */
  oversleep = 0;
  /** Senders that are open. */
  senders = 0;
  closed = false;
  readonly queue: Datagram[] = [];
  readonly hosts: Map<string, Host> = new Map();
  #plan: { at: number; act: () => void }[] = [];
  #woken = false;

  /** Puts a host with a session on the network. */
  host(address: string, options: Partial<SessionOptions> = {}): Host {
    const received: ControlPacket[] = [];
    const session = new Session({
      localDiscr: 7,
      role: "passive",
      desiredMinTxInterval: 50_000,
      requiredMinRxInterval: 50_000,
      detectMult: 3,
      random: seeded(3),
      send: (packet) => this.inject(signed(packet, options.authenticator), address),
      ...options,
    });
    const host = { session, received };
    this.hosts.set(address, host);
    return host;
  }

  /** Lets a datagram arrive at the detector. */
  inject(content: ControlPacket | Uint8Array, from: string, fields: Partial<Datagram> = {}): void {
    if (this.cut) return;
    let bytes = new Uint8Array(64);
    if (content instanceof Uint8Array) bytes = content.slice();
    else bytes = bytes.subarray(0, encode(content, bytes));
    this.queue.push({
      bytes,
      truncated: false,
      source: udpAddress(from),
      destination: addressBytes("192.0.2.1"),
      ttl: 255,
      interfaceIndex: 1,
      ...fields,
    });
  }

  /** Calls `act` at `micros` after the start. */
  at(micros: number, act: () => void): void {
    this.#plan.push({ at: 1_000_000 + micros, act });
  }

  receive(): Datagram | undefined {
    return this.queue.shift();
  }

  connect(peer: UdpAddress): Sender {
    this.senders++;
    const host = this.hosts.get([...peer.address].join("."));
    return {
      send: (bytes) => {
        const packet = emptyPacket();
        if (this.cut || host === undefined) return true;
        const reason = decode(bytes, packet);
        if (reason !== undefined) throw new Error(`Sent a packet that is discarded: ${reason}`);
        host.received.push({ ...packet });
        host.session.receive(packet, this.now, bytes);
        return true;
      },
      close: () => void this.senders--,
    };
  }

  async wait(micros: number, resting = this.oversleep > 0): Promise<void> {
    // Other tasks, such as the writer's, have their turn.
    await Promise.resolve();
    const end = Math.max(this.now, Math.min(this.now + micros, this.now + 250_000)) +
      this.oversleep;
    while (this.now < end && !this.#woken && (this.queue.length === 0 || resting)) {
      const planned = Math.min(...this.#plan.map(({ at }) => at));
      let next = Math.min(end, planned);
      for (const { session } of this.hosts.values()) next = Math.min(next, session.nextDeadline());
      this.now = Math.max(this.now, next);
      const due = this.#plan.filter(({ at }) => at <= this.now);
      this.#plan = this.#plan.filter(({ at }) => at > this.now);
      for (const { act } of due) act();
      // What waits for it, such as a probe's attempt, goes on.
      if (due.length > 0) { for (let i = 0; i < 8; i++) await Promise.resolve(); }
      for (const { session } of this.hosts.values()) session.tick(this.now);
    }
    this.#woken = false;
  }

  rest(micros: number): Promise<void> {
    return this.wait(micros, true);
  }

  wake(): void {
    this.#woken = true;
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

function signed(packet: ControlPacket, authenticator?: Authenticator): Uint8Array {
  const bytes = new Uint8Array(64);
  const length = encode(packet, bytes);
  return bytes.subarray(0, authenticator?.sign(bytes, length) ?? length);
}

/** Runs a detector for `micros` of virtual time, and returns what it printed. */
export async function run(
  network: VirtualNetwork,
  micros: number,
  options: Partial<DetectorOptions>,
  prepare: (detector: Detector) => void = (detector) =>
    detector.watch(udpAddress(PEER), PEER, "primary", 1.5),
): Promise<Event[]> {
  const lines: Uint8Array[] = [];
  const writer = new NdjsonWriter({
    write(bytes) {
      lines.push(bytes.slice());
      return Promise.resolve(bytes.length);
    },
  });
  const emitter = new Emitter("detect", writer, "test");
  const stop = new AbortController();
  const detector = new Detector({
    network,
    emitter,
    stop: stop.signal,
    clock: () => network.now,
    random: seeded(5),
    timers: { desiredMinTxInterval: 50_000, requiredMinRxInterval: 50_000, detectMult: 3 },
    ...options,
  });
  prepare(detector);
  network.at(micros, () => stop.abort());
  await detector.run();
  await emitter.close();
  const text = new TextDecoder().decode(await new Blob(lines as Uint8Array<ArrayBuffer>[]).bytes());
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Event);
}
