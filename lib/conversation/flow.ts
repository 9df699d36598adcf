/**
 * What the tracker keeps of a conversation beside what it tells of it. Sequence numbers are signed 32 bits here: only
 * their differences count.
 *
 * @module
 */
import type { Conversation, Side } from "./conversation.ts";
import { Held } from "./held.ts";

/** How well the first sequence number of a stream is known. */
export const Base = {
  /** Not at all. */
  NONE: 0,
  /** From what the other side acknowledges. */
  ACKNOWLEDGED: 1,
  /** From a first segment in the middle of the stream. */
  MIDDLE: 2,
  /** From the handshake. */
  HANDSHAKE: 3,
} as const;

/** One of the numbers of {@linkcode Base}. */
export type Base = typeof Base[keyof typeof Base];

/** One direction of a conversation. */
export class Stream {
  /** Who sends it. */
  readonly side: Side;
  /** How `first` is known. */
  base: Base = Base.NONE;
  /** The first byte. */
  first = 0;
  /** The next byte that is to be told. */
  next = 0;
  /** Behind the last byte that was seen. */
  top = 0;
  /** The number of the FIN, where `hasFin`. */
  fin = 0;
  /** Whether a FIN was seen. */
  hasFin = false;
  /** What came along with the FIN: see {@linkcode Piece}. */
  finAck = 0;
  /** Whether the FIN acknowledged something. */
  finHasAck = false;
  /** When the FIN was captured. */
  finTime = 0;
  /** The FIN's place in the order of capture. */
  finOrder = 0;
  /** What the other side has acknowledged last, where `hasAcked`. */
  acked = 0;
  /** Whether the other side has acknowledged anything. */
  hasAcked = false;
  /** Whether bytes are waited for that the capture may lack. */
  lacking = false;
  /** Up to where they are waited for. */
  lackingTo = 0;
  /** How long they are waited for: until the conversation has so many segments… */
  patienceSegments = 0;
  /** …or until this time. */
  patienceTime = 0;
  /** The sender's own receive window, as its last segment has it, and its last acknowledgement. */
  window: number = -1;
  /** Its last acknowledgement. */
  lastAck = 0;
  /** When the first of the held bytes came. */
  heldSince = 0;
  /** Bytes that wait. */
  readonly held: Held = new Held();

  /** The stream that `side` sends. */
  constructor(side: Side) {
    this.side = side;
  }

  /** Begins the stream at `seq`, where nothing of it was told. */
  begin(seq: number, base: Base): void {
    this.base = base;
    this.side.first = seq >>> 0;
    this.first = seq;
    this.next = seq;
    this.top = seq;
  }

  /** Whether anything waits. */
  get waits(): boolean {
    return this.held.cost > 0 || this.hasFin && !this.side.finished;
  }
}

/** The tracker's view of a conversation. */
export class Flow {
  /** What the sink sees. */
  readonly conversation: Conversation;
  /** The stream of the end that the table's key has first. */
  readonly low: Stream;
  /** The stream of the other end. */
  readonly high: Stream;
  /** Whether the sink knows of it. */
  opened = false;
  /** Whether it is over. */
  closed = false;
  /** Segments so far. */
  segments = 0;
  /** Whether one of the streams lacks bytes. */
  lacking = false;
  /** Whether {@linkcode Intake} may take the short way with the next segment. */
  steady = false;
  /** When the client's SYN came; -1 where it did not. */
  synTime: number = -1;

  /** `lowIsClient` says which end is the client. */
  constructor(conversation: Conversation, lowIsClient: boolean) {
    const { client, server } = conversation;
    this.conversation = conversation;
    this.low = new Stream(lowIsClient ? client : server);
    this.high = new Stream(lowIsClient ? server : client);
  }

  /** The client's stream. */
  get client(): Stream {
    return this.low.side === this.conversation.client ? this.low : this.high;
  }

  /** The server's stream. */
  get server(): Stream {
    return this.low.side === this.conversation.client ? this.high : this.low;
  }
}
