/**
 * The recorder in the lab: what clients send is there, byte for byte, until the replica has it.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { poll } from "../fixture/wait.ts";
import { assertSameBytes, onStage, SERVICE_ADDRESS, type Stage } from "./stage.ts";
import { askRecorder, fetchRange } from "./record_socket.ts";
import type { Process } from "./two_hosts.ts";

async function startRecorder(
  stage: Stage,
  ...args: string[]
): Promise<{ recorder: Process; runDir: string }> {
  const runDir = stage.lab.roleDirectory("gateway");
  const defaults = { "--interface": "br0", "--service": `${SERVICE_ADDRESS}:9`, "--budget": "64M" };
  const given = Object.entries(defaults).filter(([flag]) => !args.includes(flag)).flat();
  const recorder = stage.start("gateway", "record", ...given, "--run-dir", runDir, ...args);
  await recorder.next("started");
  return { recorder, runDir };
}

interface Flow {
  client: string;
  server: string;
  end: number;
  seen: number;
  held: number;
  acknowledged: number;
}

async function flowsOf(runDir: string): Promise<Flow[]> {
  const answers = await askRecorder(runDir, { request: "flows" });
  return answers.slice(0, -1).map((answer) => answer["flow"] as Flow);
}

onStage("record: what a client sent can be fetched, until it is acknowledged", async (stage) => {
  await stage.socat("primary", 9, "-u", "TCP4-LISTEN:9,fork", "OPEN:/dev/null");
  const { recorder, runDir } = await startRecorder(stage, "--flows");
  const sent = randomFillSync(new Uint8Array(3_000_000));
  await stage.connect(9).write(sent);

  const flow = await poll("the whole of it", async () => {
    const [flow] = await flowsOf(runDir);
    return flow?.acknowledged === sent.length ? flow : undefined;
  });
  const from = flow.end - sent.length >>> 0;
  const whole = await fetchRange(runDir, flow, from, flow.end);
  assert.deepEqual(whole.missing, []);
  assertSameBytes(whole.bytes, sent);

  const upto = from + 1_000_001 >>> 0;
  const { client, server } = flow;
  const [freed] = await askRecorder(runDir, { request: "ack", client, server, upto });
  assert.deepEqual(freed, { freed: { bytes: 1_000_001, unknown: 0 } });
  const rest = await fetchRange(runDir, flow, from, flow.end);
  assert.deepEqual(rest.missing, [{ from, to: upto, reason: "freed" }]);
  assertSameBytes(rest.bytes.subarray(1_000_001), sent.subarray(1_000_001));

  assert.equal((await recorder.end("SIGTERM")).code, 0);
});
