/**
 * What the recorder counts.
 *
 * @module
 */

/** Totals since the start. Of the bytes that were seen, each is held, freed or dropped. */
export class Ledger {
  /** TCP segments of the services. */
  segments = 0;
  /** Frames that were no TCP segment of a service. */
  other = 0;
  /** Fragments of IP packets: their payload is not kept. */
  fragments = 0;
  /** Frames whose headers were cut off, or whose lengths contradict each other. */
  malformed = 0;
  /** Flows that were begun. */
  flows_opened = 0;
  /** Flows that ended. */
  flows_closed = 0;
  /** Flows that gave way to others because the table was full. */
  flows_evicted = 0;
  /** Bytes of the clients' payload, each counted once. */
  seen = 0;
  /** Bytes that the primary acknowledged. */
  acknowledged = 0;
  /** Bytes that the replica acknowledged. */
  delivered = 0;
  /** Bytes given up because the replica has them. */
  freed = 0;
  /** Bytes dropped without the replica's acknowledgement: the budget was used up. */
  dropped_budget = 0;
  /** The same: the flow's window was used up. */
  dropped_window = 0;
  /** The same: the flow had ended. */
  dropped_closed = 0;
  /** Bytes that were there already when they came again. */
  repeated = 0;
  /** Segments that had other bytes than an earlier one. */
  diverged = 0;
  /** Bytes outside the flow's window: not stored. */
  outside = 0;
  /** Bytes that the capture cut off. */
  cut = 0;

  /** Bytes in memory: those that were seen, and neither freed nor dropped. */
  get held(): number {
    const dropped = this.dropped_budget + this.dropped_window + this.dropped_closed;
    return this.seen - this.freed - dropped;
  }

  /** All of it, as the event `stats` has it. */
  get fields(): Record<string, number> {
    return { ...Object.fromEntries(Object.entries(this)), held: this.held };
  }
}
