import assert from "node:assert/strict";
import { poll } from "../fixture/wait.ts";
import { assertSameBytes, onStage, SERVICE_ADDRESS } from "./stage.ts";
import { type Client, noise, PORT, TWINS, Twins } from "./twins.ts";

/** The port of a service whose connections may be joined in the middle. */
const JOINED = 9001;

onStage(
  "shape: connections from before the shadow are reported, and joined where the admin allows it",
  async (stage) => {
    using twins = new Twins(stage, [PORT, JOINED]);
    /** A connection that has moved some bytes already. */
    const begin = async (port: number) => {
      const client = twins.begin(undefined, undefined, port);
      await client.socket.connected();
      const primary = await twins.accept("primary", client.port);
      const old = noise(100_000);
      await Promise.all([client.socket.send(old), primary.receive(old.length)]);
      await Promise.all([primary.send(old), client.socket.receive(old.length)]);
      return { client, primary };
    };
    const stranger = await begin(PORT);
    const joined = [await begin(JOINED), await begin(JOINED)];

    const services = ["--service", TWINS, "--service", `${SERVICE_ADDRESS}:${JOINED}`, "--flows"];
    const shadow = await stage.shadow(...services, "--join", String(JOINED));
    await stage.mirror(...services);
    const wire = await stage.capture("backup");
    const nameOf = ({ port }: Client) => `10.77.1.2:${port}`;

    await stranger.client.socket.send("x");
    const unprotected = await shadow.next("flow.unprotected");
    assert.equal(unprotected.client, nameOf(stranger.client));
    assert.match(String(unprotected.reason), /handshake was not seen/);

    const flows = [];
    for (const { client, primary } of joined) {
      // The primary's segment shows where both stand, and the client's next one makes the socket.
      await primary.send("tick");
      assert.equal(await client.socket.receiveText(4), "tick");
      await client.socket.send("tock");
      assert.equal(await primary.receiveText(4), "tock");
      const replica = await twins.accept("backup", client.port, "joined");
      flows.push(twins.join("joined", client, primary, replica));
    }
    const open = await poll("a report of both", () => {
      const found = shadow.events.filter(({ type }) => type === "flow.open");
      return found.length === joined.length && found;
    });
    assert.deepEqual(open.map((event) => event.client), joined.map(({ client }) => nameOf(client)));
    for (const flow of flows) {
      const heard = await flow.replica.receive(4);
      assert.equal(new TextDecoder().decode(heard), "tock");
      await flow.up(noise(300_000));
      await flow.down(noise(300_000));
    }
    await stage.assertSilent(wire);
    const count = shadow.events.filter(({ type }) => type === "flow.unprotected").length;
    assert.equal(count, 1, "once");

    await stage.lab.failHost();
    const args = ["takeover", "--now", "--detach", "--run-dir", stage.runDir];
    const takeover = stage.start("backup", ...args);
    assert.equal((await takeover.next("active")).flows, flows.length);
    for (const flow of flows) await flow.goesOn();
    await stranger.client.socket.send("y");
    assert.equal(await stranger.client.socket.fails(), "ECONNRESET");

    // In the middle of a transfer the programs go.
    const [flow, other] = flows;
    const all = noise(3 << 20);
    await flow!.replica.send(all.subarray(0, 1 << 20));
    assert.equal((await takeover.status).code, 0, takeover.stderr);
    assert.equal(await stage.filters("backup", "eth0"), "");
    const [got] = await Promise.all([
      flow!.client.receive(all.length),
      flow!.replica.send(all.subarray(1 << 20)),
    ]);
    assertSameBytes(got, all);
    for (const each of [flow!, other!]) {
      await each.goesOn();
      await each.ends();
    }
    assert.equal((await shadow.end("SIGTERM")).code, 0, shadow.stderr);
    assert.equal(await stage.filters("backup", "eth0"), "", "nothing is attached again");
  },
);
