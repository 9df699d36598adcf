import assert from "node:assert/strict";
import { handshake, type Spec, track } from "../fixture/conversation.ts";
import { Bit } from "../fixture/segment.ts";

const { ACK, FIN, RST, SYN, URG } = Bit;

/** What a capture lacks or has too much of, its segments, and what is told of them. */
const captures: Record<string, [specs: Spec[], told: string[]]> = {
  "no handshake": [[
    { from: "server", seq: 101, ack: 51, text: "you" },
    { from: "client", seq: 51, ack: 104, text: "hello" },
    { from: "server", seq: 104, ack: 56 },
  ], ["open 0", '0 server "you', '0 client "hello', "0 close capture"]],
  "no handshake, and an answer to what was not captured": [[
    { from: "client", seq: 51, ack: 104 },
    { from: "client", seq: 51, ack: 104, text: "hello" },
    { from: "server", seq: 104, ack: 56, text: "you" },
  ], ["open 0", '0 client "hello', '0 server "you', "0 close capture"]],
  "a SYN that nobody answers": [[
    { from: "client", flags: SYN },
    { from: "client", flags: SYN, after: 1000 },
  ], ["open 0", "0 client retransmission 0+0", "0 close capture"]],
  "a refused connection": [[
    { from: "client", flags: SYN },
    { from: "server", flags: RST | ACK, ack: 1 },
  ], ["open 0", "0 server reset 0+0", "0 close reset by server"]],
  "a missing segment that was acknowledged": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "one" },
    { from: "client", seq: 7, ack: 1, text: "three" },
    { from: "server", seq: 1, ack: 12, text: "yes" },
    { from: "client", seq: 12, ack: 4, text: "more", after: 1000 },
  ], [
    "open 0",
    '0 client "one',
    "0 client missing 3",
    '0 client "three',
    '0 server "yes',
    '0 client "more',
    "0 close capture",
  ]],
  "a missing segment that was not": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "one" },
    { from: "client", seq: 7, ack: 1, text: "three" },
    { from: "server", seq: 1, ack: 4, text: "no" },
  ], [
    "open 0",
    '0 client "one',
    '0 server "no',
    "0 client missing 3",
    '0 client "three',
    "0 close capture",
  ]],
  "a segment that was overtaken": [[
    ...handshake,
    { from: "client", seq: 4, ack: 1, text: "two" },
    { from: "client", seq: 1, ack: 1, text: "one" },
  ], ["open 0", "0 client out_of_order 1+3", '0 client "onetwo', "0 close capture"]],
  "a segment that was sent again": [[
    ...handshake,
    { from: "client", seq: 4, ack: 1, text: "two" },
    { from: "client", seq: 1, ack: 1, text: "one", after: 300 },
    { from: "client", seq: 1, ack: 1, text: "onetwo", after: 300 },
  ], [
    "open 0",
    "0 client retransmission 1+3",
    '0 client "onetwo',
    "0 client retransmission 1+6",
    "0 close capture",
  ]],
  "an answer to a missing segment, at the end": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "one" },
    { from: "server", seq: 1, ack: 7, text: "two" },
  ], ["open 0", '0 client "one', "0 client missing 3", '0 server "two', "0 close capture"]],
  "an answer to two missing segments, and a reset": [[
    ...handshake,
    { from: "client", seq: 4, ack: 1, text: "two" },
    { from: "server", seq: 1, ack: 10, text: "yes" },
    { from: "server", flags: RST | ACK, seq: 4, ack: 10 },
  ], [
    "open 0",
    "0 server reset 4+0",
    "0 client missing 3",
    '0 client "two',
    "0 client missing 3",
    '0 server "yes',
    "0 close reset by server",
  ]],
  "a request behind a missing answer, at the end": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "one" },
    { from: "client", seq: 4, ack: 5, text: "two" },
    { from: "client", flags: FIN | ACK, seq: 7, ack: 5 },
  ], [
    "open 0",
    '0 client "one',
    "0 server missing 4",
    '0 client "two',
    "0 client finish",
    "0 close capture",
  ]],
  "an acknowledgement that was wrong, with an answer": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "one" },
    { from: "server", seq: 1, ack: 1_000_000, text: "two" },
    { from: "server", seq: 4, ack: 4 },
  ], ["open 0", '0 client "one', '0 server "two', "0 close capture"]],
  "one direction only": [[
    { from: "server", flags: SYN | ACK, ack: 1 },
    { from: "server", seq: 1, ack: 6, text: "one" },
    { from: "server", seq: 7, ack: 6, text: "three" },
    { from: "server", flags: FIN | ACK, seq: 12, ack: 6 },
  ], [
    "open 0",
    '0 server "one',
    "0 server missing 3",
    '0 server "three',
    "0 server finish",
    "0 client missing 5",
    "0 close capture",
  ]],
  "sequence numbers that wrap": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "a".repeat(250) },
    { from: "client", seq: 257, ack: 1, text: "later" },
    { from: "client", seq: 251, ack: 1, text: "middle" },
    { from: "server", seq: 1, ack: 262, text: "yes" },
  ], [
    "open 0",
    `0 client "${"a".repeat(250)}`,
    "0 client out_of_order 251+6",
    '0 client "middlelater',
    '0 server "yes',
    "0 close capture",
  ]],
  "an overlap with other content": [[
    ...handshake,
    { from: "client", seq: 3, ack: 1, text: "3456" },
    { from: "client", seq: 1, ack: 1, text: "12XX567" },
  ], ["open 0", "0 client diverged 3+0", '0 client "1234567', "0 close capture"]],
  "keep-alives": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "hello" },
    { from: "server", seq: 1, ack: 6 },
    { from: "client", seq: 5, ack: 1, after: 1000 },
    { from: "client", seq: 5, ack: 1, text: "\0", after: 1000 },
    { from: "server", seq: 1, ack: 6, text: "you" },
  ], [
    "open 0",
    '0 client "hello',
    "0 client keep_alive 5+0",
    "0 client keep_alive 5+1",
    '0 server "you',
    "0 close capture",
  ]],
  "a closed window": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "hello" },
    { from: "server", seq: 1, ack: 6, window: 0 },
    { from: "client", seq: 5, ack: 1, after: 1000 },
    { from: "server", seq: 1, ack: 6, window: 500 },
  ], [
    "open 0",
    '0 client "hello',
    "0 server zero_window 1+0",
    "0 client window_probe 5+0",
    "0 server window_open 1+0",
    "0 close capture",
  ]],
  "urgent data": [[
    ...handshake,
    { from: "client", flags: ACK | URG, seq: 1, ack: 1, text: "now" },
    { from: "client", seq: 4, ack: 1, text: "then" },
  ], ["open 0", "0 client urgent 1+0", '0 client "nowthen', "0 close capture"]],
  "a reset in the middle": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "hello" },
    { from: "server", flags: RST, seq: 1 },
    { from: "client", seq: 6, ack: 1, text: "late" },
  ], ["open 0", '0 client "hello', "0 server reset 1+0", "0 close reset by server"]],
  "a reset behind a hole": [[
    ...handshake,
    { from: "client", seq: 4, ack: 1, text: "two" },
    { from: "client", flags: RST, seq: 7 },
  ], [
    "open 0",
    "0 client reset 7+0",
    "0 client missing 3",
    '0 client "two',
    "0 close reset by client",
  ]],
  "a reset that its receiver ignores": [[
    ...handshake,
    { from: "server", flags: RST, seq: 1_000_000_000 },
    { from: "client", seq: 1, ack: 1, text: "hello" },
  ], ["open 0", "0 server reset_ignored 1000000000+0", '0 client "hello', "0 close capture"]],
  "bytes behind the end": [[
    ...handshake,
    { from: "client", flags: FIN | ACK, seq: 1, ack: 1, text: "bye" },
    { from: "client", seq: 5, ack: 1, text: "no" },
  ], ["open 0", '0 client "bye', "0 client finish", "0 client outside 5+2", "0 close capture"]],
  "bytes further ahead than any window": [[
    ...handshake,
    { from: "client", seq: 2 ** 30 + 2, ack: 1, text: "no" },
    { from: "client", flags: FIN | ACK, seq: 2 ** 30 + 2, ack: 1 },
    { from: "client", seq: 1, ack: 1, text: "yes" },
  ], [
    "open 0",
    "0 client outside 1073741826+2",
    "0 client outside 1073741826+0",
    '0 client "yes',
    "0 close capture",
  ]],
  "bytes that were cut off": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "hello", cut: 2 },
    { from: "client", seq: 6, ack: 1, text: "you" },
  ], ["open 0", '0 client "hel', "0 client missing 2", '0 client "you', "0 close capture"]],
  "a second conversation between the same ends": [[
    ...handshake,
    { from: "client", seq: 1, ack: 1, text: "one" },
    { from: "client", flags: SYN, seq: 5000 },
    { from: "server", flags: SYN | ACK, seq: 7000, ack: 5001 },
    { from: "client", seq: 5001, ack: 7001, text: "two" },
  ], ["open 0", '0 client "one', "0 close reused", "open 1", '1 client "two', "1 close capture"]],
};

for (const [what, [specs, expected]] of Object.entries(captures)) {
  Deno.test(`conversation: ${what}`, () => {
    const { notebook, tracker } = track(specs);
    assert.deepEqual(notebook.lines, expected);
    assert.deepEqual([tracker.totals.open, tracker.totals.held], [0, 0]);
  });
}
