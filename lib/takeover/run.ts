/**
 * `takeover`: waits for the event, takes over, and stays until every flow goes on by itself.
 *
 * @module
 */
import { runOrdinary, runRealtime } from "../../ffi/scheduler.ts";
import { putAddresses } from "../claim/addresses.ts";
import type { AnnounceOptions } from "../claim/agenda.ts";
import { ControlClient } from "../control_client.ts";
import type { Emitter, Event } from "../event.ts";
import type { NdjsonWriter } from "../ndjson.ts";
import { passThrough, rehearseEvents } from "../pipeline.ts";
import { Mode, modeName } from "../flow/layout.ts";
import { Instance } from "../program/instance.ts";
import { readRecord, removeRecord } from "../program/run_dir.ts";
import { shadowKind } from "../shadow/programs.ts";
import type { ActiveFields } from "../vocabulary/takeover.ts";
import { Entry, type EntryHooks, type EntryOptions } from "./entry.ts";
import type { FenceRule } from "./fences.ts";
import { SwitchOver } from "./planned.ts";
import { settle } from "./settle.ts";
import { type ResetFlow, Takeover } from "./takeover.ts";
import { type Trigger, triggerNow } from "./trigger.ts";

/** Settings of {@linkcode runTakeover}. */
export interface TakeoverOptions {
  /** The shadow's run directory. */
  runDir: string;
  /** The type of the event that asks for the takeover; undefined asks at once, and reads no input. */
  on: string | undefined;
  /** The targets whose events count; none for all. */
  targets: readonly string[];
  /** Which fence is waited for; a path is the control socket of one that is asked. */
  fence: FenceRule | { socket: string };
  /** How long a fence may take, in milliseconds. */
  fenceTimeout: number;
  /** End at the first input line that is no event. */
  strict: boolean;
  /** Remove the programs once every flow goes on by itself. */
  detach: boolean;
  /** How often the addresses are announced. */
  announce: AnnounceOptions;
  /** Of a planned switch-over, how long each wait may take, in milliseconds; undefined for a takeover. */
  planned: number | undefined;
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
 * Runs to the end of the input; after a takeover, until the flows are settled too. What a start that was killed has
 * left is finished where it had entered active mode, and undone where it had not.
 *
 * @throws {Failure} where no shadow was started, and with status TEMPORARY where a fence was waited for in vain
 */
export async function runTakeover(
  options: TakeoverOptions,
  streams: TakeoverStreams,
): Promise<void> {
  const { emitter, interrupted } = streams;
  using standby = new Standby(options, emitter, interrupted);
  using client = clientOf(options.fence);
  using planned = options.planned === undefined
    ? undefined
    : new SwitchOver(options.runDir, options.planned, options.fenceTimeout);
  const failed = new AbortController();
  const warn = (message: string): void => emitter.emit("warning", { message });
  const hooks: EntryHooks = {
    services: () => standby.services,
    isShadow: () => standby.mode === Mode.SHADOW,
    refresh: () => standby.refresh(),
    activate: (trigger) => {
      if (standby.activate(trigger)) planned?.thaw();
    },
    warn,
    fail: (error) => {
      planned?.thaw();
      failed.abort(error);
    },
    ...(planned === undefined ? {} : { fenced: (trigger) => planned.finish(trigger, interrupted) }),
  };
  const entry = new Entry(entryOptions(options, client), hooks);
  interrupted.addEventListener("abort", () => entry.stop("it was told to stop"));
  await entry.undoLeft();
  await client?.open().catch((error) =>
    warn(`The fence does not answer yet: ${error instanceof Error ? error.message : error}`)
  );
  standby.rehearse(() => {
    const rehearsed = new Entry(REHEARSAL, hooks);
    rehearseEvents((event) => rehearsed.take(event));
  });
  emitter.emit("started", {
    interface: standby.interface,
    services: [...standby.services],
    mode: modeName(standby.mode),
    realtime: runRealtime(),
    ...(options.on === undefined ? {} : { on: options.on }),
  });
  if (planned !== undefined && standby.mode === Mode.SHADOW) {
    await rehearseRequests(client);
    await switchOver(planned, entry, interrupted);
  } else if (options.on === undefined) {
    entry.ask();
  } else {
    // A start that was killed has left it to this one.
    if (standby.mode === Mode.SETTLING) standby.activate(triggerNow());
    await passThrough(streams.input, streams.writer, {
      onEvent: (event: Event) => entry.take(event),
      warn: streams.warn,
      strict: options.strict,
      // A reader of the output that has gone must not keep the host from taking over.
      signal: AbortSignal.any([interrupted, failed.signal]),
    });
    entry.endOfInput();
  }
  standby.leave();
  await entry.idle();
  await planned?.thawed();
  await standby.settled();
  failed.signal.throwIfAborted();
}

/** How often the fence is asked for something else before; enough for V8 to compile what asks and what answers. */
const REQUESTS = 50;

/** While it is asked, the clients wait. One that does not answer is told of when it is asked in earnest. */
async function rehearseRequests(client: ControlClient | undefined): Promise<void> {
  for (let i = 0; i < REQUESTS; i++) {
    const answer = await client?.request({ request: "stats" }).catch(() => undefined);
    if (answer === undefined) return;
  }
}

/** Asks for the takeover once the replicas have what the primary has. */
async function switchOver(
  planned: SwitchOver,
  entry: Entry,
  interrupted: AbortSignal,
): Promise<void> {
  const trigger = triggerNow();
  try {
    await planned.begin(trigger, interrupted);
  } catch (error) {
    planned.thaw();
    await planned.thawed();
    throw error;
  }
  entry.ask(undefined, trigger);
}

/** Takes made-up events as the real settings take the real ones, and waits for no fence. */
const REHEARSAL: EntryOptions = {
  runDir: "",
  wanted: { on: "failed", targets: [] },
  rule: "auto",
  asked: undefined,
  timeout: 0,
};

function clientOf(fence: TakeoverOptions["fence"]): ControlClient | undefined {
  return typeof fence === "string" ? undefined : ControlClient.of(fence.socket);
}

function entryOptions(
  { runDir, on, targets, fence, fenceTimeout }: TakeoverOptions,
  client: ControlClient | undefined,
) {
  return {
    runDir,
    wanted: on === undefined ? undefined : { on, targets },
    rule: typeof fence === "string" ? fence : "none" as const,
    asked: client === undefined || typeof fence === "string"
      ? undefined
      : { path: fence.socket, client },
    timeout: fenceTimeout,
  };
}

/** A takeover that is prepared for the shadow as it is, and what became of it. */
class Standby implements Disposable {
  readonly #options: TakeoverOptions;
  readonly #emitter: Emitter;
  readonly #interrupted: AbortSignal;
  readonly #prepared = new DisposableStack();
  readonly #settling = new Map<Takeover, Promise<unknown>>();
  #leaving = false;
  #rehearsing = false;
  #takeover: Takeover;

  constructor(options: TakeoverOptions, emitter: Emitter, interrupted: AbortSignal) {
    this.#options = options;
    this.#emitter = emitter;
    this.#interrupted = interrupted;
    this.#takeover = this.#prepare();
  }

  get interface(): string {
    return this.#takeover.interface;
  }

  get services(): readonly string[] {
    return this.#takeover.services;
  }

  get mode(): number {
    return this.#takeover.mode;
  }

  /** Prepares anew where the shadow was cleared and started anew since; throws where the addresses cannot be claimed. */
  refresh(): void {
    if (!this.#takeover.isCurrent() && !this.#isDetached()) this.#takeover = this.#prepare();
    const { refusal } = this.#takeover.claim;
    if (refusal !== undefined && this.mode === Mode.SHADOW) throw refusal;
  }

  /** While `events` runs nothing is taken over. */
  rehearse(events: () => void): void {
    this.#rehearsing = true;
    events();
    this.#rehearsing = false;
  }

  /** Takes over; once more where this has been done already. Returns false where it was rehearsed only. */
  activate(trigger: Trigger): boolean {
    if (this.#rehearsing) return false;
    const takeover = this.#takeover;
    const { active, reset } = takeover.activate(trigger);
    // From here on the servers need the processors more.
    runOrdinary();
    report(takeover, active, reset, this.#emitter);
    if (this.#settling.has(takeover)) return true;
    const settled = follow(takeover, this.#emitter, this.#interrupted).then((finished) => {
      if (finished && this.#options.detach) detach(this.#options.runDir);
    });
    const keep = (): boolean => !this.#leaving;
    const watched = takeover.claim.watch(this.#emitter, keep, this.#interrupted);
    this.#settling.set(takeover, Promise.all([settled, watched]));
    return true;
  }

  /** Nothing more will be asked for: neighbours and rivals need not be listened to much longer. */
  leave(): void {
    this.#leaving = true;
  }

  /** Resolves once all flows that were taken over go on by themselves, and all is announced. */
  async settled(): Promise<void> {
    await Promise.all(this.#settling.values());
  }

  #prepare(): Takeover {
    return this.#prepared.use(Takeover.prepare(this.#options.runDir, this.#options.announce));
  }

  /** Whether the programs have gone after a takeover of this process. */
  #isDetached(): boolean {
    return this.#settling.has(this.#takeover) &&
      readRecord(this.#options.runDir, shadowKind.name) === undefined;
  }

  [Symbol.dispose](): void {
    this.#prepared.dispose();
  }
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
 * Takes over by what `takeover` has prepared, and emits `active`. `settled` ends when every flow goes on by itself, with
 * true, or when it is interrupted, with false; `watched`, when all is announced and `keep` says no.
 */
export function takeOver(
  takeover: Takeover,
  emitter: Emitter,
  keep: () => boolean,
  interrupted: AbortSignal,
): { active: ActiveFields; settled: Promise<boolean>; watched: Promise<void> } {
  const { active, reset } = takeover.activate();
  report(takeover, active, reset, emitter);
  const settled = follow(takeover, emitter, interrupted);
  return { active, settled, watched: takeover.claim.watch(emitter, keep, interrupted) };
}

function report(
  takeover: Takeover,
  active: ActiveFields,
  reset: readonly ResetFlow[],
  emitter: Emitter,
): void {
  emitter.emit("active", { ...active });
  reportReset(reset, emitter);
  if (takeover.unsent === 0) return;
  const message = `${takeover.unsent} frames could not be sent on "${takeover.interface}"`;
  emitter.emit("warning", { message });
}

/** Looks after what follows active mode: see {@linkcode settle}. */
async function follow(
  takeover: Takeover,
  emitter: Emitter,
  interrupted: AbortSignal,
): Promise<boolean> {
  let placed = false;
  const placing = addAddresses(takeover, emitter).then(() => placed = true);
  const onReset = (flows: readonly ResetFlow[]): void => reportReset(flows, emitter);
  const [finished] = await Promise.all([
    settle(takeover, onReset, () => placed, interrupted),
    placing,
  ]);
  return finished;
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
  const { runDir, interface: name, services } = takeover;
  const warn = (message: string): void => emitter.emit("warning", { message });
  await putAddresses(runDir, name, services, warn);
}
