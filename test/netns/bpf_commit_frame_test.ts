/**
 * Output commit in the backup's BPF programs: what the replica acknowledges leaves as frames that no client understands,
 * and nothing else leaves, whatever the frame.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  ETHERTYPE_COMMIT,
  MARK_COMMIT,
  MARK_INJECTED,
  Mode,
  TELL_GATEWAY,
} from "../../lib/flow/layout.ts";
import { type FlowFields, recently, runMarked, Verdict } from "../fixture/bpf.ts";
import { Bit, readSegment, word } from "../fixture/segment.ts";
import { shapes, TAGS } from "../fixture/shapes.ts";
import {
  type Frame,
  fromService,
  type Said,
  stamps,
  uint32,
  withShadow,
} from "../fixture/tracked.ts";

/** A flow with a client that has all, and a replica that has sent up to 6000 and acknowledged up to 3000. */
const known = (fields: FlowFields = {}): FlowFields => ({
  ...{ irs: 999, iss: 4999, synack_seen: 1, seen_ns: recently(), primary_ns: recently() },
  ...{ client_end: 3000, client_ack: 8000, primary_end: 8000, primary_ack: 3000 },
  ...{ replica_end: 6000, replica_ack: 3000, replica_window: 100, primary_wscale: 7 },
  ...fields,
});

/** The frame as a commit frame: its headers behind another EtherType. */
function committed(frame: Frame): number[] {
  const { at } = readSegment(frame);
  const type = at - (frame[at - 20] === 0x45 ? 22 : 42);
  const result = frame.slice(0, at + (frame[at + 12]! >> 4) * 4);
  result.set(word(ETHERTYPE_COMMIT), type);
  return [...result];
}

withShadow(
  "commit: pure acknowledgements leave as commit frames, and no others",
  (shadow, ends) => {
    const said = fc.record({ ack: uint32, window: fc.nat(0xffff), timestamps: stamps });
    fc.assert(
      fc.property(said, fc.constantFrom(...TAGS), ({ timestamps, ...said }, tags) => {
        const stamped: Said = timestamps === undefined ? {} : { timestamps };
        const frame = fromService(ends, { seq: 6000, ...said, ...stamped }, tags);
        shadow.control(Mode.SHADOW, TELL_GATEWAY);
        shadow.setFlow(ends, known());
        for (let i = 0; i < 2; i++) { // the second one makes up for the first, if that was lost
          const run = runMarked(shadow.egress, frame, 5);
          assert.deepEqual([run.verdict, run.mark], [Verdict.PASS, 0]);
          assert.deepEqual([...run.frame], committed(frame));
        }
        assert.equal(shadow.flow(ends)!.replica_ack, said.ack);
        shadow.control(Mode.SHADOW, 0);
        assert.equal(runMarked(shadow.egress, frame, 0).verdict, Verdict.STOLEN);
      }),
      { numRuns: 200 },
    );
  },
);

withShadow(
  "commit: a segment that the client has comes back, its copy leaves cut",
  (shadow, ends) => {
    shadow.control(Mode.SHADOW, TELL_GATEWAY);
    for (const count of [1, 1000]) {
      const payload = Array(count).fill(9);
      const frame = fromService(ends, { seq: 6000, ack: 3500, window: 50, payload });
      shadow.setFlow(ends, known());
      const run = runMarked(shadow.egress, frame, 0);
      assert.deepEqual([run.verdict, run.mark], [Verdict.REDIRECT, MARK_INJECTED]);
      // What the program makes of its own copy, which comes by with this mark.
      const copy = runMarked(shadow.egress, frame, MARK_COMMIT);
      assert.deepEqual([copy.verdict, copy.mark], [Verdict.PASS, 0]);
      assert.deepEqual([...copy.frame], committed(frame));
    }
  },
);

withShadow("commit: held data leaves without itself where it tells something", (shadow, ends) => {
  shadow.control(Mode.SHADOW, TELL_GATEWAY);
  const payload = Array(3000).fill(9);
  const cases = [
    [{ ack: 3001, window: 100 }, true],
    [{ ack: 3000, window: 101 }, true],
    [{ ack: 3000, window: 100 }, false],
    [{ ack: 2000, window: 100 }, false],
  ] as const;
  for (const [said, told] of cases) {
    const frame = fromService(ends, { seq: 6000, ...said, payload });
    shadow.setFlow(ends, known());
    const run = runMarked(shadow.egress, frame, 0);
    assert.equal(run.verdict, told ? Verdict.PASS : Verdict.STOLEN);
    if (told) assert.deepEqual([...run.frame], committed(frame));
  }
});

withShadow("commit: a reset of the replica's own is told, not sent", (shadow, ends) => {
  shadow.control(Mode.SHADOW, TELL_GATEWAY);
  shadow.setFlow(ends, known());
  const frame = fromService(ends, { seq: 6000, ack: 3000, flags: Bit.RST | Bit.ACK });
  const run = runMarked(shadow.egress, frame, 0);
  assert.deepEqual([run.verdict, [...run.frame]], [Verdict.PASS, committed(frame)]);
});

withShadow("commit: whatever the frame, only commit frames leave", (shadow, ends) => {
  shadow.control(Mode.SHADOW, TELL_GATEWAY);
  const pair = { source: ends.server, destination: ends.client, sourcePort: ends.serverPort };
  const all = shapes({ ...pair, destinationPort: ends.clientPort });
  for (const mark of [0, MARK_COMMIT]) {
    for (const [name, frame] of all) {
      for (const client_ack of [1000, 5000]) { // the client lacks it, or has it
        shadow.setFlow(ends, known({ client_ack }));
        const { verdict, frame: left } = runMarked(shadow.egress, frame, mark);
        const type = left[12]! << 8 | left[13]!;
        if (verdict === Verdict.PASS) assert.equal(type, ETHERTYPE_COMMIT, name);
        else assert.ok(verdict === Verdict.STOLEN || verdict === Verdict.REDIRECT, name);
      }
    }
  }
});

withShadow("commit: after the takeover the replica speaks for itself", (shadow, ends) => {
  for (const mode of [Mode.SETTLING, Mode.ACTIVE]) {
    shadow.control(mode, TELL_GATEWAY);
    shadow.setFlow(ends, known());
    const frame = fromService(ends, { seq: 6000, ack: 3500, window: 50 });
    const run = runMarked(shadow.egress, frame, 0);
    assert.deepEqual([run.verdict, [...run.frame]], [Verdict.PASS, [...frame]]);
  }
});
