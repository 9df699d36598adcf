/**
 * The gateway's BPF programs on frames of every shape: whatever they copy, the frame itself goes on as it came. The
 * copies go to this namespace's loopback device, bear the backup's MAC address there, and are heeded by nobody.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { BpfProgram } from "../../ffi/bpf_object.ts";
import { reasons } from "../../lib/flow/event.ts";
import { WANT_FLOW_EVENTS } from "../../lib/flow/layout.ts";
import { MIRROR_PAYLOAD } from "../../lib/mirror/layout.ts";
import { flowKey, isRoot, LoadedMirror, runMarked, Verdict } from "../fixture/bpf.ts";
import { readHeader } from "../fixture/c_header.ts";
import { isRunnable } from "../fixture/claim.ts";
import { Bit, type Link, Next, tagged } from "../fixture/segment.ts";
import { arp, neighbour, shapes, TAGS } from "../fixture/shapes.ts";
import { type Frame, fromClient, fromService, type Said } from "../fixture/tracked.ts";

const mac = (last: number): number[] => [2, 0x77, 0, 0, 0, last];
const macs = { primary: mac(0x11), backup: mac(0x12), own: mac(0x13) };
const toPrimary: Link = { destination: macs.primary, source: macs.own };
const fromPrimary: Link = { destination: macs.own, source: macs.primary };
const families = [
  { client: "10.77.1.2", clientPort: 40_000, server: "10.77.0.100", serverPort: 9 },
  { client: "fd77:1::2", clientPort: 40_000, server: "fd77::100", serverPort: 9 },
];

const loaded = isRoot ? new LoadedMirror(["10.77.0.100:9", "[fd77::100]:9"]) : undefined;

function withMirror(name: string, test: (mirror: LoadedMirror) => void): void {
  Deno.test({
    name: `bpf: mirror: ${name}`,
    ignore: loaded === undefined,
    fn() {
      loaded!.control(macs);
      for (const ends of families) loaded!.map("flows").delete(flowKey(ends));
      loaded!.events();
      test(loaded!);
    },
  });
}

const hex = (frame: Uint8Array): string =>
  Array.from(frame, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The frame with other MAC addresses. */
function linked(frame: Frame, { destination, source }: Link): Frame {
  const result = frame.slice();
  result.set([...destination!, ...source!]);
  return result;
}

/** Runs the program, which must let the frame and its mark pass as they are. */
function assertPasses(program: BpfProgram, frame: Frame, mark = 0): void {
  const run = runMarked(program, frame, mark);
  assert.deepEqual([run.verdict, run.mark], [Verdict.PASS, mark], hex(frame));
  assert.equal(hex(run.frame), hex(frame));
}

/** What `run` counts; a loopback device that is down takes no copies. */
function counted(mirror: LoadedMirror, run: () => void): Record<string, number> {
  const { failed: _, ...others } = mirror.counted(run);
  return others;
}

withMirror("segments of the service are copied, and go on as they came", (mirror) => {
  const said = fc.record({
    flags: fc.nat(255),
    payload: fc.uint8Array({ maxLength: 1460 }).map((all) => [...all]),
    tags: fc.constantFrom(...TAGS),
    family: fc.nat(1),
    flow: fc.constantFrom(0, WANT_FLOW_EVENTS),
    whole: fc.constantFrom(0, MIRROR_PAYLOAD),
    mark: fc.constantFrom(0, 1, 0xffffffff),
  });
  fc.assert(
    fc.property(said, ({ family, flow, whole, mark, tags, ...said }) => {
      mirror.control(macs, flow | whole);
      const ends = families[family]!;
      const out = linked(fromClient(ends, said, tags), toPrimary);
      const into = linked(fromService(ends, said, tags), fromPrimary);
      const counted = mirror.counted(() => {
        for (const [program, frame] of [[mirror.egress, out], [mirror.ingress, into]] as const) {
          const run = runMarked(program, frame, mark);
          assert.deepEqual([run.verdict, run.mark], [Verdict.PASS, mark]);
          assert.equal(hex(run.frame), hex(frame));
        }
      });
      assert.deepEqual(counted, {
        ...{ to_primary: 1, to_primary_bytes: out.length },
        ...{ from_primary: 1, from_primary_bytes: into.length },
        ...(said.flags & Bit.RST ? { resets: 1 } : {}),
      });
    }),
    { numRuns: 500 },
  );
});

withMirror("frames of every shape go on as they came", (mirror) => {
  for (const { client, server } of families) {
    const there = { source: client, destination: server, sourcePort: 40_000, destinationPort: 9 };
    const back = { source: server, destination: client, sourcePort: 9, destinationPort: 40_000 };
    const cases = [
      [mirror.egress, shapes(there, toPrimary)],
      [mirror.ingress, shapes(back, fromPrimary)],
    ] as const;
    for (const [program, all] of cases) {
      for (const [index, frame] of [...all.values()].entries()) {
        const whole = tagged(frame, TAGS[index % TAGS.length]!);
        if (isRunnable(whole)) assertPasses(program, whole);
      }
    }
  }
});

withMirror("what is not between the clients and the primary is not copied", (mirror) => {
  for (const ends of families) {
    const there = fromClient(ends, { payload: [1] }), back = fromService(ends, { payload: [1] });
    const elsewhere = fromClient({ ...ends, serverPort: 10 }, {});
    const { server: target } = families[1]!, destination = "ff02::1";
    const cases: [BpfProgram, Frame][] = [
      [mirror.egress, linked(there, { ...toPrimary, destination: macs.backup })],
      [mirror.egress, linked(there, fromPrimary)],
      [mirror.egress, linked(back, toPrimary)],
      [mirror.egress, linked(elsewhere, toPrimary)],
      [mirror.egress, arp(1, "10.77.0.1", "10.77.0.100", toPrimary)],
      [mirror.ingress, linked(back, { ...fromPrimary, source: macs.backup })],
      [mirror.ingress, linked(back, toPrimary)],
      [mirror.ingress, linked(there, fromPrimary)],
      [mirror.ingress, arp(2, "10.77.0.100", "10.77.0.1", fromPrimary)],
      [mirror.ingress, neighbour(136, { source: target, destination, target }, [], fromPrimary)],
    ];
    for (const [program, frame] of cases) {
      assert.deepEqual(counted(mirror, () => assertPasses(program, frame)), {}, hex(frame));
    }
  }
});

const layout = new URL("../../ffi/bpf/layout.h", import.meta.url);
const MARK_HEADERS = readHeader(Deno.readTextFileSync(layout)).defines.get("MARK_HEADERS")!;

withMirror("a copy without payload is cut behind its headers, whose lengths stay", (mirror) => {
  const more: Said[] = [{}, { timestamps: [1, 2] }, { options: Array(40).fill(1) }];
  for (const ends of families) {
    for (const tags of TAGS) {
      for (const said of more) {
        const empty = fromService(ends, { ...said, payload: [] }, tags);
        for (const count of [0, 1, 2, 1000]) {
          const whole = fromService(ends, { ...said, payload: Array(count).fill(1) }, tags);
          const run = runMarked(mirror.egress, whole, MARK_HEADERS);
          assert.deepEqual([run.verdict, run.mark], [Verdict.PASS, 0]);
          assert.equal(hex(run.frame), hex(whole.subarray(0, empty.length)));
        }
      }
    }
  }
});

withMirror("marked frames of any other shape are not cut", (mirror) => {
  const { client: source, server: destination } = families[0]!;
  const all = shapes({ source, destination, sourcePort: 40_000, destinationPort: 9 });
  for (const [name, frame] of all) {
    if (!/fragment|protocol (?!6$)|data offset [0-4]\b|length (1|19|20|39)\b/.test(name)) continue;
    const run = runMarked(mirror.egress, frame, MARK_HEADERS);
    assert.equal(hex(run.frame), hex(frame), name);
  }
  assert.equal(all.has(`protocol ${Next.UDP}`), true);
});

withMirror(
  "flows are reported when they open and when both sides, or a reset, end them",
  (mirror) => {
    mirror.control(macs, WANT_FLOW_EVENTS);
    const { FIN, SYN, RST, ACK } = Bit;
    const client = (flags: number) => ({ program: mirror.egress, make: fromClient, flags });
    const primary = (flags: number) => ({ program: mirror.ingress, make: fromService, flags });
    const stories = [
      [[client(FIN | ACK), primary(FIN | ACK)], "both sides closed"],
      [[primary(FIN | ACK), primary(FIN | ACK), client(FIN | ACK)], "both sides closed"],
      [[client(RST)], "reset by the client"],
      [[client(FIN | ACK), primary(RST | ACK)], "reset by the primary"],
    ] as const;
    for (const ends of families) {
      for (const [ending, reason] of stories) {
        const story = [client(SYN), primary(SYN | ACK), primary(SYN | ACK), client(ACK), ...ending];
        for (const { program, make, flags } of story) {
          const link = program === mirror.egress ? toPrimary : fromPrimary;
          program.testRun(linked(make(ends, { flags }), link));
        }
        const told = mirror.events().map(({ type, reason }) => `${type}: ${reasons[reason]}`);
        assert.deepEqual(told, ["flow.open: none", `flow.close: ${reason}`]);
      }
    }
  },
);
