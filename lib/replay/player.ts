/**
 * Plays many conversations at once, on one thread.
 *
 * @module
 */
import { constants } from "node:os";
import { errnoName } from "../../ffi/errno.ts";
import { Poller } from "../../ffi/poller.ts";
import type { TcpClients } from "../../ffi/tcp_client.ts";
import { Deadlines } from "../detect/deadlines.ts";
import type { Outcome } from "../vocabulary/replay.ts";
import type { Finished } from "./outcome.ts";
import { type Patience, Play, type Stage } from "./play.ts";
import { type ReadAhead, type Script, StepKind } from "./script.ts";
import { lacking, NO_ROOM, type Skip, STOPPED, TOO_LATE } from "./skip.ts";

const { EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM } = constants.errno;
/** What this host lacks, and may have again. */
const shortages: ReadonlySet<number> = new Set([EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM]);

/** How long the thread may sleep where nothing else is to be done, in milliseconds. */
const NAP = 1;
/** The longest wait for anything to happen, in milliseconds. */
const LONGEST_WAIT = 250;
/** Pause where this host lacks something, in milliseconds. */
const SHORTAGE_PAUSE = 20;
/** Conversations that are begun in one turn, so that those in play have theirs. */
const BEGINNINGS = 256;

/** Settings of {@linkcode Player}. */
export interface PlayerOptions extends Patience {
  /** Connections at once, at most. */
  readonly concurrency: number;
}

/** What a {@linkcode Player} works with. */
export interface PlayerTools {
  /** Makes the connections. */
  readonly clients: TcpClients;
  /** What was read of the capture and waits. */
  readonly readAhead: ReadAhead;
  /** Milliseconds of a clock that never goes back. */
  readonly clock: () => number;
  /** Gets each conversation that is over. */
  readonly onFinished: (result: Finished) => void;
  /** Where it gives a promise, nothing is begun before that resolves. */
  readonly busy?: () => Promise<void> | undefined;
}

/** See the module. */
export class Player implements Stage {
  /** The connections. */
  readonly clients: TcpClients;
  /** How long is waited. */
  readonly patience: Patience;
  /** When plays want their turn. */
  readonly deadlines: Deadlines<Play> = new Deadlines();
  now = 0;
  starving = 0;
  sent = 0;
  received = 0;
  messages = 0;
  /** Connections that are open. */
  open = 0;
  /** The most that were. */
  openMax = 0;
  /** Conversations that were not played, or not on, since that would have been too late. */
  late = 0;
  /** The most that a message or connection was late, in milliseconds. */
  lagMax = 0;
  /** How often a connection had to wait for what this host lacked, such as ports or file descriptors. */
  postponed = 0;
  readonly #tools: PlayerTools;
  readonly #concurrency: number;
  readonly #start: number;
  readonly #plays: (Play | undefined)[] = [];
  readonly #free: number[] = [];
  /** Slots of plays that ended in this turn, of which events may still come up. */
  readonly #freed: number[] = [];
  /** Scripts that are to be begun, in their order. */
  #queue: Script[] = [];
  #queueHead = 0;
  #again: Play[] = [];
  /** Plays by their scripts, for those who add to these. */
  readonly #byScript = new Map<Script, Play>();
  /** Plays that have got more to play. */
  readonly #fed = new Set<Play>();
  readonly #due: Play[] = [];
  readonly #poller: Poller;
  #resting = false;
  #readAll = false;
  #pauseUntil = 0;

  /** Times count from now on. */
  constructor(options: PlayerOptions, tools: PlayerTools) {
    this.patience = options;
    this.clients = tools.clients;
    this.#tools = tools;
    this.#concurrency = options.concurrency;
    this.#start = tools.clock();
    this.#poller = new Poller([tools.clients.fd]);
  }

  /** How many scripts wait to be begun. */
  get queued(): number {
    return this.#queue.length - this.#queueHead;
  }

  /** Takes a script that is to be played; it may get longer, see {@linkcode Player.fed}. */
  take(script: Script): void {
    this.#queue.push(script);
    this.#wake();
  }

  /** A script has got longer, or has ended. */
  fed(script: Script): void {
    const play = this.#byScript.get(script);
    if (play === undefined) return;
    this.#fed.add(play);
    this.#wake();
  }

  /** There will be no more scripts, and all have ended. */
  readAll(): void {
    this.#readAll = true;
    this.#wake();
  }

  isLate(due: number): boolean {
    const lag = this.now - due;
    if (lag > this.lagMax) this.lagMax = lag;
    const late = lag > this.patience.maxLag;
    if (late) this.late++;
    return late;
  }

  again(play: Play): void {
    this.#again.push(play);
  }

  finished(play: Play, result: Finished): void {
    this.#byScript.delete(play.script);
    this.#fed.delete(play);
    this.#plays[play.slot] = undefined;
    this.#freed.push(play.slot);
    this.open--;
    this.#tools.onFinished(result);
  }

  /** Plays until all is played, or `stop`; then what is left is skipped. */
  async run(stop: AbortSignal): Promise<void> {
    const wake = (): void => this.#wake();
    stop.addEventListener("abort", wake);
    try {
      while (!stop.aborted && !(this.#readAll && this.open === 0 && this.queued === 0)) {
        await this.#tools.busy?.();
        const moved = this.#turn();
        this.#tools.readAhead.release();
        if (moved) await turnOfOthers();
        else if (!this.#untie()) await this.#rest();
      }
      this.#skipAll(STOPPED);
    } finally {
      stop.removeEventListener("abort", wake);
      await this.#poller.close();
    }
  }

  /** One round of everything; false where nothing happened. */
  #turn(): boolean {
    this.now = this.#tools.clock() - this.#start;
    let moved = this.#begin();
    const count = this.#lookAround(moved);
    for (let i = 0; i < count; i++) {
      this.#plays[this.clients.keys[i]!]?.happened(this.clients.happenings[i]!);
    }
    moved ||= count > 0 || this.#again.length > 0 || this.#fed.size > 0;
    const again = this.#again;
    this.#again = [];
    for (const play of again) if (!play.over) play.again();
    for (const play of this.#fed) {
      this.#fed.delete(play);
      play.more();
    }
    this.deadlines.due(this.now, this.#due);
    for (const play of this.#due) play.expire();
    this.#free.push(...this.#freed.splice(0));
    return moved || this.#due.length > 0;
  }

  /** Looks for what happened; naps where only that can go on, and is likely to come soon. */
  #lookAround(moved: boolean): number {
    const count = this.clients.look(0);
    const busy = moved || this.#again.length > 0 || this.#fed.size > 0;
    // While the capture is being read, the event loop has to turn.
    const idle = this.#readAll || this.#tools.readAhead.full;
    if (count > 0 || busy || !idle || this.open === this.starving) return count;
    if (this.#nextDue() - this.now < NAP) return count;
    const found = this.clients.look(NAP);
    this.now = this.#tools.clock() - this.#start;
    return found;
  }

  /** Begins the conversations whose time has come; false where there was none. */
  #begin(): boolean {
    let begun = 0;
    while (this.queued > 0 && begun < BEGINNINGS && this.now >= this.#pauseUntil) {
      const script = this.#queue[this.#queueHead]!;
      if (script.opens > this.now) break;
      if (this.now - script.opens > this.patience.maxLag) {
        this.isLate(script.opens);
        this.#queueHead++;
        this.#skip(script, TOO_LATE);
        continue;
      }
      if (this.open >= this.#concurrency) break;
      if (!this.#open(script)) break;
      this.#queueHead++;
      begun++;
    }
    if (this.#queueHead > 1024 && this.#queueHead * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    return begun > 0;
  }

  /** Begins a conversation; false where this host lacks something for it at the moment. */
  #open(script: Script): boolean {
    const first = script.next;
    if (first?.kind === StepKind.MISSING) {
      this.#skip(script, lacking(first.length));
      return true;
    }
    const slot = this.#free.pop() ?? this.#plays.length;
    const fd = this.clients.open(script.target.address, slot);
    if (fd < 0) {
      if (slot === this.#plays.length) this.#plays.push(undefined);
      this.#free.push(slot);
      if (shortages.has(-fd) && (this.open > 0 || -fd === EADDRNOTAVAIL)) {
        this.postponed++;
        this.#pauseUntil = this.now + SHORTAGE_PAUSE;
        return false;
      }
      this.#leave(script, "refused", errnoName(-fd));
      return true;
    }
    const play = new Play(this, slot, script, fd);
    this.#plays[slot] = play;
    this.#byScript.set(script, play);
    this.open++;
    if (this.open > this.openMax) this.openMax = this.open;
    return true;
  }

  /**
   * Where the plays wait for the capture, and the reader for room that only scripts in the queue could give, the last
   * of these is given up. False where that is not so.
   */
  #untie(): boolean {
    const { readAhead } = this.#tools;
    if (!readAhead.full || this.starving < this.open) return false;
    if (this.open < this.#concurrency && this.queued > 0) return false;
    if (this.queued === 0) readAhead.release(true);
    else this.#skip(this.#queue.pop()!, NO_ROOM);
    return true;
  }

  #skipAll(skip: Skip): void {
    for (const play of this.#plays) play?.skip(skip);
    while (this.queued > 0) this.#skip(this.#queue[this.#queueHead++]!, skip);
  }

  #skip(script: Script, skip: Skip): void {
    this.#leave(script, "skipped", skip.text, skip);
  }

  /** Ends what was never begun. */
  #leave(script: Script, outcome: Outcome, reason: string, skip?: Skip): void {
    script.drop();
    const nothing = { sent: 0, received: 0, unmet: 0, end: "open", took: 0 } as const;
    this.#tools.onFinished({ script, outcome, reason, skip, fields: {}, ...nothing });
  }

  /** When something is due next. */
  #nextDue(): number {
    const head = this.queued > 0 && this.open < this.#concurrency
      ? Math.max(this.#queue[this.#queueHead]!.opens, this.#pauseUntil)
      : Infinity;
    return Math.min(head, this.deadlines.next);
  }

  async #rest(): Promise<void> {
    const wait = Math.min(this.#nextDue() - this.now, LONGEST_WAIT);
    this.#resting = true;
    try {
      await this.#poller.wait(Math.max(wait, 0.05) * 1000);
    } finally {
      this.#resting = false;
    }
  }

  #wake(): void {
    if (!this.#resting) return;
    this.#resting = false;
    this.#poller.wake();
  }
}

/** Lets the event loop do what else there is. */
function turnOfOthers(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
