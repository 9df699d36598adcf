/**
 * The fence's BPF program on frames of every shape: what the primary says of a service ends there, and all else passes.
 */
import assert from "node:assert/strict";
import { type Ends, isRoot, LoadedFence, runMarked, Verdict } from "../fixture/bpf.ts";
import { isRunnable } from "../fixture/claim.ts";
import { Bit, Ether, icmpv6, ipFrame, type Link, Next, tagged } from "../fixture/segment.ts";
import { arp, neighbour, shapes, TAGS } from "../fixture/shapes.ts";
import { type Frame, fromClient, fromService } from "../fixture/tracked.ts";

const PRIMARY = [2, 0x77, 0, 0, 0, 0x11], BACKUP = [2, 0x77, 0, 0, 0, 0x12];
const link: Link = { source: PRIMARY };
const families: readonly Ends[] = [
  { client: "10.77.1.2", clientPort: 40_000, server: "10.77.0.100", serverPort: 9 },
  { client: "fd77:1::2", clientPort: 40_000, server: "fd77::100", serverPort: 9 },
];
/** The primary's own address of each family. */
const OWN = ["10.77.0.11", "fd77::11"];

const loaded = isRoot ? new LoadedFence(["10.77.0.100:9", "[fd77::100]:9"]) : undefined;

function withFence(name: string, test: (fence: LoadedFence) => void): void {
  Deno.test({
    name: `bpf: fence: ${name}`,
    ignore: loaded === undefined,
    fn() {
      loaded!.control(PRIMARY, true);
      test(loaded!);
    },
  });
}

/** The frame from another host. */
function from(mac: readonly number[], frame: Frame): Frame {
  const result = frame.slice();
  result.set(mac, 6);
  return result;
}

const hex = (frame: Uint8Array): string =>
  Array.from(frame, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Whether the program lets a frame pass; it changes none. */
function passes({ ingress }: LoadedFence, frame: Frame): boolean {
  const run = runMarked(ingress, frame, 0);
  assert.ok([Verdict.PASS, Verdict.SHOT].includes(run.verdict as -1 | 2), hex(frame));
  assert.equal(hex(run.frame), hex(frame));
  return run.verdict === Verdict.PASS;
}

/** All shapes of packets from an address and port to a client, with tags in front of some. */
function* shapesFrom(
  source: string,
  port: number,
  destination: string,
): Generator<[string, Frame]> {
  const pair = { source, destination, sourcePort: port, destinationPort: 40_000 };
  let index = 0;
  for (const [name, frame] of shapes(pair, link)) {
    const whole = tagged(frame, TAGS[index++ % TAGS.length]!);
    if (isRunnable(whole)) yield [name, whole];
  }
}

/** What is neither TCP nor ICMP: other protocols, whatever they carry, no protocol at all, and lies that lead to such. */
const OTHERS = /^protocol (?!6$)|extension (?:50|253|255)\b|, then 59$|a lie/;

withFence("of what bears the service's address, other protocols alone pass", (fence) => {
  for (const { server, client } of families) {
    const passed = [...shapesFrom(server, 9, client)].filter(([, frame]) => passes(fence, frame));
    const icmp = `protocol ${server.includes(":") ? Next.ICMPV6 : Next.ICMP}`;
    const wrong = passed.map(([name]) => name).filter((name) =>
      name === icmp || !OTHERS.test(name)
    );
    assert.deepEqual(wrong, []);
    assert.ok(passed.some(([name]) => name === `protocol ${Next.UDP}`));
  }
});

withFence("what bears the host's own address passes, whatever it is", (fence) => {
  for (const [index, { client }] of families.entries()) {
    for (const [name, frame] of shapesFrom(OWN[index]!, 9, client)) {
      // Of headers without end nobody knows what they hide.
      if (/8 of extension|of length/.test(name)) continue;
      assert.ok(passes(fence, frame), name);
    }
  }
});

withFence("segments of another port of the address pass, and fragments do not", (fence) => {
  for (const ends of families) {
    const other = { ...ends, serverPort: 10 };
    for (const tags of TAGS) {
      const frame = from(PRIMARY, fromService(other, { payload: [1] }, tags));
      assert.ok(passes(fence, frame));
    }
  }
  const [name, fragment] = [...shapesFrom(families[0]!.server, 10, families[0]!.client)]
    .find(([name]) => name === "middle fragment")!;
  assert.ok(!passes(fence, fragment), name);
});

/** A frame of each kind that is dropped, and what counts it. */
function* dropped(): Generator<[counter: string, frame: Frame]> {
  for (const ends of families) {
    const { server: source, client: destination } = ends;
    const icmp = source.includes(":")
      ? { protocol: Next.ICMPV6, body: icmpv6(source, destination, [1, 4, 0, 0, 0, 0, 0, 0]) }
      : { protocol: Next.ICMP, body: [3, 3, 0, 0, 0, 0, 0, 0] };
    yield ["dropped_tcp", fromService(ends, { payload: [1, 2, 3] })];
    yield ["dropped_tcp", fromService(ends, { flags: Bit.RST }, [Ether.VLAN])];
    yield ["dropped_icmp", ipFrame({ source, destination, ...icmp }, icmp.body)];
    yield ["dropped_other", fromService(ends, {}, Array(9).fill(Ether.VLAN))];
  }
  const [{ server }, { server: target }] = families as [Ends, Ends];
  const ends = { source: OWN[1]!, destination: "ff02::1", target };
  // Replies and requests, also gratuitous ones, probes, and one that is cut behind its sender.
  yield ["dropped_arp", arp(1, server, "10.77.0.1")];
  yield ["dropped_arp", arp(2, server, "10.77.0.1")];
  yield ["dropped_arp", arp(1, server, server)];
  yield ["dropped_arp", arp(1, "0.0.0.0", server)];
  yield ["dropped_arp", arp(2, server, "10.77.0.1").slice(0, 34)];
  yield ["dropped_arp", arp(2, server, "10.77.0.1", { tags: [Ether.VLAN] })];
  yield ["dropped_nd", neighbour(136, ends)];
  yield ["dropped_nd", neighbour(135, { ...ends, source: "::" })];
  yield ["dropped_nd", neighbour(136, ends, [Next.FRAGMENT])];
  yield ["dropped_nd", neighbour(136, ends, [], { tags: [Ether.VLAN] })];
  // Whoever is asked learns where the asker is.
  yield ["dropped_icmp", neighbour(135, { ...ends, source: target, target: "fd77::1" })];
  yield [
    "dropped_other",
    neighbour(136, { ...ends, target: "fd77::1" }, Array(24).fill(Next.DESTINATION)),
  ];
}

withFence("each kind of frame is dropped, and counted", (fence) => {
  for (const [counter, frame] of dropped()) {
    const own = from(PRIMARY, frame);
    assert.deepEqual(fence.counted(() => passes(fence, own)), { [counter]: 1 }, hex(own));
  }
});

withFence("another host's frames pass, and all do while it is down", (fence) => {
  const frames = [...dropped()].map(([, frame]) => frame);
  const there = fromClient(families[0]!, { payload: [1] });
  for (const frame of [...frames, there]) {
    for (const up of [true, false]) {
      fence.control(PRIMARY, up);
      const host = up ? BACKUP : PRIMARY;
      const counted = fence.counted(() => assert.ok(passes(fence, from(host, frame)), hex(frame)));
      assert.deepEqual(counted, {});
    }
  }
});

withFence("claims of other addresses pass", (fence) => {
  const ends = { source: OWN[1]!, destination: "ff02::1", target: OWN[1]! };
  const frames = [
    ...[1, 2].map((operation) => arp(operation, OWN[0]!, "10.77.0.1")),
    ...[135, 136].map((type) => neighbour(type, ends)),
    // The primary may ask for its own address's new host, as any other may.
    arp(1, OWN[0]!, families[0]!.server),
  ];
  for (const frame of frames) {
    const own = from(PRIMARY, frame);
    assert.deepEqual(fence.counted(() => passes(fence, own)), { passed: 1 }, hex(own));
  }
});
