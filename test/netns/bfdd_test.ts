import assert from "node:assert/strict";
import { Bfdd, type BfddPeer, hasBfdd } from "./bfdd.ts";
import { isRoot, type Process, TwoHosts } from "./two_hosts.ts";

/** So many intervals that neither gives the other up while the machine is busy for a moment. */
const MULTIPLIER = 12;
const FAST = `\n  detect-multiplier ${MULTIPLIER}\n  receive-interval 50\n  transmit-interval 50\n`;
const SINGLE_HOP = ["10.99.0", "fd99:"] as const;
const NAMES = SINGLE_HOP.flatMap((net) => [`${net}:single`, `${net}:multi`]);

/** The peer of bfdd at `b` in the network `net`, as its commands name it. */
function peerName(net: string, multihop = false): string {
  const [remote, local] = net.includes(":") ? [`${net}:1`, `${net}:2`] : [`${net}.1`, `${net}.2`];
  return `${remote}${multihop ? " multihop" : ""} local-address ${local}`;
}

function onBfdd(
  name: string,
  peers: string,
  fn: (hosts: TwoHosts, bfdd: Bfdd) => Promise<void>,
): void {
  Deno.test({
    name: `bfdd: ${name}${hasBfdd ? "" : " (package frr is missing)"}`,
    ignore: !isRoot || !hasBfdd,
    fn: () => TwoHosts.with((hosts) => Bfdd.with(hosts, "b", peers, (bfdd) => fn(hosts, bfdd))),
  });
}

const isUp = ({ status }: BfddPeer): boolean => status === "up";

async function nft(hosts: TwoHosts, host: "a" | "b", rules: string): Promise<void> {
  const { success, stderr } = await hosts.command(host, ["nft", rules]).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}

/** Cuts all packets of BFD at `a`, or lets them pass again. */
function cut(hosts: TwoHosts, cut: boolean): Promise<void> {
  const chain = (hook: string): string =>
    `chain ${hook} { type filter hook ${hook} priority 0; udp dport {3784, 4784} drop; }`;
  const table = `table inet cut { ${chain("input")}; ${chain("output")}; }`;
  return nft(hosts, "a", cut ? table : "delete table inet cut");
}

/** A router more between the hosts, as far as packets of multihop sessions can tell. */
async function addRouter(hosts: TwoHosts): Promise<void> {
  const rules = "udp dport 4784 ip ttl set 254; udp dport 4784 ip6 hoplimit set 254;";
  const table = `table inet router { chain out { type filter hook output priority 0; ${rules} }; }`;
  for (const host of ["a", "b"] as const) await nft(hosts, host, table);
}

const active = [
  ...SINGLE_HOP.map((net) => `peer ${peerName(net)}${FAST}!`),
  // One of them waits to be asked.
  ...SINGLE_HOP.map((net) => `peer ${peerName(net, true)}${FAST}  passive-mode\n!`),
].join("\n");

onBfdd("t2cp watches it, IPv4 and IPv6, single hop and multihop", active, async (hosts, bfdd) => {
  await addRouter(hosts);
  const timers = ["--multiplier", String(MULTIPLIER), "--stats", "0.1"];
  const peers = ["--peer", "10.99.0.2", "--peer", "fd99::2", ...timers];
  const watchers = [
    hosts.start("a", "detect", ...peers),
    hosts.start("a", "detect", ...peers, "--multihop"),
  ];
  /** Waits until every watcher has an event of `type` for both peers, from `seen` on. */
  const both = async (type: string, seen: number[]): Promise<void> => {
    await Promise.all(watchers.map(async (watcher, i) => {
      const targets = new Set<unknown>();
      // On a busy machine a session may fail and come up once more before the other is up.
      for (let at = seen[i]; targets.size < 2;) {
        const event = await watcher.next(type, at);
        at = watcher.events.indexOf(event, at) + 1;
        targets.add(event.target);
      }
    }));
  };
  const now = (): number[] => watchers.map(({ events }) => events.length);
  await both("up", [0, 0]);
  assert.equal((await bfdd.until("up", (peers) => peers.every(isUp))).length, NAMES.length);

  // New intervals, one the way each, in all sessions.
  for (const net of SINGLE_HOP) {
    for (const multihop of [false, true]) {
      const timers = ["transmit-interval 70", "receive-interval 90"];
      await bfdd.configure(peerName(net, multihop), ...timers);
    }
  }
  await Promise.all(watchers.map((watcher) => untilStats(watcher, [90, 70 * MULTIPLIER])));

  let seen = now();
  await cut(hosts, true);
  await both("failed", seen);
  for (const watcher of watchers) {
    for (const { type, cause } of watcher.events) {
      if (type === "failed") assert.equal(cause, "unplanned");
    }
  }
  const down = await bfdd.until("down", (peers) => !peers.some(isUp));
  for (const { diagnostic } of down) assert.equal(diagnostic, "control detection time expired");
  seen = now();
  await cut(hosts, false);
  await both("recovered", seen);

  seen = now();
  for (const net of SINGLE_HOP) {
    for (const multihop of [false, true]) await bfdd.configure(peerName(net, multihop), "shutdown");
  }
  await both("failed", seen);
  watchers.forEach(({ events }, i) => {
    for (const { type, cause } of events.slice(seen[i])) {
      if (type === "failed") assert.equal(cause, "planned");
    }
  });
  seen = now();
  for (const net of SINGLE_HOP) {
    for (const multihop of [false, true]) {
      await bfdd.configure(peerName(net, multihop), "no shutdown");
    }
  }
  await both("recovered", seen);

  for (const watcher of watchers) assert.equal((await watcher.end("SIGTERM")).code, 0);
  const told = await bfdd.until("down", (peers) => !peers.some(isUp));
  for (const peer of told) assert.equal(peer["remote-diagnostic"], "administratively down");
  for (const { events } of watchers) {
    const last = events.findLast(({ type }) => type === "stats")!;
    assert.equal((last.discarded as Record<string, number>).ttl, undefined);
  }
});

/** Waits until both sessions transmit at `transmit` ms and detect after `detection` ms. */
async function untilStats(
  watcher: Process,
  [transmit, detection]: [number, number],
): Promise<void> {
  while (true) {
    const { sessions } = await watcher.next("stats", watcher.events.length);
    const agreed = (sessions as Record<string, unknown>[]).every((session) =>
      session.state === "Up" && session.transmit_interval_ms === transmit &&
      session.detection_time_ms === detection
    );
    if (agreed) return;
  }
}

const watching = SINGLE_HOP.map((net) => `peer ${peerName(net)}${FAST}!`).join("\n");

onBfdd(
  "it watches t2cp: up, restart, interval, cut, planned end",
  watching,
  async (hosts, bfdd) => {
    const first = hosts.start("a", "detect", "--respond");
    const up = await bfdd.until("up", (peers) => peers.length === 2 && peers.every(isUp));
    for (const peer of up) assert.equal(peer["remote-detect-multiplier"], MULTIPLIER);
    await first.end("SIGKILL");
    await bfdd.until("down", (peers) => !peers.some(isUp));

    // The same host with other discriminators and slower.
    const second = hosts.start(
      "a",
      "detect",
      "--respond",
      "--interval",
      "120",
      "--multiplier",
      "4",
    );
    await bfdd.until("up again", (peers) => peers.every(isUp));
    await bfdd.until(
      "at the new timers",
      (peers) =>
        peers.every((peer) =>
          peer["remote-receive-interval"] === 120 && peer["remote-transmit-interval"] === 120 &&
          peer["remote-detect-multiplier"] === 4
        ),
    );

    await cut(hosts, true);
    await bfdd.until("down", (peers) => !peers.some(isUp));
    await cut(hosts, false);
    await bfdd.until("up after the cut", (peers) => peers.every(isUp));

    assert.equal((await second.end("SIGTERM")).code, 0);
    const told = await bfdd.until("down", (peers) => !peers.some(isUp));
    for (const peer of told) {
      assert.equal(peer.diagnostic, "neighbor signaled session down");
      assert.equal(peer["remote-diagnostic"], "administratively down");
    }
  },
);
