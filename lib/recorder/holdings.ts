/**
 * The bytes of all flows: what is stored, given up and dropped, and the count of it.
 *
 * @module
 */
import { later } from "../flow/sequence.ts";
import { BLOCK, blockOf, BLOCKS_OF_SPACE, BlockStore, type Reserve } from "./block_store.ts";
import { Flag, FLOW_COST, FlowStates } from "./flow_states.ts";
import { Ledger } from "./ledger.ts";

/** Where memory runs short, so many of the oldest blocks are looked at for one that the primary acknowledged. */
const LOOKS = 32;
/** Most flows at once. */
const MAX_FLOWS = 65536;

/** Why bytes were dropped that the replica had not acknowledged: names in {@linkcode Ledger}. */
export type DropReason = "dropped_budget" | "dropped_window" | "dropped_closed";

/** See the module. A flow is known by its slot. */
export class Holdings {
  /** Totals since the start. */
  readonly ledger: Ledger = new Ledger();
  /** The state of each flow. */
  readonly states: FlowStates;
  /** The memory. */
  readonly store: BlockStore;
  /** Bytes of a flow that may be kept on either side of the primary's acknowledgement. */
  readonly window: number;
  /** Flows with bytes that were dropped and are to be reported. */
  readonly pending: number[] = [];
  readonly #maxBlocks: number;

  /** Takes `budget` bytes of memory, most of them from `reserve`; `seed` is a random number. */
  constructor(budget: number, window: number, seed: number, reserve: Reserve) {
    const most = Math.floor(budget / 8 / FLOW_COST);
    const flows = Math.max(16, Math.min(MAX_FLOWS, most));
    this.states = new FlowStates(flows);
    this.store = new BlockStore(budget - flows * FLOW_COST, seed, reserve);
    this.window = window;
    this.#maxBlocks = Math.max(2, Math.ceil(window / BLOCK) + 1);
  }

  /**
   * Stores `length` bytes of `source`, from `at` on, as those of a flow from sequence number `seq` on. Returns the
   * sequence number of the first that differs from what was there, 32 bits unsigned; -1 where none does.
   */
  keep(slot: number, seq: number, source: DataView, at: number, length: number): number {
    if (length > 0 && this.append(slot, seq, source, at, length)) return -1;
    const { states, ledger, store } = this;
    const early = states.base[slot]! - seq | 0;
    if (early > 0) {
      // Given up already, so that it cannot be compared either.
      const old = Math.min(early, length);
      ledger.repeated += old;
      at += old;
      length -= old;
      seq = seq + old | 0;
    }
    const known = (states.flags[slot]! & Flag.PRIMARY) !== 0;
    const room = (known ? states.primary[slot]! : states.end[slot]!) + this.window - seq | 0;
    if (length > room) {
      const kept = Math.max(0, room);
      ledger.outside += length - kept;
      length = kept;
    }
    let diverged = -1;
    while (length > 0) {
      const inBlock = seq & BLOCK - 1;
      const piece = Math.min(length, BLOCK - inBlock);
      const block = this.#blockFor(slot, blockOf(seq));
      if (block < 0) {
        ledger.outside += piece;
      } else {
        store.put(block, inBlock, source, at, piece);
        const { stored, diverged: differs } = store.result;
        states.seen[slot]! += stored;
        states.held[slot]! += stored;
        ledger.seen += stored;
        ledger.repeated += piece - stored;
        if (differs >= 0 && diverged < 0) diverged = seq + differs >>> 0;
        if ((seq - states.low[slot]! | 0) < 0) states.low[slot] = seq;
        const end = seq + piece | 0;
        if ((end - states.end[slot]! | 0) > 0) states.end[slot] = end;
      }
      at += piece;
      length -= piece;
      seq = seq + piece | 0;
    }
    return diverged;
  }

  /**
   * Does the same for at least one byte in the usual case, in which they follow those that are there: whether it is
   * that. Else nothing happens.
   */
  append(slot: number, seq: number, source: DataView, at: number, length: number): boolean {
    const { states } = this;
    const known = (states.flags[slot]! & Flag.PRIMARY) !== 0;
    const room = (known ? states.primary[slot]! : states.end[slot]!) + this.window - seq | 0;
    if (
      length > room || (states.base[slot]! - seq | 0) > 0 ||
      !this.store.append(states.lastBlock[slot]!, slot, seq, source, at, length)
    ) {
      return false;
    }
    states.seen[slot]! += length;
    states.held[slot]! += length;
    this.ledger.seen += length;
    const end = seq + length | 0;
    if ((end - states.end[slot]! | 0) > 0) states.end[slot] = end;
    return true;
  }

  /** Gives up the flow's bytes before `to`, since the replica has them; returns how many there were. */
  free(slot: number, to: number): number {
    const bytes = this.#release(slot, to);
    this.states.freed[slot]! += bytes;
    this.ledger.freed += bytes;
    return bytes;
  }

  /** Gives up the flow's bytes before `to`, though the replica may lack them. */
  drop(slot: number, to: number, reason: DropReason): void {
    this.#lose(slot, to, this.#release(slot, to), reason);
  }

  /** Drops the flow's blocks that are further behind what the primary has acknowledged than the window. */
  slide(slot: number): void {
    const from = (this.states.primary[slot]! - this.window | 0) & -BLOCK;
    if ((from - this.states.base[slot]! | 0) > 0) this.drop(slot, from, "dropped_window");
  }

  /** The flow's block of that number, a new one where it has none; -1 where it may have no more. */
  #blockFor(slot: number, number: number): number {
    const { states, store } = this;
    const last = states.lastBlock[slot]!;
    if (store.number[last] === number && store.owner[last] === slot) return last;
    let block = store.find(slot, number);
    if (block < 0) {
      if (states.blocks[slot]! >= this.#maxBlocks && !this.#dropFirst(slot, number)) return -1;
      block = store.take(slot, number);
      if (block < 0) {
        this.#evict();
        block = store.take(slot, number);
      }
      if (states.blocks[slot] === 0) states.low[slot] = number * BLOCK | 0;
      states.blocks[slot]! += 1;
    }
    states.lastBlock[slot] = block;
    return block;
  }

  /** Drops the flow's first block for the sake of `number`, unless that were before it. */
  #dropFirst(slot: number, number: number): boolean {
    const first = later(this.states.base[slot]!, this.states.low[slot]!);
    if ((number * BLOCK - first | 0) <= 0) return false;
    for (let each = blockOf(first);; each = each + 1 & BLOCKS_OF_SPACE - 1) {
      if (each === number) return false;
      if (this.store.find(slot, each) < 0) continue;
      this.drop(slot, (each + 1) * BLOCK | 0, "dropped_window");
      return true;
    }
  }

  /** Makes room in the store: the oldest block goes that the primary has acknowledged. */
  #evict(): void {
    const { states, store } = this;
    for (let look = 0; look < LOOKS && !this.#isAcknowledged(store.oldest); look++) {
      store.renew(store.oldest);
    }
    const block = store.oldest;
    const slot = store.owner[block]!;
    const end = (store.number[block]! + 1) * BLOCK | 0;
    const bytes = store.held[block]!;
    store.release(block);
    states.blocks[slot]! -= 1;
    states.held[slot]! -= bytes;
    this.#lose(slot, end, bytes, "dropped_budget");
  }

  #isAcknowledged(block: number): boolean {
    const { flags, primary, end } = this.states;
    const slot = this.store.owner[block]!;
    if ((flags[slot]! & Flag.CLOSED) !== 0) return true;
    if ((flags[slot]! & Flag.PRIMARY) === 0) return false;
    const behind = (this.store.number[block]! + 1) * BLOCK | 0;
    return (primary[slot]! - behind | 0) >= 0 || (primary[slot]! - end[slot]! | 0) >= 0;
  }

  #lose(slot: number, to: number, bytes: number, reason: DropReason): void {
    if (bytes === 0) return;
    const { states } = this;
    const { flags, droppedTo } = states;
    states.dropped[slot]! += bytes;
    this.ledger[reason] += bytes;
    droppedTo[slot] = (flags[slot]! & Flag.DROPPED) === 0 ? to : later(droppedTo[slot]!, to);
    flags[slot]! |= Flag.DROPPED;
    if ((flags[slot]! & (Flag.CLOSED | Flag.REPORTED)) !== 0) return;
    states.unreported[slot]! += bytes;
    if ((flags[slot]! & Flag.PENDING) !== 0) return;
    flags[slot]! |= Flag.PENDING;
    this.pending.push(slot);
  }

  /** Takes the flow's bytes before `to` out of the store, and returns how many there were. */
  #release(slot: number, to: number): number {
    const { states, store } = this;
    const { base, blocks } = states;
    if ((to - base[slot]! | 0) <= 0) return 0;
    const from = later(base[slot]!, states.low[slot]!);
    base[slot] = to;
    if (blocks[slot] === 0 || (to - from | 0) <= 0) return 0;
    const last = blockOf(to);
    let bytes = 0;
    for (let number = blockOf(from); number !== last; number = number + 1 & BLOCKS_OF_SPACE - 1) {
      const block = store.find(slot, number);
      if (block < 0) continue;
      bytes += store.held[block]!;
      store.release(block);
      blocks[slot]! -= 1;
      if (blocks[slot] === 0) break;
    }
    const block = blocks[slot]! > 0 && (to & BLOCK - 1) !== 0 ? store.find(slot, last) : -1;
    if (block >= 0) {
      bytes += store.trim(block, to & BLOCK - 1);
      if (store.held[block] === 0) {
        store.release(block);
        blocks[slot]! -= 1;
      }
    }
    states.held[slot]! -= bytes;
    return bytes;
  }
}
