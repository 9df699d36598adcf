/**
 * From the conversations of a capture to scripts for the player.
 *
 * @module
 */
import type { Conversation, ConversationSink, Ending, Side } from "../conversation/conversation.ts";
import type { AnswerCheck } from "./answer_check.ts";
import { Arena } from "./arena.ts";
import { type ReadAhead, Script, StepKind } from "./script.ts";
import { EMPTY, type Skip, unmapped } from "./skip.ts";
import { isEndpoint, type PartialEndpoint, type Targets } from "./targets.ts";
import type { Timeline } from "./timeline.ts";

/** Which conversations are played. */
export interface Selection {
  /** Numbers of conversations in the capture; all where there are none. */
  readonly flows: readonly number[];
  /** Clients; all where there are none. */
  readonly clients: readonly PartialEndpoint[];
  /** How many, at most. */
  readonly limit: number;
}

/** What an {@linkcode Intake} works with. */
export interface IntakeTools {
  /** Whom it is played to. */
  readonly targets: Targets;
  /** When it is due. */
  readonly timeline: Timeline;
  /** How much is read ahead. */
  readonly readAhead: ReadAhead;
  /** Makes the comparison of a conversation. */
  readonly makeCheck: (conversation: Conversation) => AnswerCheck;
  /** Gets a script when there is something to play of it. */
  readonly onScript: (script: Script) => void;
  /** A script that was given before has got longer, or has ended. */
  readonly onMore: (script: Script) => void;
  /** There is nothing to play of a conversation, and why. */
  readonly onSkipped: (conversation: Conversation, pass: number, skip: Skip) => void;
  /** All have been given that were selected: the rest of the capture is of no use. */
  readonly onEnough: () => void;
}

/** A conversation that is being read. */
interface Entry {
  readonly script: Script;
  /** Whether the player has it. */
  given: boolean;
}

/** See the module. One object serves for all passes through the capture. */
export class Intake implements ConversationSink {
  /** Conversations that were not selected. */
  leftOut = 0;
  /** Conversations that were selected. */
  chosen = 0;
  /** Which time the capture is read, from 1. */
  pass = 1;
  readonly #selection: Selection;
  readonly #tools: IntakeTools;
  readonly #flows: ReadonlySet<number>;
  readonly #arena = new Arena();
  readonly #entries = new Map<Conversation, Entry>();

  /** Gives what `selection` selects to the tools. */
  constructor(selection: Selection, tools: IntakeTools) {
    this.#selection = selection;
    this.#tools = tools;
    this.#flows = new Set(selection.flows);
  }

  open(conversation: Conversation): void {
    if (this.chosen >= this.#selection.limit || !this.#isSelected(conversation)) {
      this.leftOut++;
      return;
    }
    this.chosen++;
    const { targets, timeline, makeCheck, readAhead, onSkipped } = this.#tools;
    const { server, begin } = conversation;
    const target = targets.of(server.address, server.port);
    const opens = timeline.due(begin);
    if (target === undefined) {
      return onSkipped(conversation, this.pass, unmapped(server.endpoint));
    }
    const check = makeCheck(conversation);
    const script = new Script(conversation, target, opens, this.pass, check, readAhead);
    this.#entries.set(conversation, { script, given: false });
  }

  data(
    conversation: Conversation,
    from: Side,
    memory: Uint8Array,
    at: number,
    length: number,
    time: number,
  ): void {
    const entry = this.#entries.get(conversation);
    if (entry === undefined || entry.script.dropped) return;
    const kind = from === conversation.client ? StepKind.SEND : StepKind.ANSWER;
    const due = this.#tools.timeline.due(time);
    entry.script.add(kind, due, this.#arena.keep(memory, at, length));
    this.#give(entry);
  }

  missing(conversation: Conversation, from: Side, length: number, time: number): void {
    const kind = from === conversation.client ? StepKind.MISSING : StepKind.ANSWER_MISSING;
    this.#step(conversation, kind, time, length);
  }

  finish(conversation: Conversation, from: Side, time: number): void {
    const kind = from === conversation.client ? StepKind.FINISH : StepKind.SERVER_END;
    this.#step(conversation, kind, time, 0);
  }

  close(conversation: Conversation, how: Ending, time: number, by?: Side): void {
    const entry = this.#entries.get(conversation);
    if (entry === undefined) return;
    const { script } = entry;
    if (how === "reset") {
      this.#step(
        conversation,
        by === conversation.client ? StepKind.RESET : StepKind.SERVER_END,
        time,
        0,
      );
    }
    this.#entries.delete(conversation);
    script.ending = how;
    if (entry.given) this.#tools.onMore(script);
    else {
      script.drop();
      this.#tools.onSkipped(conversation, script.pass, EMPTY);
    }
    if (this.chosen >= this.#selection.limit && this.#entries.size === 0) this.#tools.onEnough();
  }

  busy(): Promise<void> | undefined {
    return this.#tools.readAhead.room();
  }

  #isSelected({ number, client }: Conversation): boolean {
    const { clients } = this.#selection;
    if (this.#flows.size > 0 && !this.#flows.has(number)) return false;
    return clients.length === 0 ||
      clients.some((wanted) => isEndpoint(wanted, client.address, client.port));
  }

  #step(conversation: Conversation, kind: StepKind, time: number, length: number): void {
    const entry = this.#entries.get(conversation);
    if (entry === undefined || entry.script.dropped) return;
    entry.script.add(kind, this.#tools.timeline.due(time), undefined, length);
    // Without a byte there is nothing to play.
    if (entry.given || length > 0) this.#give(entry);
  }

  #give(entry: Entry): void {
    const { onScript, onMore } = this.#tools;
    if (entry.given) return onMore(entry.script);
    entry.given = true;
    onScript(entry.script);
  }
}
