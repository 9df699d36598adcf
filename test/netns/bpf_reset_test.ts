/** The primary's resets and the clients that wait, in the gateway's BPF programs. */
import assert from "node:assert/strict";
import { monotonicMicros } from "../../ffi/clock.ts";
import { WANT_FLOW_EVENTS } from "../../lib/flow/layout.ts";
import {
  MARK_RESET,
  MAX_WAITING,
  MIRROR_ANSWERS,
  RESET,
  ResetState,
  SIGNALS,
  WAITING,
} from "../../lib/mirror/layout.ts";
import { resetFrame } from "../../lib/mirror/resets.ts";
import { type Ends, flowKey, isRoot, LoadedMirror, runMarked, Verdict } from "../fixture/bpf.ts";
import { linked, macs } from "../fixture/commit_flow.ts";
import { Bit, readSegment } from "../fixture/segment.ts";
import { type Frame, fromClient, fromService, type Said } from "../fixture/tracked.ts";

const HOLD = 60_000;
const { PASS, STOLEN, REDIRECT } = Verdict;
const { FIN, SYN, RST, ACK, PSH } = Bit;
const families: readonly Ends[] = [
  { client: "10.77.1.2", clientPort: 40_000, server: "10.77.0.100", serverPort: 9 },
  {
    client: "fd77:1:0:0:0:0:0:2",
    clientPort: 40_000,
    server: "fd77:0:0:0:0:0:0:100",
    serverPort: 9,
  },
];
const loaded = isRoot ? new LoadedMirror(["10.77.0.100:9", "[fd77::100]:9"]) : undefined;

function withMirror(name: string, test: (mirror: LoadedMirror, ends: Ends) => void): void {
  for (const ends of families) {
    Deno.test({
      name: `bpf: ${name}, IPv${ends.client.includes(":") ? 6 : 4}`,
      ignore: loaded === undefined,
      fn() {
        loaded!.control(macs, WANT_FLOW_EVENTS, 0, HOLD);
        loaded!.forget(ends);
        loaded!.map("resets").delete(flowKey(ends));
        loaded!.events();
        test(loaded!, ends);
      },
    });
  }
}

/** The verdict over a segment of the primary. */
function primary(mirror: LoadedMirror, ends: Ends, said: Said, mark = 0): number {
  const frame = linked(fromService(ends, said), macs.primary);
  const run = runMarked(mirror.ingress, frame, mark);
  assert.deepEqual([[...run.frame], run.mark], [[...frame], 0]);
  return run.verdict;
}

/** What is noted of a flow's resets; undefined where nothing is. */
function noted(mirror: LoadedMirror, ends: Ends): DataView | undefined {
  const value = new Uint8Array(RESET.size);
  return mirror.map("resets").lookup(flowKey(ends), value) ? new DataView(value.buffer) : undefined;
}

/** The frame that user space makes of what is noted. */
function released(mirror: LoadedMirror, ends: Ends): Frame {
  const keys = new DataView(flowKey(ends).buffer);
  const own = Uint8Array.from(macs.own), from = Uint8Array.from(macs.primary);
  const place = { keys, keyAt: 0, values: noted(mirror, ends)!, at: 0 };
  return resetFrame(place, { own, primary: from });
}

/** Lets the flow's first reset have come so many milliseconds ago. */
function age(mirror: LoadedMirror, ends: Ends, milliseconds: number): void {
  const value = noted(mirror, ends)!;
  const since = Math.round((monotonicMicros() - milliseconds * 1000) * 1000);
  value.setBigUint64(RESET.since_ns, BigInt(since), true);
  mirror.map("resets").update(flowKey(ends), new Uint8Array(value.buffer as ArrayBuffer));
}

/** Counters, without those of copies: a loopback device that is down takes none. */
function counted(mirror: LoadedMirror, run: () => void): Record<string, number> {
  const all = Object.entries(mirror.counted(run));
  return Object.fromEntries(all.filter(([name]) => name.startsWith("resets")));
}

withMirror(
  "resets: the one with the highest number goes on, as the primary sent it",
  (mirror, ends) => {
    primary(mirror, ends, { flags: SYN | ACK, seq: 999 });
    mirror.events();
    const first = counted(mirror, () => {
      assert.equal(primary(mirror, ends, { flags: RST | ACK, seq: 2000, ack: 77 }), STOLEN);
      assert.equal(primary(mirror, ends, { flags: RST, seq: 3000 }), STOLEN);
      assert.equal(primary(mirror, ends, { flags: RST, seq: 1000 }), STOLEN);
    });
    assert.deepEqual(first, { resets: 3, resets_held: 3 });
    assert.deepEqual(mirror.events(), [], "the flow has not ended yet");
    const frame = released(mirror, ends);
    const segment = readSegment(frame);
    assert.deepEqual(
      [segment.source, segment.sourcePort, segment.destination, segment.destinationPort],
      [ends.server, ends.serverPort, ends.client, ends.clientPort],
    );
    assert.deepEqual([segment.seq, segment.ack, segment.flags], [3000, 0, RST]);
    assert.deepEqual([segment.ipChecksum, segment.tcpChecksum, segment.padding], [true, true, 0]);
    assert.deepEqual([segment.sourceMac, segment.destinationMac], [macs.primary, macs.own]);

    // Out of the interface it comes in again, and then it goes on.
    const turned = runMarked(mirror.egress, frame, MARK_RESET);
    assert.deepEqual([turned.verdict, turned.mark], [REDIRECT, MARK_RESET]);
    const last = counted(mirror, () => {
      const run = runMarked(mirror.ingress, frame, MARK_RESET);
      assert.deepEqual([run.verdict, run.mark, [...run.frame]], [PASS, 0, [...frame]]);
    });
    assert.deepEqual(last, { resets_passed: 1 });
    assert.deepEqual(mirror.events().map(({ type }) => type), ["flow.close"]);
    assert.equal(noted(mirror, ends)!.getUint8(RESET.state), ResetState.PASSED);
    assert.deepEqual(
      counted(mirror, () => {
        assert.equal(primary(mirror, ends, { flags: RST, seq: 1500 }), PASS);
      }),
      { resets: 1 },
    );
  },
);

withMirror("resets: after the bound the next one passes by itself", (mirror, ends) => {
  assert.equal(primary(mirror, ends, { flags: RST, seq: 2000 }), STOLEN);
  age(mirror, ends, HOLD - 5000);
  assert.equal(primary(mirror, ends, { flags: RST, seq: 2000 }), STOLEN);
  age(mirror, ends, HOLD + 1);
  const all = counted(mirror, () => {
    assert.equal(primary(mirror, ends, { flags: RST, seq: 2000 }), PASS);
    assert.equal(primary(mirror, ends, { flags: RST, seq: 2000 }), PASS);
  });
  assert.deepEqual(all, { resets: 2, resets_passed: 1 });
});

withMirror(
  "resets: a refusal passes at once, and a new connection voids the old reset",
  (mirror, ends) => {
    const refusal = { flags: RST | ACK, seq: 0, ack: 5 };
    assert.deepEqual(
      counted(mirror, () => {
        assert.equal(primary(mirror, ends, refusal), PASS);
        assert.equal(noted(mirror, ends), undefined);
        assert.equal(primary(mirror, ends, { flags: RST, seq: 0 }), STOLEN);
        assert.equal(primary(mirror, ends, refusal), PASS);
      }),
      { resets: 3, resets_held: 1 },
    );
    const frame = released(mirror, ends);
    assert.equal(primary(mirror, ends, { flags: ACK, payload: [1] }), PASS);
    assert.notEqual(noted(mirror, ends), undefined);
    assert.equal(primary(mirror, ends, { flags: SYN | ACK }), PASS);
    assert.equal(noted(mirror, ends), undefined);
    // One that user space has on its way does not count for the new connection.
    assert.equal(runMarked(mirror.ingress, frame, MARK_RESET).verdict, STOLEN);
    assert.equal(noted(mirror, ends), undefined);
  },
);

withMirror("resets: none is held back unless it is wanted", (mirror, ends) => {
  mirror.control(macs);
  assert.deepEqual(
    counted(mirror, () => {
      assert.equal(primary(mirror, ends, { flags: RST, seq: 2000 }), PASS);
    }),
    { resets: 1 },
  );
  assert.equal(noted(mirror, ends), undefined);
});

withMirror("resets: without room for more they pass, and are counted", (mirror, ends) => {
  const map = mirror.map("resets");
  const fill = (work: (key: Uint8Array<ArrayBuffer>) => void) => {
    const key = flowKey(ends);
    for (let i = 1; i <= map.info.maxEntries; i++) {
      new DataView(key.buffer).setUint32(0, i);
      work(key);
    }
  };
  const value = new Uint8Array(RESET.size);
  try {
    fill((key) => map.update(key, value));
    assert.deepEqual(
      counted(mirror, () => {
        assert.equal(primary(mirror, ends, { flags: RST, seq: 2000 }), PASS);
      }),
      { resets: 1, resets_not_held: 1 },
    );
  } finally {
    fill((key) => map.delete(key));
  }
});

withMirror("resets: those of a service are counted in its place", (mirror, ends) => {
  const counts = (): bigint => {
    const value = new Uint8Array(SIGNALS.size);
    mirror.map("signals").lookup(new Uint8Array(4), value);
    return new DataView(value.buffer).getBigUint64(SIGNALS.resets, true);
  };
  const before = counts();
  primary(mirror, ends, { flags: RST | ACK, seq: 0 });
  primary(mirror, ends, { flags: RST | ACK, seq: 7 });
  primary(mirror, { ...ends, serverPort: 10 }, { flags: RST | ACK, seq: 0 });
  assert.equal(counts() - before, 2n);
});

/** The flows that wait, as their `struct flow_key`. */
function waiting(mirror: LoadedMirror): string[] {
  const value = new Uint8Array(WAITING.size);
  return Array.from({ length: MAX_WAITING }, (_, slot) => {
    mirror.map("waiting").lookup(new Uint8Array(Uint32Array.of(slot).buffer), value);
    const since = new DataView(value.buffer).getBigUint64(WAITING.since_ns, true);
    return since === 0n ? [] : [`${value.subarray(WAITING.key, WAITING.key + 36)}`];
  }).flat();
}

function client(mirror: LoadedMirror, ends: Ends, said: Said): void {
  const frame = fromClient(ends, said);
  frame.set([...macs.primary, ...macs.own]);
  assert.equal(runMarked(mirror.egress, frame, 0).verdict, PASS);
}

withMirror(
  "answers: what takes up sequence numbers waits for any segment of the primary's",
  (mirror, ends) => {
    const data = { flags: ACK | PSH, payload: [1] };
    client(mirror, ends, data);
    assert.deepEqual(waiting(mirror), [], "nobody wants to know");
    mirror.control(macs, MIRROR_ANSWERS);
    for (const said of [{ flags: ACK }, { flags: ACK, window: 0 }]) client(mirror, ends, said);
    assert.deepEqual(waiting(mirror), []);
    const asked: Said[] = [data, { flags: SYN }, { flags: FIN | ACK }];
    const answers: Said[] = [{ flags: ACK }, { flags: SYN | ACK }, { flags: RST }, data];
    for (const said of asked) {
      for (const answer of answers) {
        client(mirror, ends, said);
        assert.deepEqual(waiting(mirror), [`${flowKey(ends)}`]);
        primary(mirror, { ...ends, clientPort: ends.clientPort + 1 }, answer);
        client(mirror, ends, { flags: ACK });
        assert.deepEqual(waiting(mirror), [`${flowKey(ends)}`]);
        primary(mirror, ends, answer);
        assert.deepEqual(waiting(mirror), []);
      }
    }
    client(mirror, ends, data);
    client(mirror, ends, { flags: RST });
    assert.deepEqual(waiting(mirror), [], "who resets the connection waits no more");
  },
);

withMirror(
  "answers: a flow that waits is not pushed out, and there is room for many",
  (mirror, ends) => {
    mirror.control(macs, MIRROR_ANSWERS);
    client(mirror, ends, { flags: ACK, payload: [1] });
    for (let port = 1024; port < 3024; port++) {
      client(mirror, { ...ends, clientPort: port }, { flags: ACK, payload: [1] });
    }
    const all = waiting(mirror);
    assert.ok(all.includes(`${flowKey(ends)}`));
    assert.ok(all.length > MAX_WAITING * 0.95, `${all.length} of ${MAX_WAITING} slots are taken`);
    for (let port = 1024; port < 3024; port++) {
      primary(mirror, { ...ends, clientPort: port }, { flags: ACK });
    }
    assert.deepEqual(waiting(mirror), [`${flowKey(ends)}`]);
    primary(mirror, ends, { flags: ACK });
    assert.deepEqual(waiting(mirror), []);
  },
);
