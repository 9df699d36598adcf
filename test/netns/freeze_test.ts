import assert from "node:assert/strict";
import { join } from "node:path";
import type { TcpFrame } from "../fixture/frame.ts";
import { poll } from "../fixture/wait.ts";
import type { Capture, Captured } from "./capture.ts";
import { assertRefused, assertSameBytes, describe, onStage, type Stage, T2CP } from "./stage.ts";
import { type Flow, noise, PORT, TWINS, Twins, TWINS6 } from "./twins.ts";
import { killAt } from "./strace.ts";
import type { Process } from "./two_hosts.ts";

type Segment = Captured & TcpFrame;

/** A flow's segments after the first `seen` frames so far at the gateway's interface to the client. */
function segments(
  wire: Capture,
  { port }: Flow,
  by: "client" | "service",
  seen = 0,
): Segment[] {
  return wire.frames.slice(seen).filter((frame): frame is Segment =>
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

/** Lets `work` go on beside the test, which awaits it in the end. */
function beside<T>(work: Promise<T>): Promise<T> {
  work.catch(() => {});
  return work;
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
    // A busy machine lets a segment wait between its clock and the wire.
    assert.ok(Math.abs(error) < 500, `${flow.name}: TSval off by ${error} ms`);
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
    const wire = await stage.capture("eth0", "inout", `tcp port ${PORT}`);
    for (const flow of flows) {
      await flow.up(noise(1000));
      // Else the last that its client has heard is an acknowledgement of the same numbers.
      if (flow.address.includes(".")) await flow.down("seen");
    }
    await stage.lab.failHost();
    const { process, frozen } = await freeze(stage, "--lease", "60");
    assert.equal(frozen.flows, 4);
    assert.equal((await process.next("frozen.stopped")).stopped, 4);
    for (const flow of flows) {
      await poll(
        `${flow.name}: a closed window`,
        () => segments(wire, flow, "service").at(-1)?.window === 0,
      );
    }
    const seen = wire.frames.length;
    const uploads = flows.filter(({ name }) => name.startsWith("upload"));
    const ends = flows.filter(({ name }) => name.startsWith("end"));
    const content = noise(300_000);
    const sending = uploads.map((flow) => beside(flow.client.send(content)));
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
    // This Linux obeys, whether or not a number has advanced.
    const isData = (frame: Captured) => frame.kind === "tcp" && frame.length > 0;
    assert.deepEqual(wire.frames.slice(seen).filter(isData).map(describe), []);
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

/** The primary lives on, and its segments get lost until the result is called. */
function mutePrimary(twins: Twins): Promise<() => Promise<void>> {
  return twins.rule("primary", "inet output", `tcp sport ${PORT} drop`);
}

onStage(
  "freeze: what is frozen thaws when the command is killed, and the next start finishes what it began",
  async (stage) => {
    using twins = new Twins(stage);
    await stage.protect(TWINS);
    const flow = await twins.open("killed");
    await flow.up(noise(1000));
    await flow.down("seen");
    const wire = await stage.capture("eth0", "inout", `tcp port ${PORT}`);
    const mend = await mutePrimary(twins);
    const { process } = await freeze(stage, "--lease", "60");
    const content = noise(200_000);
    const sending = beside(flow.client.send(content));
    const received = beside(flow.primary.receive(content.length));
    await poll("a closed window", async () => await timer(stage, flow) === "persist");
    await process.end("SIGKILL");
    const killed = Date.now() * 1000;
    await poll("a probe without an answer", () => {
      const probe = segments(wire, flow, "client").at(-1)?.time ?? 0;
      return probe > killed && Date.now() * 1000 > probe + 300_000 &&
        segments(wire, flow, "service").at(-1)!.time < probe;
    });
    const last = segments(wire, flow, "service").at(-1)!.time;
    assert.ok(last < killed + 1_500_000, `${(last - killed) / 1000} ms after its end`);
    await mend();
    assertSameBytes(await received, content, "content at the primary");
    await sending;
    assertSameBytes(await flow.replica.receive(content.length), content, "content at the replica");
    await flow.down(noise(1000));

    // The next start finishes what was killed halfway, whether it froze or thawed.
    const other = await twins.open("other");
    for (const one of [flow, other]) await one.up(noise(1000));
    const reading = async (...flags: string[]) => {
      const args = ["freeze", "--run-dir", stage.runDir, ...flags];
      const started = stage.startReading("backup", ...args);
      await started.next("started");
      return started;
    };
    const freezing = await reading("--lease", "60");
    const failed = event("failed", "primary");
    // A probe of the replica and an advertisement for each.
    await killAt(freezing.pid, "sendto:3", () => freezing.write(failed));
    const again = await freeze(stage, "--lease", "60");
    assert.equal(again.frozen.flows, 2, again.process.stderr);
    await again.process.end("SIGKILL");
    const thawing = await reading("--thaw", "--on", "active");
    const active = JSON.stringify({
      ...{ ...common, by: "takeover", type: "active", flows: 2, took_ms: 1, steps: {} },
    });
    await killAt(thawing.pid, "sendto:2", () => thawing.write(active));
    const thaw = async () => {
      const args = ["freeze", "--thaw", "--now", "--run-dir", stage.runDir];
      const { stdout } = await stage.t2cp("backup", ...args);
      return /"type":"thawed".*"flows":(\d+)/.exec(stdout)?.[1];
    };
    assert.equal(await thaw(), "2");
    assert.equal(await thaw(), "0", "nothing is left frozen");
    for (const one of [flow, other]) {
      await one.up(noise(100_000));
      await one.down(noise(1000));
    }
  },
);

onStage(
  "freeze: chosen flows, thawed by hand, at the end of the lease, and at the command's end",
  async (stage) => {
    using twins = new Twins(stage);
    await stage.protect(TWINS);
    const flow = await twins.open("chosen");
    const other = await twins.open("other");
    for (const one of [flow, other]) {
      await one.up(noise(1000));
      await one.down("seen");
    }
    const wire = await stage.capture("eth0", "inout", `tcp port ${PORT}`);
    const service = twins.family === 4 ? TWINS : TWINS6;
    const name = `${flow.address}:${flow.port}`;
    const choices: Record<string, [flags: string[], thaw: (process: Process) => Promise<unknown>]> =
      {
        asked: [["--flow", `${name}=${service}`], () =>
          stage.output(
            "backup",
            ...T2CP,
            ...["freeze", "--thaw", "--now", "--run-dir", stage.runDir],
          )],
        lease: [["--client", name, "--lease", "0.6"], () => Promise.resolve()],
        stopped: [["--client", name], (process) => process.end("SIGTERM")],
      };
    for (const [reason, [flags, thaw]] of Object.entries(choices)) {
      const mend = await mutePrimary(twins);
      const seen = wire.frames.length;
      const content = noise(20_000);
      const sending = beside(flow.client.send(content));
      await poll(`${reason}: data under way`, () => segments(wire, flow, "client", seen)[0]);
      const { process, frozen } = await freeze(stage, ...flags);
      assert.equal(frozen.flows, 1, reason);
      const closed = await poll(
        `${reason}: a closed window`,
        () => segments(wire, flow, "service", seen).find(({ window }) => window === 0),
      );
      await thaw(process);
      // The primary cannot have said so.
      const open = await poll(
        `${reason}: an open window`,
        () =>
          segments(wire, flow, "service", seen).find(({ window, time }) =>
            window > 0 && time > closed.time
          ),
      );
      assert.ok(!later(closed.ack, open.ack));
      await mend();
      for (const server of [flow.primary, flow.replica]) {
        assertSameBytes(await server.receive(content.length), content, `${reason}: content`);
      }
      await sending;
      assert.equal((await process.status).code, 0, process.stderr);
      const thawed = process.events.find(({ type }) => type === "thawed");
      // Whoever was asked says so.
      assert.equal(thawed?.reason, reason === "asked" ? undefined : reason);
    }
    await other.up("still");
    const closed = segments(wire, other, "service").filter(({ window }) => window === 0);
    assert.deepEqual(closed, [], "nothing was said in another flow");
  },
);

const common = { v: 1, time: "2026-01-31T12:00:00.000000Z", by: "detect", host: "gateway" };
const event = (type: string, target: string): string =>
  JSON.stringify({
    ...{ ...common, type, target },
    ...(type === "failed" ? { level: "host", cause: "unplanned", evidence: [] } : {}),
  });

onStage(
  "freeze: in a pipeline the flows are frozen from failed to active, and every line passes",
  async (stage) => {
    using twins = new Twins(stage);
    await stage.protect(TWINS);
    const flow = await twins.open("pipeline");
    await flow.up(noise(1000));
    await flow.down("seen");
    const t2cp = (...args: string[]) => `t2cp ${args.join(" ")} --run-dir ${stage.runDir}`;
    const quote = (lines: readonly string[]) => lines.map((line) => `'${line}'`).join(" ");

    const elsewhere = { ...JSON.parse(event("failed", "primary")), services: [`${TWINS}0`, null] };
    const one = quote([JSON.stringify(elsewhere)]);
    const passed = await stage.shell("backup", `printf '%s\\n' ${one} | ${t2cp("freeze")}`);
    assert.equal(passed.status, 0, passed.stderr);
    assert.doesNotMatch(passed.stdout, /"frozen"/, "of another service");
    const both = quote([event("failed", "primary"), event("recovered", "primary")]);
    const back = await stage.shell("backup", `printf '%s\\n' ${both} | ${t2cp("freeze")}`);
    assert.match(
      back.stdout,
      /"type":"frozen".*"flows":1.*\n.*"type":"thawed".*"reason":"recovered"/,
    );
    assert.equal((await stage.stats()).thaws, 3);
    // Nobody who reads, and it does freeze, and thaws at the end of the lease.
    const once = quote([event("failed", "primary")]);
    await stage.shell("backup", `printf '%s\\n' ${once} | ${t2cp("freeze --lease 0.1")} | true`);
    assert.equal((await stage.stats()).thaws, 6);

    const wire = await stage.capture("eth0", "inout", `tcp port ${PORT}`);
    await stage.lab.failHost();
    const lines = [
      "not json",
      event("failed", "another"),
      event("failed", "primary"),
      event("failed", "primary"),
      event("recovered", "another"),
    ];
    const go = join(stage.scratch, "go");
    await stage.output("backup", "mkfifo", go);
    const pipeline = [
      `{ printf '%s\\n' ${quote(lines)}; cat ${go}; }`,
      t2cp("freeze", "--on", "failed", "--target", "primary", "--lease", "60"),
      t2cp("takeover", "--on", "drill"),
      t2cp("freeze", "--thaw", "--on", "active"),
    ].join(" | ");
    const running = beside(stage.shell("backup", pipeline));
    const content = noise(100_000);
    await poll(
      "a closed window",
      () => segments(wire, flow, "service").some(({ window }) => window === 0),
    );
    const sending = beside(flow.client.send(content));
    await poll("probes", async () => await timer(stage, flow) === "persist");
    assert.ok(segments(wire, flow, "service").slice(1).every(({ window }) => window === 0));
    await Deno.writeTextFile(go, `${event("drill", "primary")}\n`);
    assertSameBytes(await flow.replica.receive(content.length), content);
    await sending;
    const { status, stdout, stderr } = await running;
    assert.equal(status, 0, stderr);
    const printed = stdout.trimEnd().split("\n");
    const through = printed.filter((line) => [...lines, event("drill", "primary")].includes(line));
    assert.deepEqual(through, [...lines, event("drill", "primary")], "in order, byte by byte");
    const own = printed.slice(1).flatMap((line) => {
      const { type, by, flows, reason } = line.startsWith("{") ? JSON.parse(line) : {};
      const told = ["frozen", "active", "thawed"].includes(type);
      return told ? [{ type, by, flows, reason }] : [];
    });
    assert.deepEqual(own, [
      { type: "frozen", by: "freeze", flows: 1, reason: undefined },
      { type: "active", by: "takeover", flows: 1, reason: undefined },
      { type: "thawed", by: "freeze", flows: 1, reason: "active" },
    ]);
    await flow.goesOn();
  },
);

onStage(
  "freeze: without a shadow, after a takeover, and with wrong flags, it says what to do",
  async (stage) => {
    const run = (...flags: string[]) =>
      stage.t2cp("backup", "freeze", "--run-dir", stage.runDir, ...flags);
    assertRefused(await run("--now"), 69, /^t2cp freeze: No shadow was started in run directory/);
    assertRefused(
      await run("--now", "--on", "failed"),
      64,
      /^t2cp freeze: Flags "--now" and "--on"/,
    );
    assertRefused(await run("--thaw", "--lease", "3"), 64, /^t2cp freeze: Flag "--lease" has no/);
    assertRefused(await run("--lease", "4000"), 64, /^t2cp freeze: --lease: "4000" is too long/);
    assertRefused(
      await run("--client", "here"),
      64,
      /^t2cp freeze: --client: "here" does not name/,
    );
    using twins = new Twins(stage);
    await stage.protect(TWINS);
    await twins.open("frozen twice");
    const first = stage.start("backup", "freeze", "--now", "--run-dir", stage.runDir);
    await first.next("frozen");
    const second = await run("--now");
    assert.equal(second.status, 75);
    assert.match(
      second.stderr,
      /^t2cp freeze: Another process has frozen flows of this shadow; stop it first/,
    );
    await first.end("SIGTERM");
    assert.match(
      (await stage.t2cp("backup", "takeover", "--now", "--run-dir", stage.runDir)).stdout,
      /active/,
    );
    const late = await run("--now");
    assert.equal(late.status, 69);
    assert.match(late.stderr, /^t2cp freeze: This host has taken over/);
  },
);
