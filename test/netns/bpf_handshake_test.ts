/**
 * What the backup's BPF programs learn from handshakes. Nobody listens here, so that a handshake's last segment shows by
 * the report that there is no listener.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { parseService } from "../../lib/address.ts";
import { type FlowEvent, reasons } from "../../lib/flow/event.ts";
import { Option } from "../../lib/flow/layout.ts";
import { writeServices } from "../../lib/shadow/programs.ts";
import { type Ends, type LoadedShadow, Verdict } from "../fixture/bpf.ts";
import { Bit, long, readSegment, word } from "../fixture/segment.ts";
import { ODD_OPTIONS, TAGS } from "../fixture/shapes.ts";
import { fromClient, fromService, type Said, u32, uint32, withShadow } from "../fixture/tracked.ts";

/** What the options of a SYN say, by RFC 9293 section 3.1, RFC 7323 and RFC 2018. */
interface Meaning {
  mss: number | undefined;
  wscale: number | undefined;
  sack: boolean;
  stamps: [value: number, echo: number] | undefined;
}

/** Reads options as Linux does: what is malformed ends them. */
function meaningOf(options: readonly number[]): Meaning {
  const found: Meaning = { mss: undefined, wscale: undefined, sack: false, stamps: undefined };
  const four = (at: number): number => new DataView(Uint8Array.from(options).buffer).getUint32(at);
  for (let at = 0; at < options.length && options[at] !== 0;) {
    if (options[at] === 1) {
      at += 1;
      continue;
    }
    const length = options[at + 1] ?? 0;
    if (length < 2 || at + length > options.length) break;
    const kind = `${options[at]}/${length}`;
    if (kind === "2/4") found.mss = options[at + 2]! << 8 | options[at + 3]!;
    if (kind === "3/3") found.wscale = Math.min(14, options[at + 2]!);
    if (kind === "4/2") found.sack = true;
    if (kind === "8/10") found.stamps = [four(at + 2), four(at + 6)];
    at += length;
  }
  return found;
}

const option = fc.oneof(
  fc.constant([1]),
  fc.constant([0]),
  fc.integer({ min: 536, max: 0xffff }).map((mss) => [2, 4, ...word(mss)]),
  fc.nat(255).map((shift) => [3, 3, shift]),
  fc.constant([4, 2]),
  fc.tuple(uint32, uint32).map(([value, echo]) => [8, 10, ...long(value), ...long(echo)]),
  fc.tuple(fc.nat(255), fc.nat(12)).map(([kind, length]) => [kind, length]),
  fc.uint8Array({ maxLength: 6 }).map((bytes) => [...bytes]),
);

/** Options in any order and state, cut where a header ends. */
const options = fc.oneof(
  fc.array(option, { maxLength: 8 }).map((parts) => {
    const bytes = parts.flat().slice(0, 40);
    return [...bytes, ...Array((4 - bytes.length % 4) % 4).fill(0)];
  }),
  fc.constantFrom(...Object.values(ODD_OPTIONS).map((bytes) => [...bytes])),
);

const SYN_ACK = Bit.SYN | Bit.ACK;
const tags = fc.constantFrom(...TAGS);

withShadow("a handshake tells both numbers and all options", (shadow, ends) => {
  const side = fc.record({ isn: uint32, window: fc.nat(0xffff), options, ecn: fc.boolean() });
  fc.assert(
    fc.property(side, side, tags, (client, primary, tags) => {
      shadow.forget(ends);
      const ecn = (wanted: boolean, bits: number): number => wanted ? bits : 0;
      const syn = { seq: client.isn, window: client.window, options: client.options };
      const synFlags = Bit.SYN | ecn(client.ecn, Bit.ECE | Bit.CWR);
      const one = fromClient(ends, { ...syn, flags: synFlags }, tags);
      assert.equal(shadow.ingress.testRun(one).verdict, Verdict.STOLEN);
      const synAck = { seq: primary.isn, ack: u32(client.isn + 1), window: primary.window };
      const synAckFlags = SYN_ACK | ecn(primary.ecn, Bit.ECE);
      const two = { ...synAck, options: primary.options, flags: synAckFlags };
      assert.equal(shadow.ingress.testRun(fromService(ends, two, tags)).verdict, Verdict.STOLEN);
      const flow = shadow.flow(ends, "handshakes")!;
      const [c, p] = [meaningOf(client.options), meaningOf(primary.options)];
      const scaled = c.wscale !== undefined && p.wscale !== undefined;
      const agreed = (scaled ? Option.WSCALE : 0) |
        (c.sack && p.sack ? Option.SACK : 0) |
        (c.stamps && p.stamps ? Option.TIMESTAMPS : 0) |
        (client.ecn && primary.ecn ? Option.ECN : 0);
      const next = u32(client.isn + 1), sent = u32(primary.isn + 1);
      const expected = {
        ...{ irs: client.isn, iss: primary.isn, client_end: next, client_next: next },
        ...{ client_ack: sent, primary_end: sent, replica_end: sent, replica_ack: next },
        ...{ primary_ack: next, primary_right: u32(next + primary.window) },
        ...{
          client_window: client.window,
          client_tsval: c.stamps?.[0] ?? 0,
          // Zero says nothing, as in tcp_parse_options().
          mss: c.mss || flow.mss,
        },
        ...{ client_wscale: scaled ? c.wscale : 0, primary_wscale: scaled ? p.wscale : 0 },
        ...{ synack_tsval: p.stamps?.[0] ?? 0, options: agreed, synack_seen: 1 },
      };
      assert.deepEqual({ ...flow, ...expected }, flow);
    }),
    { numRuns: 400 },
  );
});

/** What is reported of flows, without the numbers that change. */
const told = (events: readonly FlowEvent[]): string[] =>
  events.map(({ type, reason }) => `${type}: ${reasons[reason]}`);

/** A handshake up to the client's first acknowledgement, which is next. */
function shake(shadow: LoadedShadow, ends: Ends, irs: number, iss: number): void {
  shadow.ingress.testRun(fromClient(ends, { seq: irs, flags: Bit.SYN }));
  const ack = u32(irs + 1);
  shadow.ingress.testRun(fromService(ends, { seq: iss, ack, flags: SYN_ACK }));
}

const REFUSED = ["flow.unprotected: nobody listens on the backup"];
const STRANGE = ["flow.unprotected: its handshake was not seen"];

withShadow(
  "the client's first acknowledgement ends the handshake, across the wrap",
  (shadow, ends) => {
    for (const irs of [5, 0xfffffffe, 0xffffffff]) {
      for (const iss of [5, 0xfffffffe, 0xffffffff]) {
        shake(shadow, ends, irs, iss);
        const first = fromClient(ends, {
          seq: u32(irs + 1),
          ack: u32(iss + 1),
          payload: [1, 2, 3],
        });
        assert.equal(shadow.ingress.testRun(first).verdict, Verdict.STOLEN);
        assert.deepEqual(told(shadow.events()), REFUSED);
        assert.equal(shadow.flow(ends), undefined);
        assert.equal(shadow.flow(ends, "handshakes"), undefined);
      }
    }
  },
);

withShadow(
  "a first acknowledgement with wrong numbers is a stranger's, and spoils nothing",
  (shadow, ends) => {
    const irs = 0xffffffff, iss = 0xffffffff;
    const forged: Said[] = [
      { seq: 1, ack: 0 },
      { seq: 0xffffffff, ack: 0 },
      { seq: 0x80000000, ack: 0 },
      { seq: 0, ack: 0xffffffff },
      { seq: 0, ack: 11 },
      { seq: 0, ack: 0x80000000 },
    ];
    for (const said of forged) {
      shadow.forget(ends);
      shake(shadow, ends, irs, iss);
      // The primary may speak first.
      shadow.ingress.testRun(fromService(ends, { seq: 0, ack: 0, payload: Array(10).fill(1) }));
      const frame = fromClient(ends, { ...said, payload: [1] });
      for (let time = 0; time < 3; time++) {
        assert.equal(shadow.ingress.testRun(frame).verdict, Verdict.STOLEN);
      }
      // What the primary has said may come by another processor, and later.
      const early = said.ack === 11;
      assert.deepEqual(told(shadow.events()), early ? [] : STRANGE, "it is reported once");
      for (const ack of [5, 10]) {
        shadow.ingress.testRun(fromClient(ends, { seq: 0, ack }));
        const then = early ? STRANGE : [];
        assert.deepEqual(told(shadow.events()), ack === 5 ? REFUSED : then);
      }
    }
  },
);

withShadow(
  "a SYN/ACK may come late; what the primary says behind it shows if it is missing",
  (shadow, ends) => {
    const ack = fromClient(ends, { seq: 101, ack: 201 });
    const begin = () => {
      shadow.forget(ends);
      shadow.ingress.testRun(fromClient(ends, { seq: 100, flags: Bit.SYN }));
      assert.equal(shadow.ingress.testRun(ack).verdict, Verdict.STOLEN);
      assert.deepEqual(shadow.events(), []);
    };
    begin();
    shadow.ingress.testRun(fromService(ends, { seq: 200, ack: 101, flags: SYN_ACK }));
    shadow.ingress.testRun(ack);
    assert.deepEqual(told(shadow.events()), REFUSED, "it is in time for a replica");
    begin();
    // Late ones of an earlier connection.
    for (const said of [{ ack: 90 }, { ack: 101, flags: Bit.RST | Bit.ACK }]) {
      shadow.ingress.testRun(fromService(ends, { seq: 201, ...said }));
    }
    assert.deepEqual(shadow.events(), []);
    for (let time = 0; time < 3; time++) {
      shadow.ingress.testRun(fromService(ends, { seq: 201, ack: 102 }));
    }
    assert.deepEqual(told(shadow.events()), STRANGE);
  },
);

withShadow("resets and segments without ACK do not end a handshake", (shadow, ends) => {
  shake(shadow, ends, 100, 200);
  for (const flags of [0, Bit.PSH, Bit.FIN, Bit.RST, Bit.RST | Bit.ACK]) {
    const frame = fromClient(ends, { seq: 101, ack: 201, flags });
    assert.equal(shadow.ingress.testRun(frame).verdict, Verdict.STOLEN);
  }
  assert.notEqual(shadow.flow(ends, "handshakes"), undefined);
  assert.deepEqual(shadow.events(), []);
});

withShadow("only the SYN/ACK that answers the SYN counts", (shadow, ends) => {
  const synAck = { seq: 200, flags: SYN_ACK };
  shadow.ingress.testRun(fromService(ends, { ...synAck, ack: 101 }));
  assert.equal(shadow.flow(ends, "handshakes"), undefined, "no SYN was seen");
  shadow.ingress.testRun(fromClient(ends, { seq: 100, flags: Bit.SYN }));
  for (const ack of [100, 102, 0, 0x80000065]) {
    shadow.ingress.testRun(fromService(ends, { ...synAck, ack }));
    assert.equal(shadow.flow(ends, "handshakes")!.synack_seen, 0);
  }
  shadow.ingress.testRun(fromService(ends, { ...synAck, ack: 101 }));
  assert.equal(shadow.flow(ends, "handshakes")!.synack_seen, 1);
});

withShadow(
  "a SYN that comes again changes nothing, one with another number starts anew",
  (shadow, ends) => {
    shake(shadow, ends, 100, 200);
    shadow.ingress.testRun(fromClient(ends, { seq: 100, flags: Bit.SYN }));
    assert.equal(shadow.flow(ends, "handshakes")!.iss, 200);
    shadow.ingress.testRun(fromClient(ends, { seq: 900, flags: Bit.SYN }));
    const { irs, synack_seen } = shadow.flow(ends, "handshakes")!;
    assert.deepEqual([irs, synack_seen], [900, 0]);
  },
);

withShadow(
  "the SYN/ACK of a new connection on the same ends resets the old one",
  (shadow, ends) => {
    shadow.setFlow(ends, { client_next: 0xfffffff0, replica_ack: 0xffffff00, irs: 1, iss: 2 });
    shadow.ingress.testRun(fromClient(ends, { seq: 100, flags: Bit.SYN }));
    assert.notEqual(shadow.flow(ends), undefined, "a SYN alone may be forged");
    const synAck = { seq: 200, ack: 101, flags: SYN_ACK, timestamps: [7, 8] as [number, number] };
    const frame = fromService(ends, synAck);
    const run = shadow.ingress.testRun(frame);
    assert.equal(run.verdict, Verdict.PASS);
    const reset = readSegment(run.frame);
    assert.deepEqual(
      {
        ...reset,
        source: ends.client,
        sourcePort: ends.clientPort,
        seq: 0xfffffff0,
        flags: Bit.RST,
      },
      reset,
    );
    assert.deepEqual([reset.ipChecksum, reset.tcpChecksum, reset.padding], [true, true, 0]);
    assert.equal(shadow.flow(ends), undefined);
    assert.equal(shadow.flow(ends, "handshakes")!.iss, 200);
    assert.equal(
      told(shadow.events())[0],
      "flow.close: the client opened the same addresses and ports anew",
    );
  },
);

withShadow("a SYN/ACK whose SYN the tap missed ends the old connection, too", (shadow, ends) => {
  const old = { client_next: 300, replica_ack: 400, irs: 1, iss: 2 };
  const synAck = (seq: number) => fromService(ends, { seq, ack: 101, flags: SYN_ACK });
  shadow.setFlow(ends, old);
  assert.equal(shadow.ingress.testRun(synAck(2)).verdict, Verdict.STOLEN);
  assert.notEqual(shadow.flow(ends), undefined, "it is the old connection's own");
  const { verdict, frame } = shadow.ingress.testRun(synAck(200));
  assert.equal(verdict, Verdict.PASS);
  const { seq, flags } = readSegment(frame);
  assert.deepEqual([seq, flags], [400, Bit.RST]);
  assert.equal(shadow.flow(ends), undefined);
  assert.equal(shadow.flow(ends, "handshakes"), undefined);
});

withShadow(
  "the SYN/ACK of a new connection resets what may be left of an ended one",
  (shadow, ends) => {
    const reset = fromService(ends, { seq: 2, flags: Bit.RST });
    for (const syns of [[100], [90, 100], [100, 100]]) {
      shadow.setFlow(ends, { client_next: 300, replica_ack: 400, irs: 1, iss: 2 });
      shadow.ingress.testRun(reset);
      for (const seq of syns) shadow.ingress.testRun(fromClient(ends, { seq, flags: Bit.SYN }));
      const synAck = fromService(ends, { seq: 200, ack: 101, flags: SYN_ACK });
      const { verdict, frame } = shadow.ingress.testRun(synAck);
      assert.equal(verdict, Verdict.PASS);
      const { seq, flags, source } = readSegment(frame);
      assert.deepEqual([seq, flags, source], [400, Bit.RST, ends.client]);
      const { replica_ack, iss } = shadow.flow(ends, "handshakes")!;
      assert.deepEqual([replica_ack, iss], [101, 200]);
      assert.equal(shadow.ingress.testRun(synAck).verdict, Verdict.STOLEN, "a second one does not");
      shadow.forget(ends);
    }
  },
);

withShadow("strangers are counted, and reports of them are rationed", (shadow, ends) => {
  const count = 3000;
  const begin = Math.floor(performance.now() / 1000);
  const counted = shadow.counted(() => {
    for (let port = 1; port <= count; port++) {
      const frame = fromClient({ ...ends, clientPort: port }, { seq: 1, ack: 1 });
      assert.equal(shadow.ingress.testRun(frame).verdict, Verdict.STOLEN);
    }
  });
  assert.equal(counted["unknown_flow"], count);
  const seconds = Math.floor(performance.now() / 1000) - begin + 2;
  const reports = shadow.events().length;
  assert.ok(reports <= 200 * seconds * navigator.hardwareConcurrency, `${reports} reports`);
  assert.equal(counted["flows_unprotected"] ?? 0, reports);
});

withShadow("ECN takes both flags in the SYN, and ECE alone in the SYN/ACK", (shadow, ends) => {
  const both = Bit.ECE | Bit.CWR;
  const agreed = (syn: number, synAck: number, accurate = 0): boolean => {
    shadow.forget(ends);
    shadow.ingress.testRun(fromClient(ends, { seq: 1, flags: Bit.SYN | syn }));
    const answer = { seq: 7, ack: 2, flags: SYN_ACK | synAck, reserved: accurate };
    shadow.ingress.testRun(fromService(ends, answer));
    return (shadow.flow(ends, "handshakes")!.options & Option.ECN) !== 0;
  };
  assert.ok(agreed(both, Bit.ECE));
  for (const syn of [0, Bit.ECE, Bit.CWR]) assert.ok(!agreed(syn, Bit.ECE), `SYN ${syn}`);
  for (const synAck of [0, Bit.CWR, both]) assert.ok(!agreed(both, synAck), `SYN/ACK ${synAck}`);
  assert.ok(!agreed(both, Bit.ECE, 1), "more accurate feedback, RFC 9768");
});

withShadow("an MSS below the family's least is refused over IPv4 alone", (shadow, ends) => {
  const ipv6 = ends.client.includes(":");
  for (const [mss, refused] of [[535, !ipv6], [536, false], [88, !ipv6], [1219, false]] as const) {
    shadow.forget(ends);
    const options = [2, 4, ...word(mss)];
    shadow.ingress.testRun(fromClient(ends, { seq: 1, flags: Bit.SYN, options }));
    shadow.ingress.testRun(fromService(ends, { seq: 7, ack: 2, flags: SYN_ACK, options }));
    shadow.ingress.testRun(fromClient(ends, { seq: 2, ack: 8 }));
    const small = ["flow.unprotected: the client's MSS is too small"];
    assert.deepEqual(told(shadow.events()), refused ? small : REFUSED, `MSS ${mss}`);
  }
});

withShadow("late segments of a flow that has ended are no flow to join", (shadow, ends) => {
  const services = ["10.77.0.100:9", "[fd77::100]:9"].map(parseService);
  const late = fromService(ends, { seq: 1000, ack: 500 });
  const offered = (): boolean => {
    shadow.ingress.testRun(late);
    return shadow.flow(ends, "handshakes") !== undefined;
  };
  writeServices(shadow.map("services"), services, [9], 7);
  try {
    assert.ok(offered());
    shadow.forget(ends);
    // A segment of the client's that comes first makes a stranger of it, which may be joined all the same.
    shadow.ingress.testRun(fromClient(ends, { seq: 500, ack: 1000 }));
    assert.ok(offered());
    shadow.forget(ends);
    shadow.setFlow(ends, { client_end: 500, primary_ack: 500, primary_end: 1000 });
    shadow.ingress.testRun(fromClient(ends, { seq: 500, flags: Bit.RST }));
    assert.ok(!offered());
  } finally {
    writeServices(shadow.map("services"), services);
  }
});
