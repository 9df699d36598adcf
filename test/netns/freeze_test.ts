import assert from "node:assert/strict";
import type { TcpFrame } from "../fixture/frame.ts";
import { poll } from "../fixture/wait.ts";
import type { Capture, Captured } from "./capture.ts";
import { assertSameBytes, onStage, type Stage } from "./stage.ts";
import { type Flow, noise, PORT, TWINS, Twins, TWINS6 } from "./twins.ts";

type Segment = Captured & TcpFrame;

/** A flow's segments so far at the gateway's interface to the client. */
function segments(wire: Capture, { port }: Flow, by: "client" | "service"): Segment[] {
  return wire.frames.filter((frame): frame is Segment =>
    frame.kind === "tcp" &&
    (by === "client" ? frame.sourcePort === port : frame.destinationPort === port)
  );
}

/** Starts `freeze` for at most `lease` seconds, and waits until the clients have been told. */
async function freeze(stage: Stage, ...flags: string[]) {
  const process = stage.start("backup", "freeze", "--now", "--run-dir", stage.runDir, ...flags);
  return { process, frozen: await process.next("frozen") };
}

/** The client's timers of the flow, as ss shows them. */
async function timer(stage: Stage, { port }: Flow): Promise<string> {
  const text = await stage.output("client", "ss", "-Htno", "sport", "=", `:${port}`);
  return /timer:\((\w+)/.exec(text)?.[1] ?? "none";
}

const later = (a: number, b: number): boolean => ((b - a) | 0) < 0;
const plus = (a: number, b: number): number => (a + b) >>> 0;

/** Fails unless the service's segments of a frozen flow, from the first closed window on, are as they should be. */
function assertAdvertisements(wire: Capture, flow: Flow): void {
  const said = segments(wire, flow, "service");
  const first = said.findIndex(({ window }) => window === 0);
  const before = said[first - 1]!;
  assert.ok(first > 0, `${flow.name}: a closed window`);
  for (const segment of said.slice(first)) {
    assert.deepEqual(
      { flags: segment.flags, window: segment.window, length: segment.length },
      { flags: "A", window: 0, length: 0 },
      flow.name,
    );
    assert.equal(segment.sourceMac, said[0]!.sourceMac, "by way of the gateway");
    const next = plus(before.seq, before.length);
    assert.equal(segment.seq, next, `${flow.name}: the primary's SND.NXT`);
    assert.ok(segment.ipChecksum, `${flow.name}: checksum of the IP header`);
    assert.ok(!later(before.ack, segment.ack), `${flow.name}: no old acknowledgement`);
    const heard = segments(wire, flow, "client").filter(({ time }) => time < segment.time);
    const end = heard.map(({ seq, length, flags }) =>
      plus(seq, length + (flags.includes("F") ? 1 : 0))
    ).reduce((a, b) => later(a, b) ? a : b);
    assert.ok(!later(segment.ack, end), `${flow.name}: no more than the client sent`);
    const stamps = segment.timestamps!;
    const echoed = heard.some(({ timestamps }) => timestamps!.value === stamps.echo);
    assert.ok(echoed, `${flow.name}: TSecr is a TSval of the client's`);
    const elapsed = (segment.time - before.time) / 1000;
    const error = (stamps.value - before.timestamps!.value | 0) - elapsed;
    assert.ok(Math.abs(error) < 25, `${flow.name}: TSval off by ${error} ms`);
  }
}

onStage(
  "freeze: clients stop and probe, every probe is answered, and the takeover finds every byte",
  async (stage) => {
    using twins = new Twins(stage);
    await stage.protect(TWINS, TWINS6);
    const flows: Flow[] = [];
    for (const family of [4, 6] as const) {
      twins.family = family;
      flows.push(await twins.open(`upload, IPv${family}`));
      flows.push(await twins.open(`end, IPv${family}`));
    }
    for (const flow of flows) {
      await flow.up(noise(1000));
      await flow.down(noise(1000));
    }
    const wire = await stage.capture("eth0", "inout", `tcp port ${PORT}`);
    for (const flow of flows) await flow.down("seen");
    await stage.lab.failHost();
    const { process, frozen } = await freeze(stage, "--lease", "60");
    assert.equal(frozen.flows, 4);
    assert.equal(frozen.stopped, 4);
    const uploads = flows.filter(({ name }) => name.startsWith("upload"));
    const ends = flows.filter(({ name }) => name.startsWith("end"));
    const content = noise(300_000);
    const sending = uploads.map((flow) => flow.client.send(content));
    for (const each of sending) each.catch(() => {});
    for (const flow of uploads) {
      assert.equal(
        await poll("probes", async () => {
          const state = await timer(stage, flow);
          return state === "persist" ? state : undefined;
        }),
        "persist",
      );
    }
    for (const flow of ends) flow.client.finish();
    for (const flow of flows) {
      await poll(`${flow.name}: answers to probes`, () =>
        segments(wire, flow, "service")
          .filter(({ window }) => window === 0).length >= 3);
      assertAdvertisements(wire, flow);
    }
    const takeover = stage.start("backup", "takeover", "--now", "--run-dir", stage.runDir);
    await takeover.next("active");
    for (const [i, flow] of uploads.entries()) {
      assertSameBytes(await flow.replica.receive(content.length), content, flow.name);
      await sending[i];
      await flow.goesOn();
      await flow.ends();
    }
    for (const flow of ends) {
      assert.equal((await flow.replica.receive(1)).length, 0, "the client's end");
      flow.replica.close();
      assert.equal((await flow.client.receive(1)).length, 0);
    }
    assert.equal((await process.status).code, 0, process.stderr);
    assert.deepEqual(wire.frames.filter((f) => f.kind === "tcp" && f.flags.includes("R")), []);
  },
);
