/**
 * One conversation in play: what its client does next.
 *
 * @module
 */
import { constants } from "node:os";
import { errnoName } from "../../ffi/errno.ts";
import { Happening, INBOX_SIZE, type TcpClients } from "../../ffi/tcp_client.ts";
import type { Deadlines, Timed } from "../detect/deadlines.ts";
import type { AnswerCheck } from "./answer_check.ts";
import type { LiveEnd, Outcome } from "../vocabulary/replay.ts";
import type { Finished } from "./outcome.ts";
import { type Script, type Step, StepKind } from "./script.ts";
import { lacking, type Skip, TOO_LATE } from "./skip.ts";

const { EAGAIN, ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT } = constants.errno;

/** How far the capture's and the live bytes may be apart, in bytes: whoever is ahead waits. */
const MAX_AHEAD = 64 << 10;
/** What is told once the server's side has ended: there is nothing behind what can be received now. */
const ENDS = Happening.SERVER_DONE | Happening.ERROR | Happening.HANG_UP;
/** Full inboxes that one turn takes from a connection, so that others have theirs. */
const MAX_RECEIVES = 4;

/** How long a player waits, and how much it takes. Times in milliseconds. */
export interface Patience {
  /** The longest wait: for the connection, for an answer, and for the server to take bytes. */
  readonly wait: number;
  /** An answer that has begun, and lacks bytes, has ended when nothing has come for so long. */
  readonly settle: number;
  /** How late a message may be, by the capture's time. */
  readonly maxLag: number;
  /** Bytes more than captured after which a connection is reset. */
  readonly excess: number;
}

/** What the plays of one player share. */
export interface Stage {
  /** The connections. */
  readonly clients: TcpClients;
  /** How long is waited. */
  readonly patience: Patience;
  /** When plays want their turn. */
  readonly deadlines: Deadlines<Play>;
  /** The present, in milliseconds since the begin of the play. */
  now: number;
  /** Plays that wait for the capture. */
  starving: number;
  /** Bytes sent so far. */
  sent: number;
  /** Bytes received so far. */
  received: number;
  /** Messages of clients sent so far: what stands between two answers. */
  messages: number;
  /** Whether what was due then is too late now; it is counted. */
  isLate(due: number): boolean;
  /** Takes a play again in the next turn, since it has more to receive. */
  again(play: Play): void;
  /** A play is over. */
  finished(play: Play, result: Finished): void;
}

/** See the module. */
export class Play implements Timed {
  deadline: number = Infinity;
  heapIndex: number = -1;
  /** Its place among the plays. */
  readonly slot: number;
  /** What it plays. */
  readonly script: Script;
  /** Whether it has ended. */
  over = false;
  readonly #stage: Stage;
  readonly #check: AnswerCheck;
  readonly #fd: number;
  readonly #begin: number;
  #connected = false;
  #end: LiveEnd = "open";
  /** Whether the capture's server has ended its side by now. */
  #serverEnded = false;
  /** What the present wait is for. */
  #waiting: Step | "end" | "room" | undefined;
  /** When it began. */
  #since: number;
  /** When bytes came last. */
  #latest = 0;
  /** How many bytes had come when the client last spoke. */
  #spoken = 0;
  /** Bytes of answers that are not waited for any more. */
  #forgone = 0;
  /** Answers of which some were forgone. */
  #unmet = 0;
  /** Bytes that the captured server has said up to here. */
  #expected = 0;
  #received = 0;
  #sent = 0;
  /** How much of the next step was sent. */
  #sentOfStep = 0;
  /** Whether what the client sends next is a new message, and not the rest of one. */
  #turn = true;
  #starving = false;
  #paused = false;

  /** Plays `script` on connection `fd`, which is being made. */
  constructor(stage: Stage, slot: number, script: Script, fd: number) {
    this.#stage = stage;
    this.slot = slot;
    this.script = script;
    this.#check = script.check;
    this.#fd = fd;
    this.#begin = this.#since = stage.now;
    this.#arm(stage.now + stage.patience.wait);
  }

  /** Something happened on the connection: bits of {@linkcode Happening}. */
  happened(what: number): void {
    if (!this.#connected && !this.#connect(what)) return;
    if ((what & ENDS) !== 0) this.#receive(true);
    else if ((what & Happening.READABLE) !== 0) this.#receive(false);
    this.advance();
  }

  /** There is more to receive. */
  again(): void {
    this.#receive(true);
    this.advance();
  }

  /** The script has got longer, or has ended. */
  more(): void {
    if (this.#starving) this.advance();
  }

  /** Its deadline has passed. */
  expire(): void {
    this.#stage.deadlines.delete(this);
    if (this.#connected) return this.advance();
    const at = this.#since + this.#stage.patience.wait;
    if (this.#stage.now < at) this.#arm(at);
    else this.#close("timed_out", "no connection");
  }

  /** Does what can be done now. */
  advance(): void {
    if (!this.#connected) return;
    const { script } = this;
    while (!this.over) {
      const step = script.next;
      if (step === undefined && script.ending === undefined) return this.#starve(true);
      this.#starve(false);
      if (step === undefined) {
        if (this.#met("end")) this.#finish();
        return;
      }
      if (!this.#act(step)) return;
      script.pop();
    }
  }

  /** Plays it no further; where the answers differ so far, that counts more. */
  skip(skip: Skip): void {
    if (this.#check.differs) this.#close(undefined, skip.text);
    else this.#close("skipped", skip.text, false, skip);
  }

  /** Whether the connection is made; or else it has failed, or is not made yet. */
  #connect(what: number): boolean {
    if ((what & Happening.ERROR) !== 0) {
      const errno = this.#stage.clients.errorOf(this.#fd);
      if (errno === ETIMEDOUT) this.#close("timed_out", "no connection");
      else if (errno !== ECONNRESET && errno !== EPIPE) {
        this.#close("refused", errno === ECONNREFUSED ? undefined : errnoName(errno));
      } else this.#end = "reset";
    }
    this.#connected = !this.over && (what & (Happening.WRITABLE | Happening.ERROR)) !== 0;
    return this.#connected;
  }

  /** Does the next step of the script; false where it must wait, or the play is over. */
  #act(step: Step): boolean {
    const check = this.#check;
    switch (step.kind) {
      case StepKind.ANSWER:
      case StepKind.ANSWER_MISSING:
        if (this.#expected - this.#received > MAX_AHEAD && !this.#met(step)) return false;
        this.#expected += step.length;
        if (step.kind === StepKind.ANSWER) check.captured(step.bytes);
        else check.capturedMissing(step.length);
        this.#turn = true;
        this.#resume();
        return !this.over;
      case StepKind.SERVER_END:
        return this.#met(step) && this.#awaitEnd(step);
      case StepKind.SEND:
        return this.#met(step) && this.#send(step);
      case StepKind.MISSING:
        if (this.script.isDeaf || this.#met(step)) this.skip(lacking(step.length));
        return false;
      case StepKind.FINISH:
        if (!this.#met(step) || !this.#due(step)) return false;
        this.#stage.clients.finish(this.#fd);
        return true;
      case StepKind.RESET:
        if (this.#met(step) && this.#due(step)) this.#finish(true);
        return false;
    }
  }

  /** Whether all answers have come that the capture has before a step, or are waited for no longer. */
  #met(before: Step | "end"): boolean {
    const check = this.#check;
    const lacking = this.#expected - this.#received;
    if (check.met || this.#forgone > 0 && lacking <= this.#forgone) return true;
    if (this.#end !== "open") {
      this.#endedEarly();
      return false;
    }
    const { now, patience } = this.#stage;
    this.#wait(before);
    const begun = this.#received > this.#spoken;
    const latest = this.#since + patience.wait;
    if (now >= latest) {
      this.#close("timed_out", begun ? "the answer takes too long" : "no answer");
      return false;
    }
    const settled = Math.max(begun ? this.#latest : now, this.#since) + patience.settle;
    if (begun && now >= settled) {
      this.#forgone = Math.max(0, lacking);
      this.#unmet++;
      return true;
    }
    this.#arm(Math.min(settled, latest));
    return false;
  }

  /** Whether a step's time has come. */
  #due(step: Step): boolean {
    if (this.#stage.now >= step.due) return true;
    this.#arm(step.due);
    return false;
  }

  #send(step: Step): boolean {
    if (this.#end !== "open" && !(this.#serverEnded && this.#end === "fin")) {
      this.#endedEarly();
      return false;
    }
    if (!this.#due(step)) return false;
    const stage = this.#stage;
    if (this.#sentOfStep === 0 && stage.isLate(step.due)) {
      this.skip(TOO_LATE);
      return false;
    }
    if (this.#sentOfStep === 0) {
      this.#check.capturedClient(step.bytes);
      this.#check.liveClient();
    }
    const rest = this.#sentOfStep === 0 ? step.bytes : step.bytes.subarray(this.#sentOfStep);
    const count = stage.clients.send(this.#fd, rest);
    if (count < 0 && count !== -EAGAIN) {
      // What the server said before it reset the connection counts.
      this.#receive(true);
      this.#end = "reset";
      if (!this.over) this.#endedEarly();
      return false;
    }
    if (count > 0) {
      if (this.#turn) stage.messages++;
      this.#turn = false;
      this.#waiting = undefined;
      this.#spoken = this.#received;
      this.#sent += count;
      stage.sent += count;
      this.#sentOfStep += count;
      if (this.#sentOfStep === step.length) {
        this.#sentOfStep = 0;
        return true;
      }
    }
    this.#wait("room");
    const latest = this.#since + stage.patience.wait;
    if (stage.now >= latest) this.#close("timed_out", "the server takes no more bytes");
    else this.#arm(latest);
    return false;
  }

  /** Waits for the server's end; where it does not come, the play goes on without. */
  #awaitEnd(step: Step): boolean {
    if (!this.#serverEnded) this.#check.capturedEnd();
    this.#serverEnded = true;
    this.#resume();
    if (this.#end !== "open") return true;
    this.#wait(step);
    const latest = Math.max(this.#since, step.due) + this.#stage.patience.settle;
    if (this.#stage.now >= latest) return true;
    this.#arm(latest);
    return false;
  }

  #wait(what: Step | "end" | "room"): void {
    if (this.#waiting === what) return;
    this.#waiting = what;
    this.#since = this.#stage.now;
  }

  /** Sees to it that the play gets its turn at `at` or before. */
  #arm(at: number): void {
    if (this.heapIndex < 0 || at < this.deadline) this.#stage.deadlines.set(this, at);
  }

  #starve(starving: boolean): void {
    if (this.#starving === starving) return;
    this.#starving = starving;
    this.#stage.starving += starving ? 1 : -1;
  }

  /** Receives what has come; with `all` up to the end that is known to be near. */
  #receive(all: boolean): void {
    const check = this.#check;
    const stage = this.#stage;
    const { clients } = stage;
    if (this.#end !== "open") return;
    for (let i = 0; i < MAX_RECEIVES; i++) {
      if (this.#ahead) {
        this.#paused = true;
        return;
      }
      const count = clients.receive(this.#fd);
      if (count === 0) this.#end = "fin";
      else if (count < 0 && count !== -EAGAIN) this.#end = "reset";
      if (count <= 0) return;
      this.#latest = stage.now;
      this.#received += count;
      stage.received += count;
      check.live(clients.inbox.subarray(0, count));
      if (this.#received - this.#expected > stage.patience.excess) {
        return this.#close(undefined, "the server says too much", true);
      }
      if (count < INBOX_SIZE && !all) return;
    }
    stage.again(this);
  }

  /** Whether the live server is so far ahead that it has to wait. */
  get #ahead(): boolean {
    return this.#received - this.#expected > MAX_AHEAD && !this.#serverEnded &&
      !this.#check.differs;
  }

  /** Receives what had to wait for the capture. */
  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#stage.again(this);
  }

  /** The server has ended its side where the capture's goes on. */
  #endedEarly(): void {
    if (this.#end === "reset") return this.#close("reset");
    this.#close("early", "the server closed the connection early");
  }

  /** All is played. */
  #finish(reset = false): void {
    this.#close(undefined, undefined, reset);
  }

  /** Ends the play, with the comparison's outcome unless there is one that counts more. */
  #close(
    outcome: Outcome | "early" | undefined,
    reason?: string,
    reset = false,
    skip?: Skip,
  ): void {
    if (this.over) return;
    this.over = true;
    const { clients, deadlines, now } = this.#stage;
    this.#starve(false);
    deadlines.delete(this);
    if (reset) clients.reset(this.#fd);
    else clients.close(this.#fd);
    this.script.drop();
    const verdict = this.#check.finish(!this.#serverEnded);
    this.#stage.finished(this, {
      ...{ script: this.script, outcome: decide(outcome, verdict.outcome), reason },
      ...{ sent: this.#sent, received: this.#received, unmet: this.#unmet, end: this.#end },
      ...{ took: now - this.#begin, fields: verdict.fields, skip },
    });
  }
}

/** The outcome of a play: what the answers show, unless something else counts more. */
function decide(outcome: Outcome | "early" | undefined, shown: Outcome): Outcome {
  // As far as they came they may be equal, but the captured server went on.
  if (outcome === "early") return shown === "equal" ? "shorter" : shown;
  return outcome ?? shown;
}
