/**
 * What SYN segments say of a conversation.
 *
 * @module
 */
import { Control, type Segment } from "../packet/segment.ts";
import type { NoteKind } from "./conversation.ts";
import { Base, type Flow, type Stream } from "./flow.ts";
import { readSynOptions } from "./syn_options.ts";

const TCP_HEADER = 20;

/** Hears of what is remarkable. */
export type Noter = (
  flow: Flow,
  stream: Stream,
  kind: NoteKind,
  length: number,
  time: number,
) => void;

/** Follows handshakes. */
export class Handshakes {
  readonly #note: Noter;

  /** Tells `note` of repeated SYN segments. */
  constructor(note: Noter) {
    this.#note = note;
  }

  /** Takes a SYN of `stream`, which stands in `view`. */
  syn(
    flow: Flow,
    stream: Stream,
    other: Stream,
    segment: Segment,
    view: DataView,
    time: number,
  ): void {
    const { conversation } = flow;
    const { side } = stream;
    const isFirst = (segment.flags & Control.ACK) === 0;
    if (side.isn !== undefined) {
      side.counts.retransmissions++;
      this.#note(flow, stream, "retransmission", 0, time);
      return;
    }
    side.isn = segment.seq;
    side.options = readSynOptions(view, segment.tcpAt + TCP_HEADER, segment.payloadAt);
    if (stream.next === stream.first && stream.held.cost === 0) {
      stream.begin(segment.seq + 1 | 0, Base.HANDSHAKE);
    } else {
      stream.base = Base.HANDSHAKE;
    }
    if (isFirst && other.side.isn === undefined || !isFirst) {
      this.#setRoles(flow, isFirst ? stream : other);
    }
    if (conversation.handshake === "none") conversation.handshake = "partial";
    if (isFirst) flow.synTime = time;
  }

  /** Takes an acknowledgement of `stream` before the handshake is whole. */
  acknowledge(flow: Flow, stream: Stream, ack: number, time: number): void {
    const { conversation, server } = flow;
    if (stream.side !== conversation.client || conversation.client.isn === undefined) return;
    const { isn } = conversation.server;
    if (isn === undefined || (ack - isn | 0) < 1 || (ack - server.top | 0) > 0) return;
    conversation.handshake = "whole";
    if (time >= flow.synTime) conversation.handshakeMicros = time - flow.synTime;
  }

  /** Makes the sender of `client` the client, as long as nobody was told of another. */
  #setRoles(flow: Flow, client: Stream): void {
    const { conversation } = flow;
    if (flow.opened) return;
    conversation.rolesBy = "syn";
    if (conversation.client === client.side) return;
    conversation.server = conversation.client;
    conversation.client = client.side;
    conversation.client.role = "client";
    conversation.server.role = "server";
  }
}
