/**
 * `takeover`: waits for the event, takes over, and stays until every flow goes on by itself.
 *
 * @module
 */
import { runOrdinary, runRealtime } from "../../ffi/scheduler.ts";
import { familyOf } from "../address.ts";
import { formatTime, nowMicros } from "../clock.ts";
import { type Emitter, type Event, parseEvent } from "../event.ts";
import type { ActiveFields } from "../vocabulary/takeover.ts";
import { runTool } from "../host/facts.ts";
import type { NdjsonWriter } from "../ndjson.ts";
import { passThrough } from "../pipeline.ts";
import { modeName } from "../flow/layout.ts";
import { Instance } from "../program/instance.ts";
import { readRecord, removeRecord } from "../program/run_dir.ts";
import { shadowKind } from "../shadow/programs.ts";
import { settle } from "./settle.ts";
import { type ResetFlow, Takeover } from "./takeover.ts";

/** Settings of {@linkcode runTakeover}. */
export interface TakeoverOptions {
  /** The shadow's run directory. */
  runDir: string;
  /** The type of the event that asks for the takeover; undefined asks at once, and reads no input. */
  on: string | undefined;
  /** End at the first input line that is no event. */
  strict: boolean;
  /** Remove the programs once every flow goes on by itself. */
  detach: boolean;
}

/** What {@linkcode runTakeover} gets from its process. */
export interface TakeoverStreams {
  /** Events, one a line. */
  input: ReadableStream<Uint8Array>;
  /** Takes the lines that pass through. */
  writer: NdjsonWriter;
  /** Takes this command's own events. */
  emitter: Emitter;
  /** Told about input lines that are no events. */
  warn: (message: string) => void;
  /** Aborted when the command should end, even where flows are not settled. */
  interrupted: AbortSignal;
}

/**
 * Runs to the end of the input; after a takeover, until the flows are settled too.
 *
 * @throws {Failure} where no shadow was started
 */
export async function runTakeover(
  options: TakeoverOptions,
  streams: TakeoverStreams,
): Promise<void> {
  const { emitter } = streams;
  let takeover = Takeover.prepare(options.runDir);
  let settled: Promise<void> | undefined;
  const activate = (): void => {
    if (settled !== undefined) return;
    if (!takeover.isCurrent()) {
      // The shadow was cleared and started anew since.
      takeover[Symbol.dispose]();
      takeover = Takeover.prepare(options.runDir);
    }
    settled = takeOver(takeover, emitter, streams.interrupted).settled.then((finished) => {
      if (finished && options.detach) detach(options.runDir);
    });
    // From here on the servers need the processors more.
    runOrdinary();
  };
  rehearseInput();
  emitter.emit("started", {
    interface: takeover.interface,
    services: takeover.services,
    mode: modeName(takeover.mode),
    realtime: runRealtime(),
    ...(options.on === undefined ? {} : { on: options.on }),
  });
  if (options.on === undefined) {
    activate();
  } else {
    await passThrough(streams.input, streams.writer, {
      onEvent: (event: Event) => {
        if (event.type === options.on) activate();
      },
      warn: streams.warn,
      strict: options.strict,
      // A reader of the output that has gone must not keep the host from taking over.
      signal: streams.interrupted,
    });
  }
  if (settled === undefined) return takeover[Symbol.dispose]();
  await settled;
}

/** Removes the programs, their pins and the record; the connections go on. */
function detach(runDir: string): void {
  const record = readRecord(runDir, shadowKind.name);
  if (record === undefined) return;
  using instance = Instance.find(shadowKind, runDir, record.interface);
  instance?.clear();
  removeRecord(runDir, shadowKind.name);
}

/**
 * Takes over and emits `active`. `settled` ends when every flow goes on by itself, with true, or when it is
 * interrupted, with false; it disposes of `takeover` then.
 */
export function takeOver(
  takeover: Takeover,
  emitter: Emitter,
  interrupted: AbortSignal,
): { active: ActiveFields; settled: Promise<boolean> } {
  const { active, reset } = takeover.activate(nowMicros());
  emitter.emit("active", { ...active });
  const onReset = (flows: readonly ResetFlow[]): void => reportReset(flows, emitter);
  onReset(reset);
  if (takeover.unsent > 0) {
    const message = `${takeover.unsent} frames could not be sent on "${takeover.interface}"`;
    emitter.emit("warning", { message });
  }
  const tasks = [settle(takeover, onReset, interrupted), addAddresses(takeover, emitter)] as const;
  const settled = Promise.all(tasks).finally(() => takeover[Symbol.dispose]())
    .then(([finished]) => finished);
  return { active, settled };
}

function reportReset(flows: readonly ResetFlow[], emitter: Emitter): void {
  for (const { client, server, missing } of flows) {
    const reason = `reset at the takeover: the replica lacked ${missing} bytes of the client`;
    emitter.emit("flow.close", { client, server, reason });
  }
}

/** The address can wait this long, in milliseconds; the flows need the processors first. */
const ADDRESS_DELAY = 30;

/**
 * Puts the addresses on the interface, so that the kernel answers for them whatever arp_ignore says. The flows do not
 * wait for it: the announcements have told the neighbours already.
 */
async function addAddresses(takeover: Takeover, emitter: Emitter): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ADDRESS_DELAY));
  for (const address of takeover.addresses) {
    const prefix = familyOf(address) === 4 ? 32 : 128;
    const args = ["address", "replace", `${address}/${prefix}`, "dev", takeover.interface];
    // Duplicate address detection would keep a new address silent for a second.
    if (prefix === 128) args.push("nodad");
    const result = await runTool("ip", args, "iproute2");
    if (result.code === 0) continue;
    emitter.emit("warning", {
      message: `Address "${address}" could not be put on interface "${takeover.interface}": ` +
        result.stderr,
    });
  }
}

/** Parses a made-up event often enough for V8 to compile the code that the real one will run. */
function rehearseInput(): void {
  const time = formatTime(nowMicros());
  const line = JSON.stringify({
    ...{ v: 1, type: "failed", time, by: "detect", host: "host", target: "rehearsal" },
    ...{ level: "host", cause: "unplanned", evidence: [], last_seen: time },
  });
  for (let i = 0; i < 200; i++) parseEvent(line);
}
