import assert from "node:assert/strict";
import { handshake, type Spec, track } from "../fixture/conversation.ts";
import { Bit } from "../fixture/segment.ts";

const { ACK, FIN } = Bit;

const close: Spec[] = [
  { from: "client", flags: FIN | ACK, seq: 6, ack: 4 },
  { from: "server", flags: FIN | ACK, seq: 4, ack: 7 },
  { from: "client", seq: 7, ack: 5 },
];

/** What is told of these segments. */
function told(...specs: readonly Spec[]): string[] {
  return track(specs).notebook.lines;
}

Deno.test("conversation: both sides' bytes in order, with beginning and end", () => {
  assert.deepEqual(
    told(
      ...handshake,
      { from: "client", seq: 1, ack: 1, text: "hello" },
      { from: "server", seq: 1, ack: 6, text: "you" },
      ...close,
    ),
    [
      "open 0",
      '0 client "hello',
      '0 server "you',
      "0 client finish",
      "0 server finish",
      "0 close fin",
    ],
  );
});

Deno.test("conversation: an answer that the capture has before its question is told behind it", () => {
  assert.deepEqual(
    told(
      ...handshake,
      { from: "server", seq: 1, ack: 6, text: "you" },
      { from: "client", seq: 1, ack: 1, text: "hello" },
      ...close,
    ),
    [
      "open 0",
      '0 client "hello',
      '0 server "you',
      "0 client finish",
      "0 server finish",
      "0 close fin",
    ],
  );
});
