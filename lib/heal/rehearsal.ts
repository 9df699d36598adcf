/**
 * Healing made-up gaps before there are real ones: code that runs for the first time takes many times as long, and gaps
 * are rare.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { VNET_HEADER } from "../../ffi/packet_socket.ts";
import type { Connection } from "../control.ts";
import { formatTime, nowMicros } from "../clock.ts";
import { parseEvent } from "../event.ts";
import { FLOW, FLOW_KEY, flowKey, Mode } from "../flow/layout.ts";
import { Healer } from "./healer.ts";
import { Injection } from "./injection.ts";
import type { Range } from "./ranges.ts";
import { RecorderClient } from "./recorder_client.ts";

/** How many gaps; enough for V8 to compile the code. */
const GAPS = 200;
/** Bytes of a gap, and of a line of the recorder's answer. */
const GAP = 60_000;
const LINE = 48 * 1024;
const MTU = 1500;
/** Ethernet's and IPv4's headers of an injected frame; where TCP's has its length. */
const BEFORE_TCP = 14 + 20;
const DATA_OFFSET = 12;
/** Turns of the microtasks that one gap may take, so that the rehearsal ends whatever happens. */
const TURNS = 1000;

/** Heals gaps of a made-up flow. Nothing leaves this process. */
export async function rehearse(): Promise<void> {
  const flow = new MadeUpFlow();
  await using recorder = new RecorderClient(() => Promise.resolve(new MadeUpRecorder()));
  const healer = new Healer({
    flows: flow,
    control: { mode: Mode.SHADOW, surveyed: false },
    injection: new Injection({ send: (frame) => flow.take(frame) }, MTU, {
      send: (frame) => flow.take(frame.subarray(VNET_HEADER)),
    }),
    recorder,
    clerk: {
      stats: { requests: 0, connections: 0, disconnections: 0 },
      connected: false,
      onChange: () => {},
      acknowledge: () => Promise.resolve(),
      flows: () => Promise.resolve([]),
    },
    emitter: { emit: () => {} },
    now: () => performance.now(),
    nowNanos: () => 0,
    busyMillis: () => 0,
  });
  const line = JSON.stringify({
    ...{ v: 1, type: "gap", time: formatTime(nowMicros()), by: "shadow", host: "host" },
    ...{ client: "192.0.2.3:1", server: "192.0.2.2:1", from: 0, to: 1 },
  });
  await turns(() => recorder.connected);
  for (let i = 0; i < GAPS; i++) {
    healer.onKernelGap({ key: flow.key, ...flow.lose(GAP), ns: 0 });
    healer.tick();
    parseEvent(line);
    await turns(() => healer.working === 0);
  }
}

async function turns(done: () => boolean): Promise<void> {
  for (let turn = 0; turn < TURNS && !done(); turn++) await Promise.resolve();
}

/** The shadow's map with one flow, and the flow's replica. */
class MadeUpFlow {
  readonly key = flowKey({ client: "192.0.2.1:1", server: "192.0.2.2:1" })!;
  readonly #value = new Uint8Array(FLOW.size);
  readonly #flow = new DataView(this.#value.buffer);

  constructor() {
    this.#flow.setUint16(FLOW.mss, MTU - 40, true);
    this.#flow.setUint16(FLOW.replica_window, 0xffff, true);
    this.#flow.setUint8(FLOW.primary_wscale, 7);
  }

  lookup(_key: Uint8Array, value: Uint8Array): boolean {
    value.set(this.#value);
    return true;
  }

  entries(): Batch {
    return { count: 1, keys: this.key.slice(0, FLOW_KEY.size), values: this.#value.slice() };
  }

  /** The primary acknowledges `bytes` more, which the replica lacks. */
  lose(bytes: number): Range {
    const from = this.#flow.getUint32(FLOW.primary_ack, true);
    const to = (from + bytes) >>> 0;
    for (const field of [FLOW.primary_ack, FLOW.client_end]) this.#flow.setUint32(field, to, true);
    return { from, to };
  }

  /** The replica takes a segment, and acknowledges it. */
  take(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset);
    const header = view.getUint8(BEFORE_TCP + DATA_OFFSET) >> 4 << 2;
    const end = view.getUint32(BEFORE_TCP + 4) + frame.length - BEFORE_TCP - header;
    for (const field of [FLOW.replica_ack, FLOW.client_next]) {
      this.#flow.setUint32(field, end, true);
    }
  }
}

/** The recorder's end of a connection: it answers each request at once, with zeros. */
class MadeUpRecorder implements Connection {
  #answer: Uint8Array = new Uint8Array(0);
  #waiting = Promise.withResolvers<void>();
  #closed = false;

  write(bytes: Uint8Array): Promise<number> {
    const { from, to } = JSON.parse(new TextDecoder().decode(bytes)) as Range;
    const parts: Uint8Array[] = [];
    const say = (line: object): void => {
      parts.push(new TextEncoder().encode(JSON.stringify(line) + "\n"));
    };
    for (let seq = from; seq < to; seq += LINE) {
      const length = Math.min(LINE, to - seq);
      say({ segment: { seq, length } });
      parts.push(new Uint8Array(length));
    }
    say({ ok: true });
    this.#answer = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      this.#answer.set(part, at);
      at += part.length;
    }
    this.#waiting.resolve();
    return Promise.resolve(bytes.length);
  }

  async read(target: Uint8Array): Promise<number | null> {
    while (this.#answer.length === 0) {
      if (this.#closed) return null;
      await this.#waiting.promise;
      this.#waiting = Promise.withResolvers();
    }
    const part = this.#answer.subarray(0, target.length);
    target.set(part);
    this.#answer = this.#answer.subarray(part.length);
    return part.length;
  }

  close(): void {
    this.#closed = true;
    this.#waiting.resolve();
  }
}
