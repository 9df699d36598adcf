import assert from "node:assert/strict";
import { State } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import { assertSameBytes, onStage } from "./stage.ts";
import { type Flow, noise, PORT, TWINS, Twins, TWINS6 } from "./twins.ts";
import type { Process } from "./two_hosts.ts";

/** The first packet that gets here and no other, as a condition of nft. */
const ONCE = "limit rate 1/hour burst 1 packets";
/** One packet of twenty. */
const SOMETIMES = "numgen inc mod 20 == 7";

/** The copies of what a client's port sends, at the switch's port to the backup. */
const copies = (port: number) => `oifname "backup" tcp dport ${PORT} tcp sport ${port}`;
/** What a client's port sends, and what it is to receive. */
const sent = (port: number) => `tcp sport ${port} tcp dport ${PORT}`;
const toBeReceived = (port: number) => `tcp sport ${PORT} tcp dport ${port}`;

const AT_TAP = "bridge output";
/** Where the gateway receives from the client. */
const AT_GATEWAY = "netdev ingress eth0";
const AT_CLIENT = "inet prerouting";

const reasons = (shadow: Process) =>
  shadow.events.filter(({ type }) => type === "flow.unprotected").map(({ reason }) => reason);

onStage(
  "shape: segments that the client's network loses, doubles and reorders",
  async (stage) => {
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS);
    const flows: Flow[] = [];
    // A frame for each segment, so that single ones can be lost.
    for (const role of ["client", "primary", "backup"] as const) {
      await stage.output(role, "ip", "link", "set", "eth0", "gso_max_segs", "1");
    }

    const lossy = await twins.open("losses both ways");
    await twins.rule("gateway", AT_GATEWAY, `${sent(lossy.port)} ${SOMETIMES} drop`);
    await twins.rule("client", AT_CLIENT, `${toBeReceived(lossy.port)} ${SOMETIMES} drop`);
    await Promise.all([lossy.up(noise(400_000)), lossy.down(noise(400_000))]);
    flows.push(lossy);

    const double = await twins.open("doubled segments");
    const copy = `${sent(double.port)} dup to 10.77.1.1 device "eth0"`;
    await twins.rule("client", "ip output", copy);
    await double.up(noise(400_000));
    await double.down(noise(400_000));
    flows.push(double);

    // The client's first byte arrives, which it does not learn; with the next ones, which are lost, it
    // goes into one segment.
    const overlap = await twins.open("overlapping segments");
    const deaf = await twins.rule("client", AT_CLIENT, `${toBeReceived(overlap.port)} drop`);
    await overlap.up("a");
    const mute = await twins.rule("gateway", AT_GATEWAY, `${sent(overlap.port)} drop`);
    for (const byte of "bcd") await overlap.client.send(byte);
    await deaf();
    await mute();
    for (const server of [overlap.primary, overlap.replica]) {
      assert.equal(await server.receiveText(3), "bcd");
    }
    await overlap.down(noise(1000));
    flows.push(overlap);

    assert.deepEqual(reasons(shadow), []);
    const gaps = () => shadow.events.filter(({ type }) => type === "gap");
    assert.deepEqual(gaps(), [], "what the client's network loses is no gap");
    assert.equal((await stage.failOver()).flows, flows.length);
    await Promise.all(flows.map((flow) => flow.goesOn()));
    await twins.mend();
    for (const flow of flows) await flow.ends();
  },
);

onStage(
  "shape: handshakes that lose a segment, on the client's network or on the tap",
  async (stage) => {
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS, TWINS6);
    const flows: Flow[] = [];

    /** Opens a connection in spite of losses that a rule makes. */
    const open = async (name: string, rule: (port: number) => Parameters<Twins["rule"]>) => {
      const port = twins.freshPort();
      await twins.rule(...rule(port));
      const client = twins.begin(undefined, port);
      return { name, client };
    };
    const opening: Awaited<ReturnType<typeof open>>[] = [];
    for (const family of [6, 4] as const) {
      twins.family = family;
      opening.push(
        await open(
          `SYN lost, IPv${family}`,
          (port) => ["gateway", AT_GATEWAY, `${sent(port)} ${ONCE} drop`],
        ),
        await open(
          `SYN/ACK lost, IPv${family}`,
          (port) => ["client", AT_CLIENT, `${toBeReceived(port)} ${ONCE} drop`],
        ),
      );
    }

    // The client gives up, and begins anew from the same port with another number.
    const again = twins.freshPort();
    const deaf = await twins.rule("client", AT_CLIENT, `${toBeReceived(again)} drop`);
    const first = twins.begin((socket) => socket.startAt(1000), again);
    const handshake = async () => {
      const lines = await stage.output("primary", "ss", "-Htan", "dst", `10.77.1.2:${again}`);
      return lines.startsWith("SYN-RECV");
    };
    await poll("half a handshake", handshake);
    first.socket.close();
    await deaf();
    const client = twins.begin((socket) => socket.startAt(2_000_000_000), again);
    opening.push({ name: "SYN with another number", client });

    // Only the tap loses the handshake's last ACK: the client's next segment takes its place.
    const followed = [["data", 6], ["data", 4], ["an ACK of data", 6], [
      "an ACK of data",
      4,
    ]] as const;
    for (const [next, family] of followed) {
      twins.family = family;
      const name = `copy of the ACK lost, then ${next}, IPv${family}`;
      const isAck = `tcp flags & (syn|ack) == ack ${ONCE}`;
      const { client } = await open(name, (port) => [
        "gateway",
        AT_TAP,
        `${copies(port)} ${isAck} drop`,
      ]);
      await client.socket.connected();
      const primary = await twins.accept("primary", client.port);
      assert.equal(twins.has("backup", client.port), false);
      const [from, to] = next === "data" ? [client.socket, primary] : [primary, client.socket];
      await from.send("hello");
      assert.equal(await to.receiveText(5), "hello");
      const replica = await twins.accept("backup", client.port, name);
      if (next === "data") assert.equal(await replica.receiveText(5), "hello");
      else await replica.send("hello");
      flows.push(twins.join(name, client, primary, replica));
    }

    for (const { name, client } of opening) {
      await client.socket.connected();
      flows.push(await twins.flow(name, client));
    }
    assert.deepEqual(reasons(shadow), []);
    for (const flow of flows) {
      await flow.up(noise(10_000));
      await flow.down(noise(10_000));
    }

    // What the tap has lost for good is reported.
    const lost = await open("copy of the SYN lost", (port) => [
      "gateway",
      AT_TAP,
      `${copies(port)} ${ONCE} drop`,
    ]);
    await lost.client.socket.connected();
    const unprotected = await shadow.next("flow.unprotected");
    assert.equal(unprotected.client, `10.77.1.2:${lost.client.port}`);
    assert.match(String(unprotected.reason), /handshake/);

    await twins.mend();
    assert.equal((await stage.failOver()).flows, flows.length);
    await Promise.all(flows.map((flow) => flow.goesOn()));
    for (const flow of flows) await flow.ends();
    await lost.client.socket.send("hello");
    assert.equal(await lost.client.socket.fails(), "ECONNRESET");
  },
);

onStage(
  "shape: connections that are in handshake at the takeover, and ones that begin after it",
  async (stage) => {
    using twins = new Twins(stage);
    await stage.protect(TWINS, TWINS6);
    const established = await twins.open("established");
    twins.family = 6;

    const begin = async (rule: (port: number) => Parameters<Twins["rule"]>) => {
      const port = twins.freshPort();
      await twins.rule(...rule(port));
      return twins.begin(undefined, port);
    };
    const answered = await begin((port) => ["client", AT_CLIENT, `${toBeReceived(port)} drop`]);
    const unanswered = await begin((port) => ["gateway", AT_GATEWAY, `${sent(port)} drop`]);
    const acks = (port: number) => `${sent(port)} tcp flags & (syn|ack) == ack drop`;
    const speaking = await begin((port) => ["gateway", AT_GATEWAY, acks(port)]);
    const silent = await begin((port) => ["gateway", AT_GATEWAY, acks(port)]);
    for (const { socket } of [speaking, silent]) await socket.connected();
    await speaking.socket.send("hello");
    await poll("half a handshake", async () => {
      const lines = await stage.output("primary", "ss", "-Htan", "state", "syn-recv");
      return lines.trim().split("\n").length === 3;
    });

    assert.equal((await stage.failOver()).flows, 1);
    await twins.mend();
    await established.goesOn();
    await established.ends();

    for (const client of [answered, unanswered, twins.begin()]) {
      await client.socket.connected();
      assert.equal(client.socket.state, State.ESTABLISHED);
    }
    // The client's kernel sends it again by itself.
    const server = await twins.accept("backup", speaking.port, "that spoke during its handshake");
    assert.equal(await server.receiveText(5), "hello");
    const more = noise(300_000);
    const [got] = await Promise.all([speaking.socket.receive(more.length), server.send(more)]);
    assertSameBytes(got, more);
    await silent.socket.send("hello");
    const late = await twins.accept("backup", silent.port, "that spoke after the takeover");
    assert.equal(await late.receiveText(5), "hello");
    await late.send("world");
    assert.equal(await silent.socket.receiveText(5), "world");
  },
);
