import assert from "node:assert/strict";
import fc from "fast-check";
import { Conversation, Side } from "../../lib/conversation/conversation.ts";
import { Delivery } from "../../lib/conversation/delivery.ts";
import { Flow } from "../../lib/conversation/flow.ts";
import { Intake } from "../../lib/conversation/intake.ts";
import { Totals } from "../../lib/conversation/totals.ts";
import { LinkType } from "../../lib/packet/link.ts";
import { Segment } from "../../lib/packet/segment.ts";
import { handshake, Notebook, packetOf, type Spec } from "../fixture/conversation.ts";
import { Bit } from "../fixture/segment.ts";

/** What is told of a conversation's segments; `short` says whether the short way may be taken. */
function account(specs: readonly Spec[], short: boolean): { lines: string[]; shortcuts: number } {
  const sink = new Notebook();
  const totals = new Totals();
  const segment = new Segment();
  const delivery = new Delivery(sink, totals, { conversation: 1 << 16, total: 1 << 16 });
  const intake = new Intake(segment, delivery, sink);
  const sides = [
    new Side("client", "10.0.0.1", 40_000),
    new Side("server", "10.0.0.2", 80),
  ] as const;
  const flow = new Flow(new Conversation(0, ...sides, "syn", 0), false);
  let shortcuts = 0;
  let time = 0;
  for (const spec of specs) {
    if (flow.closed) break;
    const packet = Uint8Array.from(packetOf(spec));
    time += (spec.after ?? 1) * 1000;
    segment.read(
      new DataView(packet.buffer),
      0,
      packet.length - (spec.cut ?? 0),
      packet.length,
      LinkType.RAW,
    );
    flow.segments++;
    if (!short) flow.steady = false;
    if (flow.steady) shortcuts++;
    const [own, other] = spec.from === "client"
      ? [flow.client, flow.server]
      : [flow.server, flow.client];
    intake.take(flow, own, other, new DataView(packet.buffer), time);
    const { base, next, top, acked, window, lacking } = own;
    sink.lines.push(JSON.stringify({ base, next, top, acked, window, lacking, totals }));
    sink.lines.push(JSON.stringify([own.side.counts, other.side.counts, other.acked]));
  }
  return { lines: sink.lines, shortcuts };
}

/** `usual` five times of six. */
function mostly<T>(usual: T, others: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ weight: 5, arbitrary: fc.constant(usual) }, others);
}

const shift = mostly(0, fc.constantFrom(-9, -5, -1, -1, 1, 5, 9));
const { ACK, PSH, URG, FIN, ECE } = Bit;

/** Two ends that talk in order, but for what is wrong with some segments. */
const dialogue: fc.Arbitrary<Spec[]> = fc.array(
  fc.record({
    from: fc.constantFrom("client" as const, "server" as const),
    length: fc.constantFrom(0, 0, 1, 5, 9),
    flags: mostly(ACK | PSH, fc.constantFrom(ACK, PSH, URG | ACK, FIN | ACK, ECE | ACK)),
    window: mostly(1000, fc.constantFrom(900, 0)),
    cut: mostly(0, fc.integer({ min: 1, max: 9 })),
    seqShift: shift,
    ackShift: shift,
  }),
  { maxLength: 60 },
).map((turns) => {
  const sent = { client: 1, server: 1 };
  return [
    ...handshake,
    ...turns.map(({ from, length, flags, window, cut, seqShift, ackShift }): Spec => {
      const seq = Math.max(0, sent[from] + seqShift);
      const ack = Math.max(0, sent[from === "client" ? "server" : "client"] + ackShift);
      if (seqShift === 0) sent[from] += length + ((flags & FIN) === 0 ? 0 : 1);
      const text = "abcdefghi".slice(0, length);
      return { from, flags, window, seq, ack, text, cut: Math.min(cut, length) };
    }),
  ];
});

Deno.test("conversation: the short way for segments in order tells the same as the long one", () => {
  let shortcuts = 0;
  fc.assert(fc.property(dialogue, (specs) => {
    const short = account(specs, true);
    shortcuts += short.shortcuts;
    assert.deepEqual(short.lines, account(specs, false).lines);
  }));
  assert.ok(shortcuts > 0);
});
