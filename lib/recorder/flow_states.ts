/**
 * What the recorder knows of each flow, in typed arrays by the flow's slot.
 *
 * @module
 */

/** Bits of {@linkcode FlowStates.flags}. */
export const Flag = {
  /** The slot is in use. */
  USED: 1,
  /** The primary's acknowledgement was seen. */
  PRIMARY: 2,
  /** The replica's acknowledgement was told. */
  REPLICA: 4,
  /** Bytes were dropped before the replica had them. */
  DROPPED: 8,
  /** The client's FIN was seen. */
  CLIENT_FIN: 16,
  /** The service's FIN was seen. */
  SERVER_FIN: 32,
  /** The flow has ended; its bytes linger. */
  CLOSED: 64,
  /** Dropped bytes are to be reported. */
  PENDING: 128,
  /** Dropped bytes were reported, and the replica has not got past them. */
  REPORTED: 256,
} as const;

/** One entry a flow. Sequence numbers are kept as signed 32 bits: only their differences count. */
export class FlowStates {
  /** Bits of {@linkcode Flag}; 0 in a free slot. */
  readonly flags: Uint16Array;
  /** Bytes before it are not kept any more. */
  readonly base: Int32Array;
  /** Not behind the first byte in the store. */
  readonly low: Int32Array;
  /** Behind the last byte that was stored. */
  readonly end: Int32Array;
  /** The first byte that was seen. */
  readonly origin: Int32Array;
  /** What the primary has acknowledged. */
  readonly primary: Int32Array;
  /** What the replica has acknowledged. */
  readonly replica: Int32Array;
  /** Behind the last byte that was dropped. */
  readonly droppedTo: Int32Array;
  /** The sequence number of the client's FIN. */
  readonly clientFin: Int32Array;
  /** The sequence number of the service's FIN. */
  readonly serverFin: Int32Array;
  /** What the client has acknowledged. */
  readonly clientAck: Int32Array;
  /** When a segment was last seen or the flow ended, in seconds of the recorder's clock. */
  readonly touched: Int32Array;
  /** Blocks of the store that the flow has. */
  readonly blocks: Int32Array;
  /** The block that was written last; it may have another owner by now. */
  readonly lastBlock: Int32Array;
  /** Bytes that were stored, each counted once. */
  readonly seen: Float64Array;
  /** Bytes that the primary acknowledged. */
  readonly acknowledged: Float64Array;
  /** Bytes that the replica acknowledged. */
  readonly delivered: Float64Array;
  /** Bytes in the store. */
  readonly held: Float64Array;
  /** Bytes given up because the replica has them. */
  readonly freed: Float64Array;
  /** Bytes given up though the replica may lack them. */
  readonly dropped: Float64Array;
  /** Bytes that were dropped since the last report. */
  readonly unreported: Float64Array;

  /** For `capacity` flows. */
  constructor(capacity: number) {
    const words = (): Int32Array => new Int32Array(capacity);
    const sums = (): Float64Array => new Float64Array(capacity);
    this.flags = new Uint16Array(capacity);
    [this.base, this.low, this.end] = [words(), words(), words()];
    this.origin = words();
    [this.primary, this.replica, this.droppedTo] = [words(), words(), words()];
    [this.clientFin, this.serverFin, this.clientAck] = [words(), words(), words()];
    [this.touched, this.blocks, this.lastBlock] = [words(), words(), words()];
    [this.seen, this.acknowledged, this.delivered] = [sums(), sums(), sums()];
    [this.held, this.freed, this.dropped, this.unreported] = [sums(), sums(), sums(), sums()];
  }

  /** Begins a flow whose first byte is `origin`; it keeps nothing before `base`. */
  begin(slot: number, origin: number, base: number, now: number): void {
    this.flags[slot] = Flag.USED;
    this.base[slot] = base;
    for (const field of [this.end, this.origin, this.primary, this.replica, this.droppedTo]) {
      field[slot] = origin;
    }
    this.low[slot] = origin;
    this.clientAck[slot] = 0;
    this.touched[slot] = now;
    this.blocks[slot] = 0;
    this.lastBlock[slot] = 0;
    this.seen[slot] = 0;
    this.acknowledged[slot] = 0;
    this.delivered[slot] = 0;
    this.held[slot] = 0;
    this.freed[slot] = 0;
    this.dropped[slot] = 0;
    this.unreported[slot] = 0;
  }
}

/** Bytes a flow takes in the tables of flows, at the worst. */
export const FLOW_COST: number = 9 * 4 + 2 * 4 + 16 + 2 + 13 * 4 + 7 * 8;
