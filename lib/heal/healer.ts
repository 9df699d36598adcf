/**
 * Heals the flows of a shadow: acts on gaps, looks for replicas that stand behind, and tells the recorder what the
 * replicas have.
 *
 * @module
 */
import type { Batch } from "../../ffi/bpf_map.ts";
import { nowMicros } from "../clock.ts";
import type { Emitter, EventOf } from "../event.ts";
import type { FlowEvent } from "../flow/event.ts";
import { FLOW, FLOW_KEY, type FlowEnds, flowKey, Mode, modeName } from "../flow/layout.ts";
import { after, earlier, later } from "../flow/sequence.ts";
import { Acknowledgements, type Told } from "./acks.ts";
import { type FlowMap, FlowView } from "./flow_view.ts";
import { type HealedFlow, healedFlows } from "./healed_flow.ts";
import { Healing } from "./healing.ts";
import type { Surroundings } from "./surroundings.ts";
import type { Injection } from "./injection.ts";
import { Ledger } from "./ledger.ts";
import type { Range } from "./ranges.ts";
import { type RecordedFlow, type RecorderClient, RecorderRefused } from "./recorder_client.ts";
import { LagWatch, nameOf } from "./watch.ts";

/** Between two looks, in milliseconds: while something is healed, while flows move, and at rest. */
const BUSY = 1;
const MOVING = 5;
const RESTING = 20;
/** A look may take this share of the time between two. */
const SHARE = 0.1;
/** Between two messages on what the replicas have, in milliseconds. */
const ACKNOWLEDGE = 100;
/** After the takeover, the recorder is asked this often what it has seen, in milliseconds: at first, and at last. */
const SURVEY = 100;
const RARE_SURVEY = 1600;
/** A gap is not older than this, whatever its event says, in milliseconds. */
const OLDEST = 60_000;

/** The shadow's map of flows, as the healer reads it. */
export interface Flows extends FlowMap {
  /** Reads all flows; see {@linkcode BpfMap.entries}. */
  entries(again?: Batch): Batch;
}

/** What a healer works with. */
export interface HealerParts {
  /** The shadow's flows. */
  flows: Flows;
  /** The shadow's mode, and whether the replicas have got since the takeover what the recorder knows of. */
  control: { readonly mode: number; surveyed: boolean };
  /** Gives bytes to replicas. */
  injection: Injection;
  /** Where bytes are fetched. */
  recorder: Pick<RecorderClient, "fetch" | "hasRoom" | "connected" | "stats">;
  /** A second connection, so that what is told does not wait behind bytes. */
  clerk: Pick<RecorderClient, "acknowledge" | "flows" | "connected" | "stats" | "onChange">;
  /** Takes the healer's events. */
  emitter: Pick<Emitter, "emit">;
  /** The time in milliseconds of a monotonic clock. */
  now(): number;
  /** CLOCK_MONOTONIC in nanoseconds, as the kernel notes it. */
  nowNanos(): number;
  /** Processor time that the thread has had, in milliseconds. */
  busyMillis(): number;
}

/** See the module. */
export class Healer {
  /** What was healed and lost. */
  readonly ledger: Ledger = new Ledger();
  readonly #parts: HealerParts;
  readonly #watch = new LagWatch();
  readonly #acks = new Acknowledgements();
  readonly #healings = new Map<string, Healing>();
  readonly #waiting = new Set<Healing>();
  readonly #around: Surroundings;
  #batch: Batch | undefined;
  #cost = 0;
  #nextAck = 0;
  #nextSurvey = 0;
  #surveyPause = SURVEY;
  #surveyed = false;
  #moved = 0;
  #stopped = false;
  #lastMode: number;
  #kernelGaps = 0;
  #told = { messages: 0, flows: 0, failed: 0 };

  /** Does nothing until the first {@linkcode Healer.tick}. */
  constructor(parts: HealerParts) {
    this.#parts = parts;
    this.#lastMode = parts.control.mode;
    const { ledger } = this;
    const settling = (): boolean => parts.control.mode !== Mode.SHADOW;
    const stopped = (): boolean => this.#stopped;
    this.#around = {
      recorder: parts.recorder,
      injection: parts.injection,
      ledger,
      get settling() {
        return settling();
      },
      get stopped() {
        return stopped();
      },
      now: parts.now,
      onHealed: (flow, { from, to }, bytes, took) => {
        parts.emitter.emit("healed", { ...flow, from, to, bytes, took_ms: rounded(took) });
      },
      onUnprotected: (flow, reason) => {
        parts.emitter.emit("flow.unprotected", { ...flow, reason });
      },
      onWaiting: (healing) => void this.#waiting.add(healing),
      onRoom: () => this.#serveWaiting(),
    };
    parts.clerk.onChange = (connected) => {
      if (connected) this.#acks.repeat();
    };
  }

  /** How long to wait until the next tick, in milliseconds. */
  get pause(): number {
    const busy = this.#lastMode === Mode.SETTLING || this.working > 0;
    const moving = this.#parts.now() - this.#moved < 1000;
    return Math.max(busy ? BUSY : moving ? MOVING : RESTING, this.#cost / SHARE);
  }

  /** How many flows there were at the last look. */
  get count(): number {
    return this.#batch?.count ?? 0;
  }

  /** How many flows are being healed, and not lost. */
  get working(): number {
    let count = 0;
    for (const healing of this.#healings.values()) {
      if (healing.lost === undefined && !healing.done) count += 1;
    }
    return count;
  }

  /** Bytes that the replicas lack for good, or lacked for so long that it was reported. */
  get lostBytes(): number {
    let lost = this.ledger.total.lost_bytes;
    for (const healing of this.#healings.values()) {
      if (healing.lost === undefined && healing.reported) lost += healing.lacking;
    }
    return lost;
  }

  /** Acts on a `gap` event. */
  onGap(event: EventOf<"gap">): void {
    const key = flowKey(event);
    if (key !== undefined) this.#heal(key, event, this.#since(event.time));
  }

  /** Acts on a gap that the kernel has told of; `ns` is its time by CLOCK_MONOTONIC. */
  onKernelGap({ key, from, to, ns }: Pick<FlowEvent, "key" | "from" | "to" | "ns">): void {
    this.#kernelGaps += 1;
    const age = Math.min(Math.max(0, (this.#parts.nowNanos() - ns) / 1e6), OLDEST);
    this.#heal(key, { from, to }, this.#parts.now() - age);
  }

  #heal(key: Uint8Array<ArrayBuffer>, { from, to }: Range, since: number): void {
    const flow = this.#findKey(key);
    if (flow === undefined || !flow.isPlausible(from) || !flow.isPlausible(to)) return;
    const range = { from: later(from, flow.replicaAck), to: earlier(to, flow.primaryAck) };
    if (!after(range.to, range.from)) return;
    const healing = this.#healingOf(flow);
    healing.heal(range, since);
    this.#step(healing);
  }

  /** Acts on a `lag` event: the replica has been behind for long already. */
  onLag(event: EventOf<"lag">): void {
    const flow = this.#find(event);
    if (flow === undefined || !after(flow.primaryAck, flow.replicaAck)) return;
    const healing = this.#healingOf(flow);
    healing.catchUp(flow.primaryAck, this.#since(event.time));
    this.#step(healing);
  }

  /** Looks at all flows, goes on with those that are being healed, and tells the recorder what is due. */
  tick(): void {
    const start = this.#parts.now();
    const busy = this.#parts.busyMillis();
    const { mode } = this.#parts.control;
    if (mode !== this.#lastMode) {
      this.#nextSurvey = start;
      this.#surveyPause = SURVEY;
      this.#surveyed = false;
    }
    this.#lastMode = mode;
    const batch = this.#batch = this.#parts.flows.entries(this.#batch);
    this.#lookAt(batch, start, mode === Mode.SETTLING);
    for (const [name, healing] of this.#healings) {
      if (!healing.step()) this.#end(healing);
      else if (healing.done && healing.lost === undefined) this.#healings.delete(name);
    }
    if (start >= this.#nextAck) {
      this.#nextAck = start + ACKNOWLEDGE;
      this.#acknowledge(batch);
    }
    if (this.#surveyed && this.working === 0) this.#parts.control.surveyed = true;
    this.#cost = this.#parts.busyMillis() - busy;
    if (mode === Mode.SETTLING && start >= this.#nextSurvey) {
      this.#nextSurvey = start + this.#surveyPause;
      this.#surveyPause = Math.min(this.#surveyPause * 2, RARE_SURVEY);
      this.#survey();
    }
  }

  /** Tells the recorder for the last time, in `patience` milliseconds, and touches nothing any more. */
  async stop(patience: number): Promise<void> {
    this.#stopped = true;
    if (this.#batch === undefined || !this.#parts.clerk.connected) return;
    const batch = this.#parts.flows.entries(this.#batch);
    const messages = this.#acks.collect(batch, this.#parts.nowNanos());
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, patience);
    const told = Promise.all(messages.map((message) => this.#tell(message)));
    await Promise.race([told, late.promise]);
    clearTimeout(timer);
  }

  /** The flows, those that are known, and those of which bytes are lost. */
  flows(): Generator<HealedFlow> {
    return healedFlows(this.#parts.flows.entries(), this.ledger);
  }

  /** The counters. */
  stats(): Record<string, unknown> {
    const { recorder, clerk, control } = this.#parts;
    const { median, longest } = this.ledger;
    return {
      mode: modeName(control.mode),
      flows: this.count,
      healing: this.working,
      ...this.#acks.flowed,
      kernel_gaps: this.#kernelGaps,
      ...this.ledger.total,
      lost_bytes: this.lostBytes,
      flows_unprotected: this.ledger.unprotected,
      took_ms_median: median === null ? null : rounded(median),
      took_ms_max: median === null ? null : rounded(longest),
      acknowledgements: this.#told.flows,
      acknowledgements_failed: this.#told.failed,
      recorder_connected: recorder.connected && clerk.connected,
      recorder_requests: recorder.stats.requests + clerk.stats.requests,
      recorder_disconnections: recorder.stats.disconnections + clerk.stats.disconnections,
    };
  }

  #findKey(key: Uint8Array<ArrayBuffer>): FlowView | undefined {
    const known = this.#healings.get(nameOf(key));
    if (known !== undefined && known.flow.refresh()) return known.flow;
    const flow = new FlowView(this.#parts.flows, key);
    return flow.refresh() ? flow : undefined;
  }

  #find(ends: FlowEnds): FlowView | undefined {
    const key = flowKey(ends);
    return key === undefined ? undefined : this.#findKey(key);
  }

  /** The healing of a flow that was just read. */
  #healingOf(flow: FlowView): Healing {
    const name = nameOf(flow.key);
    let healing = this.#healings.get(name);
    if (healing === undefined || healing.flow !== flow && !healing.flow.refresh()) {
      healing = new Healing(flow, this.#around);
      this.#healings.set(name, healing);
    }
    return healing;
  }

  #step(healing: Healing): void {
    if (!healing.step()) this.#end(healing);
  }

  /** The flow has gone. */
  #end(healing: Healing): void {
    if (this.#stopped) return;
    const name = nameOf(healing.flow.key);
    if (this.#healings.get(name) === healing) this.#healings.delete(name);
    this.#waiting.delete(healing);
    healing.abandon();
  }

  #serveWaiting(): void {
    // Who still finds no room puts itself in again, at the end.
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const healing of waiting) {
      if (this.#parts.recorder.hasRoom(1)) this.#step(healing);
      else this.#waiting.add(healing);
    }
  }

  #lookAt(batch: Batch, now: number, settling: boolean): void {
    const flows = new DataView(batch.values.buffer, batch.values.byteOffset);
    const recent = BigInt(Math.floor(this.#parts.nowNanos() - 1e9));
    for (let i = 0; i < batch.count; i++) {
      if (flows.getBigUint64(i * FLOW.size + FLOW.seen_ns, true) < recent) continue;
      this.#moved = now;
      break;
    }
    for (const { name, index, what, to, age } of this.#watch.look(batch, now, settling)) {
      let healing = this.#healings.get(name);
      if (healing === undefined) {
        const key = batch.keys.slice(index * FLOW_KEY.size, (index + 1) * FLOW_KEY.size);
        const flow = new FlowView(this.#parts.flows, key);
        if (!flow.refresh()) continue;
        if (what === "ask") {
          this.#parts.injection.probe(flow.place, settling);
          continue;
        }
        healing = this.#healingOf(flow);
      }
      if (what === "heal") healing.catchUp(to, now - age);
    }
  }

  /** After the takeover: the recorder has seen what the client has sent, and will not send again. */
  async #survey(): Promise<void> {
    let recorded: RecordedFlow[];
    try {
      recorded = await this.#parts.clerk.flows();
    } catch {
      // The next survey comes soon.
      return;
    }
    if (this.#stopped || this.#parts.control.mode !== Mode.SETTLING) return;
    const now = this.#parts.now();
    for (const { client, server, end, primary_ack: acknowledged } of recorded) {
      const flow = this.#find({ client, server });
      // A FIN that was acknowledged stands behind the last byte.
      const to = later(end, acknowledged ?? end);
      if (flow === undefined || !flow.isPlausible(to) || !after(to, flow.replicaAck)) continue;
      const healing = this.#healingOf(flow);
      healing.acknowledged = acknowledged;
      healing.catchUp(to, now);
      this.#step(healing);
    }
    this.#surveyed = true;
  }

  #acknowledge(batch: Batch): void {
    if (!this.#parts.clerk.connected) return;
    for (const message of this.#acks.collect(batch, this.#parts.nowNanos())) this.#tell(message);
  }

  async #tell(message: Told[]): Promise<void> {
    try {
      await this.#parts.clerk.acknowledge(message);
      this.#told.messages += 1;
      this.#told.flows += message.length;
    } catch (error) {
      this.#told.failed += 1;
      // Once it is reached again, all is told anew.
      if (error instanceof RecorderRefused && this.#told.failed === 1) {
        const text = `The recorder does not take acknowledgements: ${error.message}`;
        this.#parts.emitter.emit("warning", { message: text });
      }
    }
  }

  /** When an event happened, by the monotonic clock. */
  #since(time: string): number {
    const then = Date.parse(time) * 1000 + Number(/\.\d{3}(\d{3})/.exec(time)?.[1] ?? 0);
    const age = Math.min(Math.max(0, (nowMicros() - then) / 1000), OLDEST);
    return this.#parts.now() - (Number.isNaN(age) ? 0 : age);
  }
}

function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 1000) / 1000;
}
