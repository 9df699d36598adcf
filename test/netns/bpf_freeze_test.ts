/**
 * What the backup's BPF programs tell the clients of frozen flows, and that they tell nobody else anything. Checksums are
 * computed apart from the code under test.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { monotonicMicros } from "../../ffi/clock.ts";
import { CONTROL, FLOW, Mode, Option } from "../../lib/flow/layout.ts";
import { after } from "../../lib/flow/sequence.ts";
import { FROZEN, FrozenFlag, MARK_FROZEN } from "../../lib/freeze/layout.ts";
import {
  type Ends,
  flowKey,
  flowValue,
  type LoadedShadow,
  runMarked,
  Verdict,
} from "../fixture/bpf.ts";
import { parseFrame, type TcpFrame } from "../fixture/frame.ts";
import { Bit } from "../fixture/segment.ts";
import { fromClient, fromService, stamps, u32, uint32, withShadow } from "../fixture/tracked.ts";

const OWN_MAC = "02:00:00:00:00:12";
const NEXT_HOP = "02:00:00:00:00:01";
const octets = (mac: string): number[] => mac.split(":").map((part) => parseInt(part, 16));

/** Freezes a flow for `milliseconds` from now on. */
function freeze(
  shadow: LoadedShadow,
  ends: Ends,
  flags = 0,
  milliseconds = 10_000,
  mode: Mode = Mode.SHADOW,
) {
  const entry = new Uint8Array(FROZEN.size);
  entry.set(octets(OWN_MAC), FROZEN.own_mac);
  entry[FROZEN.flags] = flags;
  shadow.map("frozen").update(flowKey(ends), entry);
  const control = new Uint8Array(CONTROL.size);
  const view = new DataView(control.buffer);
  view.setUint32(CONTROL.mode, mode, true);
  const until = BigInt(Math.round(monotonicMicros() * 1000 + milliseconds * 1e6));
  view.setBigUint64(CONTROL.frozen_until_ns, until, true);
  shadow.map("control").update(new Uint8Array(4), control);
}

/** Writes a flow with the MAC address of the way to its client. */
function setFlow(shadow: LoadedShadow, ends: Ends, fields: Parameters<typeof flowValue>[0]): void {
  const value = flowValue(fields);
  value.set(octets(NEXT_HOP), FLOW.remote_mac);
  shadow.map("flows").update(flowKey(ends), value);
}

const flows = fc.record({
  primary_end: uint32,
  primary_ack: uint32,
  ahead: fc.integer({ min: -0x10000, max: 0x10000 }),
  right: fc.nat(0x3fffffff),
  primary_wscale: fc.nat(14),
  client_tsval: uint32,
  client_tsecr: uint32,
});

withShadow(
  "an advertisement of a frozen flow has all numbers right, whatever it was made of",
  (shadow, ends) => {
    const made = fc.record({
      flags: fc.constantFrom(Bit.ACK, Bit.ACK | Bit.PSH, Bit.ACK | Bit.FIN),
      seq: uint32,
      ack: uint32,
      window: fc.nat(0xffff),
      stamps,
      payload: fc.uint8Array({ maxLength: 1400 }).map((all) => [...all]),
    });
    const kinds = fc.record({
      stamped: fc.boolean(),
      revocable: fc.boolean(),
      thawing: fc.boolean(),
      clock: fc.integer({ min: -1000, max: 100_000 }),
    });
    fc.assert(
      fc.property(flows, made, kinds, (flow, { stamps, ...said }, kind) => {
        const { ahead, right, ...numbers } = flow;
        const replicaAck = u32(flow.primary_ack + ahead);
        // The clock ran for `clock` ms since the SYN/ACK until it reached what the client has echoed.
        setFlow(shadow, ends, {
          ...numbers,
          replica_ack: replicaAck,
          primary_right: u32(flow.primary_ack + right),
          options: kind.stamped ? Option.TIMESTAMPS : 0,
          synack_tsval: u32(flow.client_tsecr - kind.clock),
          synack_ns: Math.round(monotonicMicros() * 1000) - 50e6,
        });
        const flags = (kind.revocable ? FrozenFlag.REVOCABLE : 0) |
          (kind.thawing ? FrozenFlag.THAWING : 0);
        freeze(shadow, ends, flags);
        const frame = fromService(ends, { ...said, ...(stamps ? { timestamps: stamps } : {}) });
        const run = runMarked(shadow.egress, frame, MARK_FROZEN);
        assert.deepEqual({ verdict: run.verdict, mark: run.mark }, {
          verdict: Verdict.PASS,
          mark: 0,
        });
        const told = parseFrame(run.frame) as TcpFrame;
        const ack = kind.revocable && after(replicaAck, flow.primary_ack)
          ? flow.primary_ack
          : replicaAck;
        const edge = u32(flow.primary_ack + right);
        const room = after(edge, ack) ? u32(edge - ack) >>> flow.primary_wscale : 0;
        assert.deepEqual(
          {
            macs: [told.destinationMac, told.sourceMac],
            ports: [told.sourcePort, told.destinationPort],
            numbers: [told.seq, told.ack, told.window],
            rest: [told.flags, told.length, told.bytes.length],
            right: [told.ipChecksum, told.tcpChecksum],
          },
          {
            macs: [NEXT_HOP, OWN_MAC],
            ports: [ends.serverPort, ends.clientPort],
            numbers: [flow.primary_end, ack, kind.thawing ? Math.min(room, 0xffff) : 0],
            rest: ["A", 0, 14 + (ends.client.includes(":") ? 40 : 20) + (kind.stamped ? 32 : 20)],
            right: [true, true],
          },
        );
        if (!kind.stamped) return assert.equal(told.timestamps, undefined);
        assert.equal(told.timestamps!.echo, flow.client_tsval);
        // Never before what the client has echoed, and else the primary's clock.
        const ahead50 = Math.max(0, 50 - kind.clock);
        const off = (told.timestamps!.value - u32(flow.client_tsecr + ahead50)) | 0;
        assert.ok(off >= 0 && off < 1000, `TSval is off by ${off}`);
      }),
      { numRuns: 300 },
    );
  },
);

withShadow(
  "without a lease, a flow or an entry, nothing that is marked gets out",
  (shadow, ends) => {
    const frame = fromService(ends, {
      flags: Bit.ACK,
      seq: 1,
      ack: 1,
      window: 0,
      timestamps: [1, 1],
    });
    const send = (): number => runMarked(shadow.egress, frame, MARK_FROZEN).verdict;
    assert.equal(send(), Verdict.STOLEN, "no flow");
    setFlow(shadow, ends, { options: Option.TIMESTAMPS });
    assert.equal(send(), Verdict.STOLEN, "not frozen");
    freeze(shadow, ends);
    assert.equal(send(), Verdict.PASS);
    freeze(shadow, ends, 0, -1);
    assert.equal(send(), Verdict.STOLEN, "the lease is over");
    for (const mode of [Mode.SETTLING, Mode.ACTIVE]) {
      freeze(shadow, ends, 0, 10_000, mode);
      assert.equal(send(), Verdict.STOLEN, "this host has taken over");
    }
    freeze(shadow, ends);
    for (let length = 54; length < frame.length; length++) {
      const cut = runMarked(shadow.egress, frame.slice(0, length), MARK_FROZEN);
      assert.ok(length >= frame.length - 12 || cut.verdict === Verdict.STOLEN, `cut to ${length}`);
    }
    shadow.map("frozen").delete(flowKey(ends));
    assert.equal(send(), Verdict.STOLEN, "thawed");
  },
);

withShadow("only what a closed window does not permit is answered", (shadow, ends) => {
  const [seq, ack] = [0xfffffff0, 5000];
  const begin = (): void =>
    setFlow(shadow, ends, {
      ...{ client_end: seq, client_next: seq, replica_ack: seq },
      ...{ primary_ack: seq, primary_right: u32(seq + 0x10000), primary_end: ack },
      ...{ client_ack: ack, replica_end: ack, client_window: 0xffff, options: Option.TIMESTAMPS },
    });
  const run = (said: { flags?: number; seq: number; ack?: number; payload?: number[] }) => {
    const timestamps: [number, number] = [7, 8];
    const frame = fromClient(ends, { flags: Bit.ACK, ack, window: 99, timestamps, ...said });
    return runMarked(shadow.ingress, frame, 0);
  };
  const data = [1, 2, 3];
  const cases: [what: string, said: Parameters<typeof run>[0], answered: boolean][] = [
    ["an acknowledgement", { seq }, false],
    ["a probe without a byte", { seq: u32(seq - 1) }, true],
    ["a probe with an old byte", { seq: u32(seq - 1), payload: [0] }, true],
    ["new data, which the replica acknowledges", { seq, payload: data }, false],
    ["the same again", { seq, payload: data }, true],
    ["an acknowledgement behind it", { seq: u32(seq + 3) }, false],
    ["a FIN", { seq: u32(seq + 3), flags: Bit.ACK | Bit.FIN }, false],
    ["the FIN again", { seq: u32(seq + 3), flags: Bit.ACK | Bit.FIN }, true],
    ["a reset", { seq: u32(seq + 3), flags: Bit.RST }, false],
    ["no acknowledgement", { seq: u32(seq - 1), flags: 0 }, false],
    ["what acknowledges too much", { seq: u32(seq - 1), ack: u32(ack + 0x20000000) }, false],
  ];
  for (const frozen of [true, false]) {
    begin();
    freeze(shadow, ends, 0, frozen ? 10_000 : -1);
    for (const [what, said, answered] of cases) {
      const { verdict, mark, frame } = run(said);
      const found = verdict === Verdict.REDIRECT && mark === MARK_FROZEN;
      assert.equal(found, answered && frozen, what);
      if (!found) continue;
      const told = runMarked(shadow.egress, frame, mark);
      assert.equal(told.verdict, Verdict.PASS, what);
      const { window, ...answer } = parseFrame(told.frame) as TcpFrame;
      assert.deepEqual([answer.seq, answer.ack, window], [ack, seq, 0], what);
    }
  }
});
