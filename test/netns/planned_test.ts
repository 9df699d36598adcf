import assert from "node:assert/strict";
import { join } from "node:path";
import { serveControl } from "../../lib/control.ts";
import { formatEndpoint } from "../../lib/address.ts";
import { poll } from "../fixture/wait.ts";
import { onStage } from "./stage.ts";
import { type Flow, noise, PORT, TWINS, Twins } from "./twins.ts";

const UNHEARD = 700;
const UNSAID = 5000;

/** The flow's replica lacks bytes that its client has sent, and the primary has acknowledged. */
async function loseUpload(twins: Twins, flow: Flow): Promise<void> {
  const copies = `oifname "backup" tcp dport ${PORT} tcp sport ${flow.port}`;
  const mend = await twins.rule("gateway", "bridge output", `${copies} drop`);
  await flow.client.send(noise(UNHEARD));
  await flow.primary.receive(UNHEARD);
  await poll("the primary's acknowledgement", async () => {
    const { primary_ack, replica_ack } = (await flow.tracked())!;
    return (primary_ack - replica_ack | 0) === UNHEARD;
  });
  await mend();
}

/** The flow's replica has not said what its client has. */
async function keepSilent(flow: Flow): Promise<void> {
  await flow.primary.send(noise(UNSAID));
  await flow.client.receive(UNSAID);
  await poll("the client's acknowledgement", async () => {
    const { client_ack, replica_end } = (await flow.tracked())!;
    return (client_ack - replica_end | 0) === UNSAID;
  });
}

onStage(
  "planned: where replicas are behind, in front of the fence or behind it, it names them and nothing changes",
  async (stage) => {
    using twins = new Twins(stage);
    await stage.protect(TWINS);
    const unsaid = await twins.open("unsaid");
    await unsaid.up("before");
    let unheard: Flow | undefined;
    const asked: string[] = [];
    const path = join(stage.scratch, "asked.sock");
    await using _fence = await serveControl(path, {
      async *fence() {
        asked.push("fence");
        // Both happen once the flows are frozen; a connection that begins then is not.
        unheard = await twins.open("unheard");
        await loseUpload(twins, unheard);
        await keepSilent(unsaid);
        yield { fenced: { services: [TWINS] } };
      },
      *release() {
        asked.push("release");
        yield { released: [TWINS] };
      },
    });
    const switchOver = async (when: string, [lost, silent]: [string, string]): Promise<void> => {
      const before = (await stage.stats()).thaws!;
      const flags = ["--fence", path, "--fence-timeout", "60", "--planned-timeout", "0.3"];
      const args = ["takeover", "--planned", "--run-dir", stage.runDir, ...flags];
      const { status, stdout, stderr } = await stage.t2cp("backup", ...args);
      assert.equal(status, 75, stderr);
      assert.doesNotMatch(stdout, /"active"/);
      assert.match(
        stderr,
        new RegExp(`Replicas were still behind 300 ms after they were ${when}:`),
      );
      const client = (flow: Flow) => formatEndpoint(flow.address, flow.port);
      for (
        const line of [
          `that of "${client(unheard!)}" lacks ${lost} bytes of its client`,
          `that of "${client(unsaid)}" has not sent ${silent} bytes that its client has`,
        ]
      ) {
        assert.match(stderr, new RegExp(line));
      }
      const { mode, thaws } = await stage.stats();
      assert.equal(mode, "shadow");
      assert.ok(thaws! >= before + 3, "the clients are told to go on");
      const left = [...Deno.readDirSync(stage.runDir)].map(({ name }) => name);
      assert.ok(!left.includes("takeover.json"), "the record is left");
      for (const flow of [unsaid, unheard!]) {
        const [up, down] = [noise(1000), noise(1000)];
        await Promise.all([
          flow.client.send(up).then(() => flow.primary.receive(up.length)),
          flow.primary.send(down).then(() => flow.client.receive(down.length)),
        ]);
      }
    };
    await switchOver("fenced", [`${UNHEARD}`, `${UNSAID}`]);
    assert.deepEqual(asked.splice(0), ["fence", "release"]);
    // Now they are behind from the start, and further than before.
    await switchOver("frozen", ["\\d+", "\\d+"]);
    assert.deepEqual(asked, [], "it does not get as far as the fence");
  },
);
