/**
 * The healing of one flow: what its replica lacks is fetched from the recorder and given to it, until it has
 * acknowledged it.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { PcapError } from "../../ffi/libpcap.ts";
import { after, earlier, later } from "../flow/sequence.ts";
import type { FlowView } from "./flow_view.ts";
import { type Gap, Gaps } from "./gaps.ts";
import type { FlowAccount, Ledger } from "./ledger.ts";
import type { Surroundings } from "./surroundings.ts";
import { lengthOf, type Range, Ranges } from "./ranges.ts";
import { type FetchReceiver, RecorderRefused } from "./recorder_client.ts";

/** Bytes asked for in one request, and under way for one flow. */
const FETCH = 256 * 1024;
const FLOW_BYTES = 1 << 20;
/** How much is given to a replica of which nobody knows what it lacks: at first, and at most. */
const FIRST_REACH = 16 * 1024;
const LONGEST_REACH = 512 * 1024;
/** Until bytes that the replica does not acknowledge are given to it again, in milliseconds: at first, and at most. */
const FIRST_RETRY = 5;
const LONGEST_RETRY = 200;
/** Until the recorder is asked again for what it has not seen yet, in milliseconds: at first, and at most. */
const FIRST_AGAIN = 0.5;
const LONGEST_AGAIN = 20;
/** How long the recorder may not have seen what the primary has acknowledged, in milliseconds. */
const NOT_SEEN = 1000;
/** A flow that gets no byte for this long is reported, in milliseconds; the attempts go on. */
const PATIENCE = 5000;
/** A closed window is asked about this often, in milliseconds. */
const PROBE = 100;
/** A replica that was given what it lacks is asked for its acknowledgement after this, in milliseconds. */
const ASK = 1;
/** A replica that acknowledges nothing for this long lacks what comes next, in milliseconds. */
const STILL = 30;

/** See the module. */
export class Healing {
  /** The flow. */
  readonly flow: FlowView;
  /** Why bytes are lost for good; undefined where none are. */
  lost: string | undefined;
  /** What the primary has acknowledged by the recorder's account, which may be more than the tap has shown. */
  acknowledged: number | undefined;
  /** Whether the flow was reported as unprotected. */
  reported = false;
  readonly #around: Surroundings;
  readonly #account: FlowAccount;
  readonly #gaps = new Gaps();
  /** To be fetched and given. */
  readonly #wanted = new Ranges();
  /** Not seen by the recorder yet. */
  readonly #unseen = new Ranges();
  /** Asked for. */
  readonly #asked = new Ranges();
  /** Given, and not acknowledged. */
  readonly #given = new Ranges();
  #requests = 0;
  #ack: number;
  #progress: number;
  #givenAt = 0;
  #retry = FIRST_RETRY;
  #again = FIRST_AGAIN;
  #askAgainAt = 0;
  #unseenSince: number | undefined;
  #reach = FIRST_REACH;
  #reached: number | undefined;
  #askedAt: number | undefined;
  #probedAt = -Infinity;

  /** Begins with the flow as it was read last. */
  constructor(flow: FlowView, around: Surroundings) {
    this.flow = flow;
    this.#around = around;
    this.#account = around.ledger.open(flow.ends);
    this.#ack = flow.replicaAck;
    this.#progress = around.now();
  }

  /** Whether nothing is left to do. */
  get done(): boolean {
    return this.#gaps.empty && this.#requests === 0;
  }

  /** How many bytes the replica lacks, as far as is known. */
  get lacking(): number {
    return (this.#end - this.#ack) >>> 0;
  }

  /** Notes that the replica lacks exactly `range`, since the time `since`. */
  heal(range: Range, since: number): void {
    if (this.#open(range, since, true)) this.#want(range);
  }

  /** Notes that the replica is to get as far as `to`, though nobody knows what of it it lacks. */
  catchUp(to: number, since: number): void {
    const from = this.flow.replicaAck;
    // Where it is known what is lacking next, that comes first.
    if (!this.#gaps.covers(from)) this.#open({ from, to }, since, false);
  }

  #open(range: Range, since: number, exact: boolean): boolean {
    const { from, to } = range;
    const lacking = after(to, from) && after(to, this.flow.replicaAck);
    if (this.lost !== undefined || !lacking) return false;
    if (this.done) this.#progress = this.#around.now();
    if (!this.#gaps.add(range, since, exact)) return false;
    this.#count("gaps", 1);
    this.#count("gap_bytes", lengthOf(range));
    return true;
  }

  /** Does what can be done now. Returns false where the flow has gone. */
  step(): boolean {
    if (this.#around.stopped || !this.flow.refresh()) return false;
    this.#look();
    if (this.lost !== undefined || this.#gaps.empty) return true;
    const now = this.#around.now();
    this.#fill(now);
    this.#ask(now);
    const patience = now - this.#progress;
    if (patience > PATIENCE && !this.reported) {
      const why = !this.#around.recorder.connected
        ? "the recorder cannot be reached"
        : this.#given.has(this.#ack)
        ? "the replica does not take them"
        : "the recorder has not given them";
      this.#report(`the replica lacks ${this.lacking} bytes of the client: ${why}`);
    }
    return true;
  }

  /**
   * The flow has gone. After the takeover, bytes that its replica never got are lost; before, its primary has seen to
   * its end.
   */
  abandon(): void {
    for (const ranges of [this.#wanted, this.#unseen]) ranges.truncate(this.flow.primaryAck);
    const bytes = this.#wanted.total + this.#unseen.total;
    if (this.lost !== undefined || !this.#around.settling) return;
    if (bytes === 0) {
      // In step with its client, it is let go as soon as it has all.
      const all = this.#gaps.take(this.#end);
      for (const gap of all) this.#close(gap, this.#around.now());
      return;
    }
    this.#lose(bytes, `the flow ended before the replica got ${bytes} bytes of the client`);
  }

  /** Takes in how far the replica has come. */
  #look(): void {
    const ack = this.flow.replicaAck;
    if (ack === this.#ack && this.#gaps.empty) return;
    const now = this.#around.now();
    if (after(ack, this.#ack)) {
      this.#ack = ack;
      this.#progress = now;
      this.#retry = FIRST_RETRY;
      this.#again = FIRST_AGAIN;
      this.#unseenSince = undefined;
    }
    for (const ranges of [this.#wanted, this.#unseen, this.#asked, this.#given]) ranges.cut(ack);
    for (const gap of this.#gaps.take(ack)) this.#close(gap, now);
  }

  #close(gap: Gap, now: number): void {
    if (gap.given === 0) return this.#count("mended", 1);
    const took = Math.max(0, now - gap.since);
    const bytes = Math.min(gap.given, lengthOf(gap));
    this.#count("healed", 1);
    this.#count("healed_bytes", bytes);
    this.#around.ledger.took(took);
    this.#around.onHealed(this.flow.ends, gap, bytes, took);
  }

  /** Decides what is to be asked for next. */
  #fill(now: number): void {
    if (!this.#unseen.empty && now >= this.#askAgainAt) {
      for (const range of this.#unseen) this.#wanted.add(range.from, range.to);
      this.#unseen.clear();
    }
    const ack = this.#ack;
    const quiet = now - Math.max(this.#givenAt, this.#progress);
    if (this.#given.has(ack)) {
      // What stands further behind waits in the replica's queue until this has come.
      if (quiet >= this.#retry) this.#repeat();
      else if (quiet >= ASK && this.#askedAt !== ack) this.#askForAck(ack);
      return;
    }
    const coming = [this.#wanted, this.#unseen, this.#asked].some((ranges) => ranges.has(ack));
    const stuck = !coming && now - this.#progress >= STILL;
    if (stuck) this.#reached = undefined;
    if (stuck || this.#gaps.isUnknownAt(ack)) this.#reachOut(ack);
  }

  /**
   * Wants the next bytes of a replica of which nobody knows what it lacks: more and more of them while it takes all,
   * and few where it has got over them by itself, because it had what follows already.
   */
  #reachOut(ack: number): void {
    const ahead = this.#reached === undefined ? -1 : (this.#reached - ack) | 0;
    if (ahead > this.#reach / 2) return;
    const first = this.#around.settling ? LONGEST_REACH : FIRST_REACH;
    this.#reach = ahead >= 0 ? Math.min(this.#reach * 2, LONGEST_REACH) : first;
    const from = ahead > 0 ? this.#reached! : ack;
    this.#reached = (ack + this.#reach) >>> 0;
    this.#want({ from, to: earlier(this.#end, this.#reached) });
  }

  /** Gives again what the replica has not acknowledged. */
  #repeat(): void {
    this.#count("retries", 1);
    this.#retry = Math.min(this.#retry * 2, LONGEST_RETRY);
    const to = earlier(this.#end, (this.#ack + FIRST_REACH) >>> 0);
    this.#given.remove(this.#ack, to);
    this.#want({ from: this.#ack, to });
  }

  #askForAck(ack: number): void {
    this.#askedAt = ack;
    this.#try(() => this.#around.injection.probe(this.flow.place, this.#around.settling));
  }

  /** Where the gaps end. */
  get #end(): number {
    return this.#gaps.end(this.#ack);
  }

  /** Wants what of `range` is neither under way nor given. */
  #want(range: Range): void {
    this.#wanted.add(later(range.from, this.#ack), range.to);
    for (const ranges of [this.#asked, this.#given]) {
      for (const { from, to } of ranges) this.#wanted.remove(from, to);
    }
  }

  #ask(now: number): void {
    const { recorder } = this.#around;
    if (!recorder.connected) return;
    while (this.#asked.total < FLOW_BYTES) {
      const first = this.#wanted.first;
      if (first === undefined) return;
      const { from } = first;
      const to = [first.to, this.flow.right, (from + FETCH) >>> 0].reduce(earlier);
      if (!after(to, from)) return this.#probe(now);
      const range = { from, to };
      if (!recorder.hasRoom(lengthOf(range))) return this.#around.onWaiting(this);
      this.#wanted.remove(from, to);
      this.#fetch(range);
    }
  }

  #fetch(range: Range): void {
    const receiver: FetchReceiver = {
      segment: (seq, data) => this.#receive(seq, data),
      fin: (seq) => this.#receiveFin(seq),
      missing: (part, reason) => this.#miss(part, reason),
    };
    this.#asked.add(range.from, range.to);
    this.#requests += 1;
    this.#count("requests", 1);
    this.#around.recorder.fetch(this.flow.ends, range, receiver).catch((error) => {
      if (error instanceof RecorderRefused) this.#miss(range, NOT_YET, error.message);
      else if (this.lost === undefined) this.#wanted.add(range.from, range.to);
    }).finally(() => {
      this.#asked.remove(range.from, range.to);
      this.#requests -= 1;
      this.step();
      this.#around.onRoom();
    });
  }

  /** Gives the replica bytes that have come, as far as its window goes. */
  #receive(seq: number, data: Uint8Array): void {
    this.#count("fetched_bytes", data.length);
    if (this.lost !== undefined || !this.flow.refresh()) return;
    this.#look();
    const { place } = this.flow;
    const { injection, settling } = this.#around;
    const end = (seq + data.length) >>> 0;
    const [room, most] = [injection.room(place), injection.most(place)];
    let at = later(seq, this.#ack);
    for (let sent = 0; after(end, at); sent++) {
      if ((most > room || sent % 16 === 15) && !this.flow.refresh()) return;
      const to = [end, (at + most) >>> 0, this.flow.right].reduce(earlier);
      if (!after(to, at)) break;
      const payload = data.subarray((at - seq) >>> 0, (to - seq) >>> 0);
      if (!this.#try(() => injection.data(place, settling, at, payload))) break;
      this.#gave(at, to, Math.ceil(payload.length / room));
      at = to;
    }
    if (after(end, at)) this.#wanted.add(at, end);
    this.#asked.remove(seq, end);
    this.step();
  }

  #receiveFin(seq: number): void {
    const behind = (seq + 1) >>> 0;
    if (this.lost !== undefined || !this.flow.refresh() || !after(behind, this.flow.replicaAck)) {
      return;
    }
    const { injection, settling } = this.#around;
    if (!this.#try(() => injection.fin(this.flow.place, settling, seq))) return;
    this.#gave(seq, behind, 1);
    if (this.flow.refresh()) this.#look();
  }

  #gave(from: number, to: number, segments: number): void {
    this.#given.add(from, to);
    this.#givenAt = this.#around.now();
    this.#count("injected_segments", segments);
    this.#count("injected_bytes", (to - from) >>> 0);
    this.#gaps.give(from, to);
  }

  /** A frame that cannot be sent now is sent again later, as one that the replica did not take. */
  #try(send: () => void): boolean {
    try {
      send();
      return true;
    } catch (error) {
      if (error instanceof PcapError || error instanceof SystemError) return false;
      throw error;
    }
  }

  #miss(range: Range, reason: string, words = reason): void {
    const now = this.#around.now();
    const from = later(range.from, this.#ack);
    // What the primary has not acknowledged, the client sends again.
    const end = later(this.flow.primaryAck, this.acknowledged ?? this.flow.primaryAck);
    const to = earlier(range.to, end);
    if (this.lost !== undefined) return;
    if (!after(to, from)) {
      if (after(range.to, end)) this.#leave(end);
      return;
    }
    this.#unseenSince ??= now;
    if (reason === NOT_YET && now - this.#unseenSince < NOT_SEEN) {
      this.#count("not_seen", 1);
      this.#unseen.add(from, to);
      this.#askAgainAt = now + this.#again;
      this.#again = Math.min(this.#again * 2, LONGEST_AGAIN);
      return;
    }
    const bytes = (to - from) >>> 0;
    this.#lose(bytes, `the recorder lacks ${bytes} bytes of the client: ${words}`);
  }

  #lose(bytes: number, reason: string): void {
    this.lost = reason;
    this.#account.lost_reason = reason;
    this.#count("lost_bytes", bytes);
    for (const ranges of [this.#wanted, this.#unseen, this.#given]) ranges.clear();
    this.#report(reason);
  }

  /** Leaves to the client what comes from `seq` on. */
  #leave(seq: number): void {
    this.#gaps.truncate(seq);
    for (const ranges of [this.#wanted, this.#unseen]) ranges.truncate(seq);
  }

  #report(reason: string): void {
    if (this.reported) return;
    this.reported = true;
    this.#around.ledger.unprotected += 1;
    this.#around.onUnprotected(this.flow.ends, reason);
  }

  /** Asks a replica whose window is closed how it is now. */
  #probe(now: number): void {
    if (now - this.#probedAt < PROBE) return;
    this.#probedAt = now;
    this.#try(() => this.#around.injection.probe(this.flow.place, this.#around.settling));
  }

  #count(entry: Parameters<Ledger["add"]>[1], amount: number): void {
    this.#around.ledger.add(this.#account, entry, amount);
  }
}

/** The recorder's word for bytes that may still come. */
const NOT_YET = "not seen";
