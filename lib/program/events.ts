/**
 * From a program's ring buffer to events, and its counters to `stats`.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { errnoName } from "../../ffi/errno.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { Poller } from "../../ffi/poller.ts";
import { RingBuffer } from "../../ffi/ring_buffer.ts";
import { formatTime, nowMicros } from "../clock.ts";
import type { Emitter } from "../event.ts";
import { type FlowEvent, readFlowEvent, reasons } from "../flow/event.ts";

/** Longest wait for records, in microseconds; a stop waits no longer. */
const WAIT = 250_000;
/** Rest after records came, in milliseconds, so that a flood costs few wake-ups. */
const REST = 2;

/** How long a gap may be bytes that another processor has under way, in microseconds. */
const UNDER_WAY = 200;

/** What {@linkcode pumpEvents} calls. */
export interface PumpHooks {
  /** Called about every quarter of a second, and after each batch. */
  each: () => void;
  /** In how many milliseconds `each` has something to do, where that is sooner. */
  due?: () => number;
  /** Takes an event, so that it is not emitted now; see {@linkcode emitFlowEvent}. */
  take?: (event: FlowEvent) => boolean;
  /** Called with each event that was emitted. */
  onEvent?: (event: FlowEvent) => void;
  /** Whether the bytes of a gap are missing still; asked a moment after the gap was seen. */
  stillMissing?: (gap: FlowEvent) => boolean;
}

/** Emits the flow events of ring buffer `map` until `stop` is aborted. */
export async function pumpEvents(
  map: BpfMap,
  emitter: Emitter,
  stop: AbortSignal,
  hooks: PumpHooks,
): Promise<void> {
  using ring = new RingBuffer(map);
  const gaps: FlowEvent[] = [];
  const poller = new Poller([ring.fd]);
  const pause = new Poller([]);
  const wake = (): void => poller.wake();
  stop.addEventListener("abort", wake);
  try {
    while (!stop.aborted) {
      await poller.wait(Math.min(WAIT, (hooks.due?.() ?? Infinity) * 1000));
      // Behind a reader that stalls, events wait in the ring buffer, whose bound has a counter.
      const records = emitter.full ? 1 : drain(ring, emitter, gaps, hooks);
      const age = gaps.length === 0 ? Infinity : monotonicMicros() - gaps.at(-1)!.ns / 1000;
      if (age < UNDER_WAY) await pause.wait(UNDER_WAY - age);
      for (const gap of gaps.splice(0)) {
        if (hooks.stillMissing?.(gap) ?? true) emitGap(gap, emitter);
      }
      hooks.each();
      if (records > 0) await new Promise((resolve) => setTimeout(resolve, REST));
    }
    drain(ring, emitter, gaps, hooks);
  } finally {
    stop.removeEventListener("abort", wake);
    await poller.close();
    await pause.close();
  }
}

/** Emits the records that wait, and returns their number. */
function drain(
  ring: RingBuffer,
  emitter: Emitter,
  gaps: FlowEvent[],
  hooks: PumpHooks,
): number {
  return ring.drain((record) => {
    const event = readFlowEvent(record);
    // Both directions may reach this host on two processors: what looks like a gap may be under way.
    if (event === undefined) return;
    if (event.type === "gap") return void gaps.push(event);
    if (hooks.take?.(event)) return;
    emitFlowEvent(event, emitter);
    hooks.onEvent?.(event);
  });
}

/** The wall-clock time of an event. */
function timeOf(event: FlowEvent): string {
  return formatTime(nowMicros() - monotonicMicros() + event.ns / 1000);
}

function emitGap(event: FlowEvent, emitter: Emitter): void {
  const { client, server, from, to } = event;
  emitter.emit("gap", { time: timeOf(event), client, server, from, to });
}

/** Emits an event of a flow, with the time at which the program reported it; gaps are not for it. */
export function emitFlowEvent(event: FlowEvent, emitter: Emitter): void {
  const { client, server } = event;
  const time = timeOf(event);
  switch (event.type) {
    case "flow.open":
      return emitter.emit("flow.open", { time, client, server });
    case "flow.close":
      return emitter.emit("flow.close", { time, client, server, reason: reasonOf(event) });
    case "lag":
      return emitter.emit("lag", { time, client, server, bytes: (event.to - event.from) >>> 0 });
    case "flow.unprotected":
      return emitter.emit("flow.unprotected", { time, client, server, reason: reasonOf(event) });
  }
}

function reasonOf(event: FlowEvent): string {
  const cause = reasons[event.reason] ?? `reason ${event.reason}`;
  return event.detail === 0 ? cause : `${cause}: ${errnoName(event.detail)}`;
}

/** Emits `stats` events: every `seconds`, if given, and whenever {@linkcode StatsTimer.emit} is called. */
export class StatsTimer {
  readonly #emitter: Emitter;
  readonly #read: () => Record<string, unknown>;
  readonly #interval: number;
  #next: number;

  /** `read` gives the fields of the event; `seconds` undefined means never by itself. */
  constructor(
    emitter: Emitter,
    read: () => Record<string, unknown>,
    seconds: number | undefined,
    now: number = performance.now(),
  ) {
    this.#emitter = emitter;
    this.#read = read;
    this.#interval = seconds === undefined ? Infinity : seconds * 1000;
    this.#next = now + this.#interval;
  }

  /** Emits what is due at `now`, in milliseconds of a monotonic clock. */
  tick(now: number = performance.now()): void {
    if (now < this.#next) return;
    // What a stall has missed is left out.
    this.#next += Math.floor((now - this.#next) / this.#interval + 1) * this.#interval;
    this.emit();
  }

  /** In how many milliseconds the next one is due; 0 where it is. */
  due(now: number = performance.now()): number {
    return Math.max(0, this.#next - now);
  }

  /** Emits one now. */
  emit(): void {
    this.#emitter.emit("stats", this.#read());
  }
}
