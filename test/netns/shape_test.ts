import assert from "node:assert/strict";
import { Message, State, type TcpSocket } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import { assertSameBytes, onStage } from "./stage.ts";
import { type Client, type Flow, noise, PORT, TWINS, Twins, TWINS6 } from "./twins.ts";

/** Opens a flow in its shape, and returns how it goes on after the takeover. */
type Shape = (twins: Twins, name: string) => Promise<() => Promise<void>>;

const GREETING = "220 ready\r\n";

/** The server's data to a client's port, at the client's door. */
const toClient = (port: number) => `tcp sport ${PORT} tcp dport ${port}`;

/** Small enough to be full soon; the kernel doubles it. */
const tightly = (socket: TcpSocket) => socket.socket({ RCVBUF: 4096 });

/** Probes an idle connection after a second, and gives up after three more without an answer. */
function watchfully(socket: TcpSocket): void {
  socket.socket({ KEEPALIVE: 1 });
  socket.tcp({ KEEPIDLE: 1, KEEPINTVL: 1, KEEPCNT: 3 });
}

async function converse(flow: Flow): Promise<void> {
  await flow.goesOn();
  await flow.ends();
}

const shapes: Record<string, Shape> = {
  "nobody has said anything": async (twins, name) => {
    const flow = await twins.open(name);
    return () => converse(flow);
  },

  "the server greets": async (twins, name) => {
    const flow = await twins.open(name);
    await flow.down(GREETING);
    return () => converse(flow);
  },

  "the replica greets before the primary": async (twins, name) => {
    const flow = await twins.open(name);
    await flow.replica.send(GREETING);
    await poll("what the replica has to say", async () => {
      const sockets = await twins.stage.sockets("backup", PORT);
      return sockets.some((line) => line.includes(` ${GREETING.length} `));
    });
    const { replica_end, primary_end } = (await flow.tracked())!;
    assert.equal(replica_end, primary_end, "it is held from the start");
    assert.equal(flow.client.tryReceive(1), undefined, "the replica is not heard");
    await flow.primary.send(GREETING);
    assert.equal(await flow.client.receiveText(GREETING.length), GREETING);
    return () => converse(flow);
  },

  "the greeting is lost with the primary": async (twins, name) => {
    const flow = await twins.open(name);
    const mend = await twins.rule("client", "inet prerouting", `${toClient(flow.port)} drop`);
    await flow.primary.send(GREETING);
    await flow.replica.send(GREETING);
    await poll("a lost greeting", async () => {
      const { primary_end, client_ack } = (await flow.tracked())!;
      return (primary_end - client_ack) >>> 0 === GREETING.length;
    });
    return async () => {
      await mend();
      assert.equal(await flow.client.receiveText(GREETING.length), GREETING);
      await converse(flow);
    };
  },

  "the client closes its half and reads on": async (twins, name) => {
    const flow = await twins.open(name);
    await flow.up("all of it");
    flow.client.finish();
    for (const server of [flow.primary, flow.replica]) {
      assert.equal((await server.receive(1)).length, 0);
    }
    await flow.down(noise(300_000));
    return async () => {
      const more = noise(1 << 20);
      const [got] = await Promise.all([flow.client.receive(more.length), flow.replica.send(more)]);
      assertSameBytes(got, more);
      flow.replica.close();
      assert.equal((await flow.client.receive(1)).length, 0);
    };
  },

  "the server closes its half and reads on": async (twins, name) => {
    const flow = await twins.open(name);
    await flow.down(GREETING);
    for (const server of [flow.primary, flow.replica]) server.finish();
    assert.equal((await flow.client.receive(1)).length, 0);
    await flow.up(noise(300_000));
    await flow.replica.enters(State.FIN_WAIT2);
    return async () => {
      const more = noise(1 << 20);
      const [got] = await Promise.all([flow.replica.receive(more.length), flow.client.send(more)]);
      assertSameBytes(got, more);
      flow.client.close();
      assert.equal((await flow.replica.receive(1)).length, 0);
    };
  },

  "both close at once": async (twins, name) => {
    const flow = await twins.open(name);
    await flow.up("bye");
    await flow.down("bye");
    const mend = await twins.rule("client", "inet prerouting", `${toClient(flow.port)} drop`);
    flow.primary.finish();
    flow.replica.finish();
    await flow.primary.enters(State.FIN_WAIT1);
    // The client has not seen the server's FIN, and sends its own.
    flow.client.finish();
    await flow.primary.enters(State.CLOSING);
    await flow.client.enters(State.FIN_WAIT1);
    assert.equal((await flow.replica.receive(1)).length, 0);
    return async () => {
      await mend();
      assert.equal((await flow.client.receive(1)).length, 0);
      // ss and TCP_INFO show TIME-WAIT of a socket that is still open as CLOSE.
      await flow.client.enters(State.CLOSE);
      await flow.replica.enters(State.CLOSE);
      assert.deepEqual([flow.client.error, flow.replica.error], [0, 0]);
    };
  },

  "the client resets": async (twins, name) => {
    const flow = await twins.open(name);
    await flow.up("never mind");
    flow.client.reset();
    assert.equal(await flow.primary.fails(), "ECONNRESET");
    assert.equal(await flow.replica.fails(), "ECONNRESET");
    assert.equal(await flow.tracked(), undefined);
    return () => Promise.resolve();
  },

  "data come with the handshake's last ACK": async (twins, name) => {
    const wire = await twins.stage.capture("eth0");
    const begin = async (): Promise<Client | undefined> => {
      const client = twins.begin((socket) => socket.tcp({ QUICKACK: 0 }));
      await client.socket.connected();
      await client.socket.send(GREETING);
      const first = await wire.find(
        "the first ACK",
        (frame) => frame.kind === "tcp" && frame.sourcePort === client.port && frame.flags !== "S",
      );
      if ("length" in first && first.length === GREETING.length) return client;
      // The client's kernel waits 200 ms for data, and not longer.
      const late = await twins.flow(name, client);
      late.client.reset();
      for (const server of [late.primary, late.replica]) await server.fails();
      return undefined;
    };
    const flow = await twins.flow(name, await poll("an ACK that bears data", begin));
    for (const server of [flow.primary, flow.replica]) {
      assert.equal(await server.receiveText(GREETING.length), GREETING);
    }
    return () => converse(flow);
  },

  "urgent data": async (twins, name) => {
    const flow = await twins.open(name);
    const { client, primary, replica } = flow;
    const roundTrip = async (servers: TcpSocket[]) => {
      await client.send("ab!", Message.OOB);
      await client.send("cd");
      for (const server of servers) {
        assert.equal(await server.receiveUrgent(), "!");
        assert.equal(await server.receiveText(2), "ab");
        assert.equal(await server.receiveText(2), "cd");
        await server.send("ef?", Message.OOB);
        await server.send("gh");
      }
      assert.equal(await client.receiveUrgent(), "?");
      assert.equal(await client.receiveText(2), "ef");
      assert.equal(await client.receiveText(2), "gh");
    };
    await roundTrip([primary, replica]);
    return async () => {
      await roundTrip([replica]);
      await converse(flow);
    };
  },

  "more for the client than it reads": async (twins, name) => {
    const flow = await twins.open(name, tightly);
    const all = noise(2 << 20);
    void flow.primary.trySend(all);
    const held = flow.replica.trySend(all)!;
    await poll("a window of zero", async () => (await flow.tracked())!.client_window === 0);
    const first = await flow.client.receive(1000);
    assertSameBytes(first, all.subarray(0, first.length));
    return async () => {
      const [rest] = await Promise.all([
        flow.client.receive(all.length - first.length),
        flow.replica.send(all.subarray(held)),
      ]);
      assertSameBytes(rest, all.subarray(first.length));
      await converse(flow);
    };
  },
};

onStage(
  "shape: whoever speaks or closes first, the replica follows and goes on",
  async (stage) => {
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS, TWINS6);
    const wire = await stage.capture("backup");
    const goOn: [string, () => Promise<void>][] = [];
    for (const family of [4, 6] as const) {
      twins.family = family;
      for (const [shape, begin] of Object.entries(shapes)) {
        const name = `${shape}, IPv${family}`;
        const rest = await begin(twins, name).catch((error) =>
          assert.fail(`${name}: ${error.message}`)
        );
        goOn.push([name, rest]);
      }
    }
    await stage.assertSilent(wire);
    assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
    const active = await stage.failOver();
    assert.equal(active.flows, goOn.length - 2, "all but those that were reset");
    assert.equal(active.flows_lost, 0);
    for (const [name, rest] of goOn) {
      await rest().catch((error) => assert.fail(`${name}: ${error.message}`));
    }
    // A connection that begins now needs no t2cp.
    for (const family of [4, 6] as const) {
      twins.family = family;
      const client = twins.begin();
      await client.socket.connected();
      const server = await twins.accept("backup", client.port);
      await client.socket.send("new");
      assert.equal(await server.receiveText(3), "new");
    }
  },
);

onStage(
  "shape: keep-alive probes and a window of zero for long, before and after the takeover",
  async (stage) => {
    using twins = new Twins(stage, [PORT], watchfully);
    const { shadow } = await stage.protect(TWINS, TWINS6);
    const wire = await stage.capture("backup");
    const idle: Flow[] = [];
    const full: { flow: Flow; held: number }[] = [];
    const all = noise(1 << 20);
    for (const family of [4, 6] as const) {
      twins.family = family;
      idle.push(await twins.open(`idle, IPv${family}`, watchfully));
      const flow = await twins.open(`full, IPv${family}`, tightly);
      flow.primary.trySend(all);
      full.push({ flow, held: flow.replica.trySend(all)! });
    }
    const client = await stage.capture("eth0", "inout");
    const probes = (port: number, own: boolean) => {
      const frames = client.frames.filter((frame) =>
        frame.kind === "tcp" && (own ? frame.sourcePort : frame.destinationPort) === port
      );
      return frames.length;
    };
    // By then a probe without an answer would have ended it on the client, the primary or the replica.
    const probed = (seen: number) => idle.every(({ port }) => probes(port, true) >= seen + 6);
    await poll("probes of idle connections", () => probed(0));
    for (const { flow } of full) assert.equal((await flow.tracked())!.client_window, 0);
    const flows = [...idle, ...full.map(({ flow }) => flow)];
    for (const { name, replica } of flows) assert.equal(replica.state, State.ESTABLISHED, name);
    await stage.assertSilent(wire);
    assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);

    // Nobody answers before the takeover, however long its start takes.
    const giveUpAfter = (count: number) => {
      for (const { client, replica } of idle) {
        for (const socket of [client, replica]) socket.tcp({ KEEPCNT: count });
      }
    };
    giveUpAfter(100);
    assert.equal((await stage.failOver()).flows, flows.length);
    const answered = idle.map(({ port }) => probes(port, false));
    await poll(
      "answers after the takeover",
      () => idle.every(({ port }, i) => probes(port, false) > answered[i]!),
    );
    giveUpAfter(3);
    const seen = Math.max(...idle.map(({ port }) => probes(port, true)));
    await poll("probes after the takeover", () => probed(seen));
    for (const { flow, held } of full) {
      const [got] = await Promise.all([
        flow.client.receive(all.length),
        flow.replica.send(all.subarray(held)),
      ]);
      assertSameBytes(got, all);
    }
    await Promise.all(flows.map(converse));
  },
);

onStage(
  "shape: a close that the client answers at once leaves nothing that swallows the next connection",
  async (stage) => {
    using twins = new Twins(stage);
    const { shadow } = await stage.protect(TWINS);
    const flow = await twins.open("first");
    await flow.up("question");
    await flow.down("answer");
    for (const socket of [flow.replica, flow.primary, flow.client]) socket.close();
    const none = async (): Promise<boolean> => (await stage.sockets("backup", PORT)).length === 0;
    await poll("the end of the replica", none);
    const client = twins.begin(undefined, flow.port);
    await client.socket.connected();
    await twins.accept("primary", client.port);
    await poll("a new replica", () => twins.has("backup", client.port));
    assert.deepEqual(shadow.events.filter(({ type }) => type === "flow.unprotected"), []);
  },
);
