/**
 * What the backup's BPF programs hold back in shadow mode though it is broken, or hidden behind other headers.
 */
import assert from "node:assert/strict";
import { type LoadedShadow, Verdict } from "../fixture/bpf.ts";
import { isRunnable } from "../fixture/claim.ts";
import { Ether, ipFrame, Next, tagged } from "../fixture/segment.ts";
import { arp, neighbour } from "../fixture/shapes.ts";
import { type Frame, fromService, withShadow } from "../fixture/tracked.ts";

function assertHeld({ egress }: LoadedShadow, frames: Record<string, Frame>): void {
  const passed = Object.entries(frames)
    .filter(([, frame]) => isRunnable(frame) && egress.testRun(frame).verdict === Verdict.PASS)
    .map(([name]) => name);
  assert.deepEqual(passed, []);
}

const three = [Ether.SERVICE_VLAN, Ether.VLAN, Ether.VLAN];
const SERVICE = "fd77::100", OWN = "fd77::12", CLIENT = "10.77.1.2";
const target = { source: OWN, destination: "ff02::1", target: SERVICE };

withShadow("three tags hide nothing of the service", (shadow, ends) => {
  assertHeld(shadow, {
    segment: fromService(ends, {}, three),
    arp: arp(2, "10.77.0.100", CLIENT, { tags: three }),
    advertisement: neighbour(136, target, [], { tags: three }),
  });
});

withShadow("broken headers hide nothing of the service", (shadow, ends) => {
  const ip = { source: ends.server, destination: ends.client, protocol: Next.UDP };
  const body = Array(40).fill(0);
  const frames: Record<string, Frame> = {};
  for (let version = 0; version < 16; version++) {
    frames[`version ${version}`] = ipFrame({ ...ip, version }, body);
  }
  for (let ihl = 0; ihl < 5; ihl++) frames[`header length ${ihl}`] = ipFrame({ ...ip, ihl }, body);
  // Ethernet pads short frames with zeros, and the header is whole again.
  const ipv6 = ends.server.includes(":");
  const tag = ipFrame(ip, body, { tags: [Ether.VLAN] });
  for (let length = ipv6 ? 42 : 34; length < (ipv6 ? 58 : 38); length++) {
    frames[`cut at ${length}`] = tag.slice(0, length);
  }
  assertHeld(shadow, frames);
});

withShadow("ARP that is cut behind its sender claims nothing", (shadow) => {
  const frames: Record<string, Frame> = {};
  for (const operation of [1, 2]) {
    const whole = arp(operation, "10.77.0.100", CLIENT);
    for (let length = 32; length < 42; length++) {
      frames[`${operation} cut at ${length}`] = whole.slice(0, length);
    }
  }
  assertHeld(shadow, frames);
});

withShadow("no chain of headers hides a claim by neighbour discovery", (shadow) => {
  const { HOP_BY_HOP, DESTINATION, FRAGMENT } = Next;
  assertHeld(shadow, {
    "five extension headers": neighbour(136, target, [HOP_BY_HOP, ...Array(4).fill(DESTINATION)]),
    "an atomic fragment": neighbour(136, target, [FRAGMENT]),
    "an atomic fragment behind options": neighbour(136, target, [DESTINATION, FRAGMENT]),
    "mobility": neighbour(136, target, [135]),
  });
});

withShadow("an ARP probe for the service's address does not get out", (shadow) => {
  assertHeld(shadow, { probe: arp(1, "0.0.0.0", "10.77.0.100") });
  const own = arp(1, "0.0.0.0", "10.77.0.12");
  assert.equal(shadow.egress.testRun(own).verdict, Verdict.PASS);
});

withShadow("what cannot be read is held, and counted", (shadow, ends) => {
  const tags = Array(9).fill(Ether.VLAN), extensions = Array(20).fill(Next.DESTINATION);
  const cases = [fromService(ends, {}, tags), neighbour(136, target, extensions)];
  for (const frame of cases) {
    assert.deepEqual(shadow.counted(() => assertHeld(shadow, { frame })), { silenced: 1 });
  }
});

withShadow("tags in front of nothing at all are no reason to fail", (shadow) => {
  for (const tags of [[Ether.VLAN], three]) {
    const { verdict } = shadow.egress.testRun(tagged(Uint8Array.from(Array(14).fill(1)), tags));
    assert.equal(verdict, Verdict.PASS);
  }
});
