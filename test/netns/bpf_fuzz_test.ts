/**
 * The BPF programs of the backup on frames of every shape: in shadow mode nothing of the service gets out, and what is
 * none of their business passes untouched. Nothing is sent.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { BpfProgram, TestRun } from "../../ffi/bpf_object.ts";
import { DRAINING, Mode } from "../../lib/flow/layout.ts";
import { isRoot, LoadedShadow, Verdict } from "../fixture/bpf.ts";
import { claimOf, isFor, isRunnable, touches } from "../fixture/claim.ts";
import { ethernet, Next, tagged } from "../fixture/segment.ts";
import { arp, neighbour, shapes, TAGS } from "../fixture/shapes.ts";

const IPV4 = { service: "10.77.0.100", own: "10.77.0.12", client: "10.77.1.2" };
const IPV6 = { service: "fd77::100", own: "fd77::12", client: "fd77:1::2" };
const families = [IPV4, IPV6];
const services = [IPV4.service, IPV6.service];
const SOLICITED = "ff02::1:ff00:100";
const ALL_NODES = "ff02::1";

type Frame = Uint8Array<ArrayBuffer>;

/** Loaded once, since the verifier takes its time. */
const loaded = isRoot
  ? new LoadedShadow([`${IPV4.service}:80`, `[${IPV6.service}]:80`])
  : undefined;

/** Runs `test` with programs for a service of each family, in shadow mode. */
function withShadow(name: string, test: (shadow: LoadedShadow) => void): void {
  Deno.test({
    name: `bpf: ${name}`,
    ignore: loaded === undefined,
    fn() {
      loaded!.control(Mode.SHADOW);
      test(loaded!);
    },
  });
}

const hex = (frame: Uint8Array): string =>
  Array.from(frame, (byte) => byte.toString(16).padStart(2, "0")).join("");

const run = (program: BpfProgram, frame: Frame): TestRun => program.testRun(frame, 1, frame.length);

function assertPassed({ verdict, frame: after }: TestRun, frame: Frame, what = "it"): void {
  if (verdict !== Verdict.PASS) assert.fail(`verdict ${verdict}, ${what}: ${hex(frame)}`);
  if (!same(frame, after)) assert.equal(hex(after), hex(frame), `${what} was changed`);
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at++;
  return at === one.length && one.length === other.length;
}

function assertPasses(program: BpfProgram, frame: Frame, what?: string): void {
  assertPassed(run(program, frame), frame, what);
}

function assertHeld(program: BpfProgram, frame: Frame, what = "it"): void {
  const { verdict } = run(program, frame);
  if (verdict === Verdict.STOLEN || verdict === Verdict.REDIRECT) return;
  assert.fail(`verdict ${verdict}, ${what}: ${hex(frame)}`);
}

const made = new Map<string, [string, Frame][]>();

/** Packets of all shapes from `source` to `destination`, behind all tags. */
function allShapes(source: string, destination: string, ports = "80 40000"): [string, Frame][] {
  const key = [source, destination, ports].join(" ");
  const [sourcePort = 0, destinationPort = 0] = ports.split(" ").map(Number);
  let frames = made.get(key);
  if (frames === undefined) {
    const plain = shapes({ source, destination, sourcePort, destinationPort });
    frames = TAGS.flatMap((tags) =>
      [...plain].map(([name, frame]): [string, Frame] => [
        `${name}, ${tags.length} tags, from ${source}`,
        tagged(frame, tags),
      ])
    ).filter(([, frame]) => isRunnable(frame));
    made.set(key, frames);
  }
  return frames;
}

withShadow("of the service's address no packet gets out, whatever its shape", ({ egress }) => {
  for (const { service, client } of families) {
    for (const [name, frame] of allShapes(service, client)) assertHeld(egress, frame, name);
    for (const [name, frame] of allShapes(service, client, "81 80")) {
      assertHeld(egress, frame, name);
    }
  }
});

withShadow("other addresses' packets get out untouched, whatever their shape", ({ egress }) => {
  for (const { own, service, client } of families) {
    for (const [name, frame] of allShapes(own, client)) assertPasses(egress, frame, name);
    for (const [name, frame] of allShapes(own, service, "40000 80")) {
      assertPasses(egress, frame, name);
    }
  }
});

withShadow("nothing for the service's address gets in unless its flow is known", ({ ingress }) => {
  for (const { service, client } of families) {
    for (const [name, frame] of allShapes(client, service, "40000 80")) {
      assertHeld(ingress, frame, name);
    }
    for (const [name, frame] of allShapes(client, service, "80 81")) {
      assertHeld(ingress, frame, name);
    }
  }
});

withShadow("other addresses' packets get in untouched, whatever their shape", ({ ingress }) => {
  for (const { own, client } of families) {
    for (const [name, frame] of allShapes(client, own, "40000 80")) {
      assertPasses(ingress, frame, name);
    }
    for (const [name, frame] of allShapes(client, own)) assertPasses(ingress, frame, name);
  }
});

withShadow("in active mode everything passes untouched", (shadow) => {
  shadow.control(Mode.ACTIVE, 0, IPV4.own);
  for (const program of [shadow.ingress, shadow.egress]) {
    for (const { service, client } of families) {
      for (const [name, frame] of allShapes(service, client)) assertPasses(program, frame, name);
      for (const [name, frame] of allShapes(client, service, "40000 80")) {
        assertPasses(program, frame, name);
      }
    }
    for (const operation of [1, 2]) {
      assertPasses(program, arp(operation, IPV4.service, IPV4.client));
      assertPasses(program, arp(operation, IPV4.service, IPV4.service));
    }
  }
});

withShadow("a shadow that is being taken down lets no segment of the service in", (shadow) => {
  for (const mode of [Mode.SHADOW, Mode.SETTLING]) {
    shadow.control(mode, DRAINING);
    for (const { service, client } of families) {
      const pair = {
        source: client,
        destination: service,
        sourcePort: 40_000,
        destinationPort: 80,
      };
      for (const [name, frame] of shapes(pair)) {
        if (name.startsWith("flags")) assertHeld(shadow.ingress, frame, name);
      }
    }
  }
});

withShadow("ARP claims of the service's address do not get out", ({ egress }) => {
  const { service, client } = IPV4;
  for (const tags of TAGS) {
    const claims = {
      "reply": arp(2, service, client, { tags }),
      "gratuitous request": arp(1, service, service, { tags }),
      "gratuitous reply": arp(2, service, service, { tags }),
      "unknown operation": arp(9, service, client, { tags }),
      "request, the interface has no address of its own": arp(1, service, client, { tags }),
    };
    for (const [name, frame] of Object.entries(claims)) assertHeld(egress, frame, name);
  }
});

withShadow("an ARP request asks on behalf of the interface's own address", (shadow) => {
  shadow.control(Mode.SHADOW, 0, IPV4.own);
  const { service, own, client } = IPV4;
  for (const tags of TAGS) {
    const { verdict, frame } = shadow.egress.testRun(arp(1, service, client, { tags }));
    assert.equal(verdict, Verdict.PASS);
    assert.equal(hex(frame), hex(arp(1, own, client, { tags })));
    assertHeld(shadow.egress, arp(2, service, client, { tags }), "reply");
    assertHeld(shadow.egress, arp(1, service, service, { tags }), "gratuitous request");
  }
});

withShadow("others' ARP passes untouched, in both directions", (shadow) => {
  const { service, own, client } = IPV4;
  for (const tags of TAGS) {
    for (const operation of [0, 1, 2, 3, 0xffff]) {
      const whole = arp(operation, own, client, { tags });
      for (let length = 15; length <= whole.length; length++) {
        assertPasses(shadow.egress, whole.slice(0, length), "cut short");
      }
      assertPasses(shadow.egress, arp(operation, own, service, { tags }));
      assertPasses(shadow.ingress, arp(operation, service, client, { tags }));
      assertPasses(shadow.ingress, arp(operation, client, service, { tags }));
    }
  }
});

const { HOP_BY_HOP, ROUTING, DESTINATION } = Next;
const EXTENSIONS = [
  [],
  [HOP_BY_HOP],
  [ROUTING, DESTINATION],
  [HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION],
];

withShadow("neighbour discovery's claims of the service's address do not get out", ({ egress }) => {
  const { service: target, own } = IPV6;
  for (const tags of TAGS) {
    for (const extensions of EXTENSIONS) {
      for (const source of [target, own, "::", "fe80::1"]) {
        for (const destination of [ALL_NODES, SOLICITED, IPV6.client]) {
          for (const type of [135, 136]) {
            const frame = neighbour(type, { source, destination, target }, extensions, { tags });
            assertHeld(egress, frame, `${type} from ${source}`);
          }
        }
      }
    }
  }
});

withShadow("others' neighbour discovery passes untouched, in both directions", (shadow) => {
  for (const extensions of EXTENSIONS) {
    for (const type of [133, 134, 135, 136, 137, 143]) {
      const ends = { source: IPV6.own, destination: ALL_NODES, target: IPV6.own };
      const frame = neighbour(type, ends, extensions);
      for (let length = 54; length <= frame.length; length++) {
        assertPasses(shadow.egress, frame.slice(0, length), `${type} cut short`);
      }
      const ofService = { source: IPV6.client, destination: ALL_NODES, target: IPV6.service };
      assertPasses(shadow.ingress, neighbour(type, ofService, extensions));
    }
  }
});

withShadow("frames of any other EtherType pass untouched", (shadow) => {
  const body = [...Array(60).keys()];
  for (let type = 0; type <= 0xffff; type += type < 0x600 || type % 0x100 > 0x10 ? 0xf1 : 1) {
    if ([0x0800, 0x0806, 0x8100, 0x86dd, 0x88a8].includes(type)) continue;
    assertPasses(shadow.egress, ethernet(type, body));
    assertPasses(shadow.ingress, ethernet(type, body));
  }
});

/** Whether the programs do with the frame what it calls for. */
function assertHeeded(shadow: LoadedShadow, frame: Frame): void {
  const out = run(shadow.egress, frame);
  const claim = claimOf(frame, services);
  if (claim === "other") assertPassed(out, frame, "at egress");
  else if (claim === "service") assert.notEqual(out.verdict, Verdict.PASS, hex(frame));
  else if (claim === "asks") assert.ok(!same(out.frame, frame), `it asks: ${hex(frame)}`);
  const into = run(shadow.ingress, frame);
  if (isFor(frame, services)) assert.equal(into.verdict, Verdict.STOLEN, hex(frame));
  else if (!touches(frame, services)) assertPassed(into, frame, "at ingress");
  else if (into.verdict === Verdict.PASS) assertPassed(into, frame, "at ingress");
}

/** Sound and odd frames in both directions, of and for the services, and of others. */
function pool(): Frame[] {
  const frames: Frame[] = [];
  const add = (source: string, destination: string, ports: string) => {
    for (const [, frame] of allShapes(source, destination, ports)) frames.push(frame);
  };
  for (const { service, own, client } of families) {
    add(service, client, "80 40000");
    add(client, service, "40000 80");
    add(own, client, "22 40000");
  }
  for (const tags of TAGS) {
    for (const target of [IPV6.service, IPV6.own]) {
      for (const extensions of EXTENSIONS) {
        const ends = { source: IPV6.own, destination: ALL_NODES, target };
        for (let copy = 0; copy < 50; copy++) {
          frames.push(neighbour(135 + copy % 2, ends, extensions, { tags }));
        }
      }
    }
    for (const sender of [IPV4.service, IPV4.own]) {
      for (let copy = 0; copy < 100; copy++) {
        frames.push(arp(1 + copy % 2, sender, IPV4.client, { tags }));
      }
    }
  }
  return frames;
}

withShadow("frames with any bytes changed, cut, or put in between", (shadow) => {
  shadow.control(Mode.SHADOW, 0, IPV4.own);
  const frames = pool();
  const change = fc.record({
    // Most of what a parser reads stands in front.
    at: fc.oneof(fc.nat(20), fc.nat(60), fc.nat(200)),
    remove: fc.nat(4),
    put: fc.uint8Array({ maxLength: 4 }),
  });
  const changes = fc.array(change, { maxLength: 3 });
  const length = fc.option(fc.integer({ min: 14, max: 120 }), { nil: 2000 });
  fc.assert(
    fc.property(fc.nat(frames.length - 1), changes, length, (index, changes, length) => {
      const bytes = [...frames[index]!];
      for (const { at, remove, put } of changes) bytes.splice(12 + at, remove, ...put);
      const frame = Uint8Array.from(bytes.slice(0, length));
      if (isRunnable(frame)) assertHeeded(shadow, frame);
    }),
    { numRuns: 10_000 },
  );
});

withShadow("frames cut at every byte", (shadow) => {
  const names = ["data with timestamps", "protocol 17", "all usual extensions, then 6"];
  for (const { service, own, client } of families) {
    for (const ends of [[service, client], [client, service], [own, client]]) {
      for (const [name, frame] of allShapes(ends[0]!, ends[1]!)) {
        if (!names.some((start) => name.startsWith(`${start}, `))) continue;
        for (let length = 14; length <= frame.length; length++) {
          if (isRunnable(frame.subarray(0, length))) assertHeeded(shadow, frame.slice(0, length));
        }
      }
    }
  }
});

withShadow("chains of as many headers as are read, cut at every byte", (shadow) => {
  const ends = { source: IPV6.own, destination: ALL_NODES, target: IPV6.service };
  for (const count of [15, 16, 17]) {
    const frame = neighbour(136, ends, Array(count).fill(DESTINATION));
    for (let length = 54; length <= frame.length; length++) {
      assertHeeded(shadow, frame.slice(0, length));
    }
  }
});

withShadow("frames of nothing but noise", (shadow) => {
  fc.assert(
    fc.property(
      fc.constantFrom(0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0),
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      (type, body) => {
        const frame = ethernet(type, [...body]);
        if (isRunnable(frame)) assertHeeded(shadow, frame);
      },
    ),
    { numRuns: 5000 },
  );
});
