/**
 * Bytes of a stream that cannot be told yet: they came too early, or what they acknowledge is not there.
 *
 * @module
 */

/** What a piece costs beside its bytes: many small ones must not take more memory than is accounted for. */
const OVERHEAD = 256;
/** Behind so many taken pieces, the list is moved up. */
const SLACK = 64;

/** Bytes of a stream that stand together, with what came along in their segment. */
export interface Piece {
  /** Sequence number of the first byte, as signed 32 bits. */
  readonly seq: number;
  /** How many there are. */
  readonly length: number;
  /** The bytes; undefined where the capture cut them off. */
  readonly bytes: Uint8Array | undefined;
  /** When they were captured, in microseconds since the Unix epoch. */
  readonly time: number;
  /** Number of their segment in the conversation: the order of capture. */
  readonly order: number;
  /** Whether the segment acknowledged something. */
  readonly hasAck: boolean;
  /** What it acknowledged. */
  readonly ack: number;
}

/** What a segment brings to {@linkcode Held.put}; `bytes` is copied. */
export type Offer = Piece;

/** The pieces of one stream, in the order of their sequence numbers; they do not overlap. */
export class Held {
  /** Bytes of memory that the pieces take. */
  cost = 0;
  /** Sequence number of the first byte that differed from what was there, of the last {@linkcode Held.put}. */
  divergedAt: number | undefined;
  #pieces: Piece[] = [];
  #first = 0;

  /** The piece with the lowest sequence number. */
  get head(): Piece | undefined {
    return this.#pieces[this.#first];
  }

  /**
   * Keeps what is new of `offer`; where bytes are there already, the first ones count.
   *
   * @returns how many bytes were new
   */
  put(offer: Offer): number {
    this.divergedAt = undefined;
    const end = offer.seq + offer.length | 0;
    let index = this.#placeOf(offer.seq);
    // The piece before the place may reach into it.
    let at = offer.seq;
    if (index > this.#first) at = this.#pass(this.#pieces[index - 1]!, offer, at);
    let added = 0;
    while ((end - at | 0) > 0) {
      const next = this.#pieces[index];
      const room = next === undefined ? end - at | 0 : Math.min(end - at | 0, next.seq - at | 0);
      if (room > 0) {
        this.#insert(index++, offer, at, room);
        added += room;
      }
      if (next === undefined) break;
      at = this.#pass(next, offer, next.seq);
      index++;
    }
    return added;
  }

  /** Removes and returns the head. */
  shift(): Piece {
    const piece = this.head!;
    this.cost -= costOf(piece);
    this.#first++;
    if (this.#first >= SLACK && this.#first * 2 >= this.#pieces.length) {
      this.#pieces.splice(0, this.#first);
      this.#first = 0;
    } else if (this.#first === this.#pieces.length) {
      this.#pieces.length = 0;
      this.#first = 0;
    }
    return piece;
  }

  /** Where the first piece is that begins at `seq` or behind. Most come behind all; others may be many. */
  #placeOf(seq: number): number {
    const pieces = this.#pieces;
    let high = pieces.length;
    if (high === this.#first || (pieces[high - 1]!.seq - seq | 0) < 0) return high;
    let low = this.#first;
    while (low < high) {
      const middle = low + high >>> 1;
      if ((pieces[middle]!.seq - seq | 0) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Compares `offer` with `piece` where both have bytes, from `at` on; returns the end of `piece`, if that is behind. */
  #pass(piece: Piece, offer: Offer, at: number): number {
    const end = piece.seq + piece.length | 0;
    const offerEnd = offer.seq + offer.length | 0;
    const to = (end - offerEnd | 0) < 0 ? end : offerEnd;
    if ((to - at | 0) <= 0) return at;
    if (piece.bytes !== undefined && offer.bytes !== undefined) {
      const mine = at - piece.seq | 0;
      const theirs = at - offer.seq | 0;
      for (let i = 0; i < (to - at | 0); i++) {
        if (piece.bytes[mine + i] === offer.bytes[theirs + i]) continue;
        this.divergedAt ??= at + i | 0;
        break;
      }
    }
    return to;
  }

  #insert(index: number, offer: Offer, seq: number, length: number): void {
    const from = seq - offer.seq | 0;
    const piece = { ...offer, seq, length, bytes: offer.bytes?.slice(from, from + length) };
    this.cost += costOf(piece);
    if (index === this.#pieces.length) this.#pieces.push(piece);
    else this.#pieces.splice(index, 0, piece);
  }
}

function costOf({ bytes }: Piece): number {
  return OVERHEAD + (bytes?.length ?? 0);
}
