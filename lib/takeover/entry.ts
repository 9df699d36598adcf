/**
 * The way from the event to active mode: waits for the fence where it has to, and undoes what has been done where it
 * comes to nothing.
 *
 * @module
 */
import { formatTime, within } from "../clock.ts";
import { ControlClient, RequestRefused, Unreachable } from "../control_client.ts";
import type { Event } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { type FenceRule, Fences } from "./fences.ts";
import { Pending } from "./pending.ts";
import {
  asksFor,
  concerns,
  servicesIn,
  sinceTrigger,
  type Trigger,
  triggerNow,
  type Wanted,
} from "./trigger.ts";

/** A fence that is asked over its control socket. */
export interface AskedFence {
  /** The socket's path. */
  path: string;
  /** Asks there. */
  client: ControlClient;
}

/** Settings of {@linkcode Entry}. */
export interface EntryOptions {
  /** The shadow's run directory. */
  runDir: string;
  /** Which events ask for the takeover; undefined where none does. */
  wanted: Wanted | undefined;
  /** Whose `fenced` is waited for; {@linkcode EntryOptions.asked} goes before it. */
  rule: FenceRule;
  /** The fence to ask; undefined for none. */
  asked: AskedFence | undefined;
  /** How long a fence may take, in milliseconds. */
  timeout: number;
}

/** What {@linkcode Entry} acts on. */
export interface EntryHooks {
  /** The services that are to be taken over. */
  services: () => readonly string[];
  /** Whether the host still is in shadow mode. */
  isShadow: () => boolean;
  /** Makes the other hooks act by the shadow as it is now; throws where there is none. */
  refresh: () => void;
  /** Awaited once the fence that was asked is up, and before active mode; where it throws, all is undone. */
  fenced?: (trigger: Trigger) => Promise<void>;
  /** Enters active mode and wakes the flows, at once; on an active host again. */
  activate: (trigger: Trigger) => void;
  /** Told of what does not end the takeover. */
  warn: (message: string) => void;
  /** Told why the takeover came to nothing, after what had been done is undone. */
  fail: (error: unknown) => void;
}

/** A takeover that waits for a fence. */
interface Waiting {
  trigger: Trigger;
  target: unknown;
  /** The record of it; undefined where another process has one. */
  pending: Pending | undefined;
  timer: ReturnType<typeof setTimeout>;
  /** Resolves once the fence that is asked has answered, or cannot any more; undefined where none is. */
  answered: Promise<void> | undefined;
}

/** How long an answer of the fence that is under way is waited for before it is released, in milliseconds. */
const ANSWERING = 100;

/** See the module. */
export class Entry {
  readonly #options: EntryOptions;
  readonly #hooks: EntryHooks;
  readonly #fences: Fences;
  #waiting: Waiting | undefined;
  /** A fence that is being released, and what was asked for meanwhile. */
  #releasing: Promise<void> | undefined;
  #next: { target: unknown } | undefined;
  #idle = Promise.withResolvers<void>();

  /** Acts by `hooks`. */
  constructor(options: EntryOptions, hooks: EntryHooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#fences = new Fences(options.rule, options.timeout);
    this.#idle.resolve();
  }

  /** Takes an event; acts on it before it returns, unless a fence is to be waited for. */
  take(event: Event): void {
    const { asked, wanted } = this.#options;
    if (asked === undefined) this.#fences.take(event, performance.now());
    if (event.type === "recovered") this.#recovered(event["target"]);
    const waiting = this.#waiting;
    if (waiting !== undefined && asked === undefined && this.#missing().length === 0) {
      this.#enter(waiting);
    }
    if (wanted === undefined || !asksFor(event, wanted)) return;
    this.#hooks.refresh();
    if (!concerns(event, this.#hooks.services())) return;
    if (this.#isUnfenced(event)) {
      this.#giveUp(`The fence upstream could not fence ${quoted(this.#hooks.services())}`);
    } else {
      this.ask(event["target"]);
    }
  }

  /** Whether a fence that must be up could not be put up; on an active host it has had its turn. */
  #isUnfenced(event: Event): boolean {
    const { asked, rule } = this.#options;
    return event["fenced"] === false && asked === undefined && rule !== "none" &&
      this.#hooks.isShadow();
  }

  /** Takes over, for the sake of `target`. One that waits already goes on as it is. */
  ask(target: unknown = undefined, trigger: Trigger = triggerNow()): void {
    if (this.#waiting !== undefined) return;
    if (this.#releasing !== undefined) {
      this.#next ??= { target };
      return;
    }
    const { asked } = this.#options;
    // On an active host the fence has had its turn.
    const ready = asked === undefined && this.#missing().length === 0 || !this.#hooks.isShadow();
    if (ready) return this.#hooks.activate(trigger);
    const timer = setTimeout(() => this.#late(), this.#options.timeout);
    const pending = this.#record(trigger, target);
    const waiting: Waiting = { trigger, target, pending, timer, answered: undefined };
    this.#waiting = waiting;
    this.#idle = Promise.withResolvers();
    if (asked !== undefined) waiting.answered = this.#askFence(waiting, asked);
  }

  /** No more events will come; what waits for one has waited in vain. */
  endOfInput(): void {
    if (this.#waiting === undefined || this.#options.asked !== undefined) return;
    this.#giveUp(`The input has ended, and no fence has fenced ${this.#names()}`);
  }

  /** Gives up what waits, and says why. */
  stop(why: string): void {
    this.#next = undefined;
    this.#cancel(why);
  }

  /** Resolves once nothing waits, and all is undone that was to be. */
  async idle(): Promise<void> {
    await this.#idle.promise;
    if (this.#releasing === undefined) return;
    await this.#releasing;
    await this.idle();
  }

  /**
   * Undoes what a start that was killed had begun, where it did not get as far as active mode. Resolves once that is
   * done, or cannot be.
   */
  async undoLeft(): Promise<void> {
    const left = Pending.left(this.#options.runDir);
    if (left === undefined) return;
    const { pending, record } = left;
    if (!this.#hooks.isShadow()) return pending.end();
    const since = record.trigger === "" ? "" : ` since ${record.trigger}`;
    this.#hooks.warn(
      `A takeover that was under way${since} did not get as far as active mode, and is undone; ` +
        "if the primary has failed, ask for it again: t2cp takeover --now",
    );
    if (record.fence === undefined) return pending.end();
    await this.#release(pending, record.fence);
  }

  #recovered(target: unknown): void {
    if (this.#next?.target === target) this.#next = undefined;
    if (this.#waiting?.target === target) this.#cancel(`"${target}" has recovered`);
  }

  #missing(): string[] {
    return this.#fences.missing(this.#hooks.services(), performance.now());
  }

  #names(): string {
    const { asked } = this.#options;
    const names = asked === undefined ? this.#missing() : this.#hooks.services();
    return quoted(names);
  }

  #record(trigger: Trigger, target: unknown): Pending | undefined {
    const { runDir, asked } = this.#options;
    try {
      return Pending.begin(runDir, {
        trigger: formatTime(trigger.micros),
        ...(typeof target === "string" ? { target } : {}),
        ...(asked === undefined ? {} : { fence: asked.path }),
      });
    } catch (error) {
      // What another process has begun, it undoes; and a full disk must not keep the host from taking over.
      this.#hooks.warn(`No record of the takeover: ${describe(error)}`);
      return undefined;
    }
  }

  async #askFence(waiting: Waiting, { client, path }: AskedFence): Promise<void> {
    let fenced: { services?: unknown; already?: unknown } = {};
    try {
      const answers = await client.request({ request: "fence" });
      fenced = Object(answers.find((answer) => "fenced" in answer)?.["fenced"]);
    } catch (error) {
      if (this.#waiting !== waiting) return;
      if (error instanceof Unreachable) {
        waiting.pending?.end();
        waiting.pending = undefined;
      }
      const verb = error instanceof RequestRefused ? "refuses" : "does not answer";
      this.#giveUp(`The fence at "${path}" ${verb}: ${describe(error)}`);
      return;
    }
    if (this.#waiting !== waiting) return;
    if (fenced.already === true) {
      // It is somebody else's, and stays whatever becomes of this takeover.
      waiting.pending?.end();
      waiting.pending = undefined;
    }
    const services = servicesIn(fenced.services);
    const left = this.#hooks.services().filter((name) => !services.includes(name));
    if (left.length > 0) this.#giveUp(`The fence at "${path}" does not fence ${quoted(left)}`);
    else if (this.#hooks.fenced === undefined) this.#enter(waiting);
    else await this.#finish(waiting, this.#hooks.fenced);
  }

  /** What is to be done between the fence and active mode. */
  async #finish(waiting: Waiting, work: (trigger: Trigger) => Promise<void>): Promise<void> {
    clearTimeout(waiting.timer);
    waiting.trigger.steps["fenced"] = sinceTrigger(waiting.trigger);
    try {
      await work(waiting.trigger);
    } catch (error) {
      if (this.#waiting === waiting) this.#giveUp(describe(error));
      return;
    }
    if (this.#waiting === waiting) this.#enter(waiting);
  }

  /** The fence stands: on to active mode. */
  #enter(waiting: Waiting): void {
    const { trigger, pending } = waiting;
    trigger.steps["fenced"] ??= sinceTrigger(trigger);
    this.#end(waiting);
    try {
      this.#hooks.refresh();
      this.#hooks.activate(trigger);
    } catch (error) {
      if (this.#hooks.isShadow()) this.#undo(waiting);
      this.#hooks.fail(error);
      return;
    }
    pending?.end();
  }

  #late(): void {
    const seconds = this.#options.timeout / 1000;
    this.#giveUp(`No fence has fenced ${this.#names()} within ${seconds} s`);
  }

  #giveUp(reason: string): void {
    const waiting = this.#waiting;
    if (waiting !== undefined) {
      this.#end(waiting);
      this.#undo(waiting);
    }
    const message = `${reason}; nothing was taken over`;
    this.#hooks.warn(message);
    this.#hooks.fail(
      new Failure(ExitStatus.TEMPORARY, message, {
        mend: "look at t2cp fence, or do without it: t2cp takeover --now --fence none",
      }),
    );
  }

  #cancel(why: string): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#end(waiting);
    this.#undo(waiting);
    this.#hooks.warn(`The takeover is given up before it began: ${why}`);
  }

  #end(waiting: Waiting): void {
    clearTimeout(waiting.timer);
    this.#waiting = undefined;
    this.#idle.resolve();
  }

  /** Without a record another process has asked the fence too, and looks after it. */
  #undo({ pending, answered }: Waiting): void {
    const { asked } = this.#options;
    if (pending === undefined) return;
    if (asked === undefined) return pending.end();
    this.#releasing = this.#release(pending, asked.path, answered).then(() => {
      this.#releasing = undefined;
      const next = this.#next;
      this.#next = undefined;
      if (next !== undefined) this.ask(next.target);
    });
  }

  /** Lets the primary speak again; where the fence cannot be reached, the next start tries once more. */
  async #release(pending: Pending, path: string, answered?: Promise<void>): Promise<void> {
    using client = ControlClient.of(path);
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error("no answer")), this.#options.timeout);
    try {
      await Promise.race([release(client, answered), late.promise]);
      pending.end();
    } catch (error) {
      pending.leave();
      this.#hooks.warn(
        `The fence may stand, and could not be released: ${describe(error)}; ` +
          "on the gateway: t2cp fence --release",
      );
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * Releases the fence. Where the one that was asked is `answered` later, its command takes long: the request goes past it
 * by another connection, `client`, and where it was too early, once more behind it.
 */
async function release(client: ControlClient, answered: Promise<void> | undefined): Promise<void> {
  let pending = answered !== undefined;
  const settled = answered?.then(() => void (pending = false));
  if (settled !== undefined) await within(settled, ANSWERING);
  const wasPending = pending;
  const answers = await client.request({ request: "release" });
  if (!wasPending || answers.some((answer) => servicesIn(answer["released"]).length > 0)) return;
  await settled;
  await client.request({ request: "release" });
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(", ");
}

function describe(error: unknown): string {
  if (error instanceof Failure) return error.line;
  return error instanceof Error ? error.message : String(error);
}
