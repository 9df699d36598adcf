import assert from "node:assert/strict";
import { after } from "../../lib/flow/sequence.ts";
import type { TcpFrame } from "../fixture/frame.ts";
import { poll } from "../fixture/wait.ts";
import type { Captured } from "./capture.ts";
import type { Connection } from "./connection.ts";
import { assertSameBytes, ECHO, isOfService, onStage, type Stage, WEB } from "./stage.ts";

/** What ss tells of a connection's agreed options. */
interface Agreed {
  state: string;
  timestamps: boolean;
  sack: boolean;
  ecn: boolean;
  /** The peer's shift and the own one. */
  wscale: string | undefined;
  mss: number;
}

async function agreed(stage: Stage, role: "primary" | "backup", port: number): Promise<Agreed> {
  const text = await stage.output(role, "ss", "-Htinae", "dst", `10.77.1.2:${port}`);
  const words = text.trim().split(/\s+/);
  return {
    state: words[0]!,
    timestamps: words.includes("ts"),
    sack: words.includes("sack"),
    ecn: words.includes("ecn"),
    wscale: /\bwscale:(\d+,\d+)/.exec(text)?.[1],
    mss: Number(/\bmss:(\d+)/.exec(text)?.[1]),
  };
}

/** Settings of the client under which it agrees on other options. */
const variants: [name: string, settings: string[], socat: string, check: (a: Agreed) => boolean][] =
  [
    ["all options", [], "nodelay", (a) => a.timestamps && a.sack && a.wscale !== undefined],
    ["no timestamps", ["net.ipv4.tcp_timestamps=0"], "nodelay", (a) => !a.timestamps],
    ["no SACK", ["net.ipv4.tcp_sack=0"], "nodelay", (a) => !a.sack],
    [
      "no window scaling",
      ["net.ipv4.tcp_window_scaling=0"],
      "nodelay",
      (a) => a.wscale === undefined,
    ],
    [
      "none of them",
      [
        "net.ipv4.tcp_timestamps=0",
        "net.ipv4.tcp_sack=0",
        "net.ipv4.tcp_window_scaling=0",
      ],
      "nodelay",
      (a) => !a.timestamps && !a.sack && a.wscale === undefined,
    ],
    ["a small MSS", [], "nodelay,mss=700", (a) => a.mss < 700],
    [
      "the largest shift",
      ["net.ipv4.tcp_rmem=4096 131072 536870912"],
      "nodelay",
      (a) => a.wscale!.startsWith("14,"),
    ],
    ["ECN", ["net.ipv4.tcp_ecn=1"], "nodelay", (a) => a.ecn],
  ];

/** The service's segments to the client's `port`, in the order of the wire. */
function segments(frames: Captured[], port: number): (Captured & TcpFrame)[] {
  return frames.filter((frame): frame is Captured & TcpFrame =>
    frame.kind === "tcp" && isOfService(frame) && frame.destinationPort === port
  );
}

onStage(
  "exact: the replica agrees with the primary on every option, and continues its numbers and its clock",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const primary = await stage.capture("primary");
    const client = await stage.capture("eth0");
    const backup = await stage.capture("backup");
    const names = new Set(
      variants.flatMap(([, settings]) => settings.map((text) => text.split("=")[0]!)),
    );
    const usual: string[] = [];
    for (const name of names) usual.push(`${name}=${await stage.setting("client", name)}`);
    const connections: [string, Connection, Agreed][] = [];
    for (const [name, settings, options, check] of variants) {
      await stage.sysctl("client", ...usual, ...settings);
      const connection = stage.connect(7, options);
      assert.equal(await connection.echo(name), name);
      const first = await agreed(stage, "primary", connection.port);
      assert.ok(check(first), `${name}: ${JSON.stringify(first)}`);
      assert.equal(first.state, "ESTAB");
      await poll("the replica", async () => {
        return (await agreed(stage, "backup", connection.port)).state === "ESTAB";
      });
      assert.deepEqual(await agreed(stage, "backup", connection.port), first, name);
      connections.push([name, connection, first]);
    }
    const flows = await stage.flows();
    assert.equal(flows.length, variants.length);
    for (const { client, primary_end } of flows) {
      await poll(`the last segment to ${client}`, () => {
        const last = segments(primary.frames, Number(client.split(":")[1])).at(-1);
        return last !== undefined && (last.seq + last.length) >>> 0 === primary_end;
      });
    }
    assert.deepEqual(backup.frames.filter(isOfService), []);

    assert.equal((await stage.failOver()).flows, variants.length);
    for (const [name, connection, options] of connections) {
      const { port } = connection;
      const last = segments(primary.frames, port).at(-1)!;
      const end = (last.seq + last.length) >>> 0;
      // Before it there may be a probe of the replica's, which repeats an old number.
      const first = await poll(
        `the replica's segment of "${name}" with sequence number ${end}`,
        () => segments(backup.frames, port).find(({ seq }) => seq === end),
      );
      const synack = segments(primary.frames, port)[0]!;
      const flow = flows.find(({ client }) => client === `10.77.1.2:${port}`)!;
      assert.equal(synack.flags, options.ecn ? "SEA" : "SA");
      assert.equal(flow.iss, synack.seq, name);
      assert.equal(flow.irs, (synack.ack - 1) >>> 0, name);
      assert.equal(first.flags, "A", name);
      for (const { seq } of segments(backup.frames, port)) {
        assert.ok(!after(seq, end), `${name}: a number that the primary has not used`);
      }
      assert.equal(first.ack, last.ack, `${name}: acknowledgement`);
      assert.equal(first.timestamps !== undefined, options.timestamps, name);
      if (first.timestamps !== undefined) {
        const elapsed = (first.time - last.time) / 1000;
        const clock = (first.timestamps.value - last.timestamps!.value) | 0;
        const error = clock - elapsed;
        // A busy machine lets a segment wait between its clock and the wire.
        assert.ok(Math.abs(error) < 500, `${name}: the clock is off by ${error} ms`);
        const said = client.frames.flatMap((frame) =>
          frame.kind === "tcp" && frame.sourcePort === port ? [frame.timestamps?.value] : []
        );
        assert.ok(said.includes(first.timestamps.echo), `${name}: TSecr`);
        assert.ok(!after(last.timestamps!.echo, first.timestamps.echo), `${name}: TSecr`);
      }
      assert.equal(await connection.echo(`${name} again`), `${name} again`);
      assert.deepEqual(await agreed(stage, "backup", port), { ...options, state: "ESTAB" }, name);
    }
  },
);

onStage(
  "exact: in the middle of a download the replica goes on where the client is, with the same bytes",
  async (stage) => {
    await stage.webServers(20 << 20);
    await stage.protect(WEB);
    const download = stage.connect(80);
    await download.write("GET /content HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const head = await download.readTo("\r\n\r\n");
    const first = await download.read(3 << 20);
    assertSameBytes(first, stage.content.subarray(0, first.length));
    // Nobody reads on: the windows fill up, and then the flow stands still. The replica catches up with the client.
    let lag = NaN;
    const still = await poll("a flow that stands still", async () => {
      const [one] = await stage.flows();
      await new Promise((resolve) => setTimeout(resolve, 100));
      const [two] = await stage.flows();
      lag = (two!.client_ack - two!.replica_end) >>> 0;
      return one!.client_ack === two!.client_ack && two!.client_window === 0 &&
        lag < 1448 + 2 ** two!.client_wscale && two;
    }).catch((error) => assert.fail(`${error.message}: the replica lags by ${lag} bytes`));

    const backup = await stage.capture("backup");
    await stage.failOver();
    const left = stage.content.subarray(first.length);
    assertSameBytes(await download.read(left.length), left);
    const sent = segments(backup.frames, download.port);
    const data = sent.find((frame) => frame.length > 0)!;
    // What the client has acknowledged to the primary, it need not see again.
    assert.ok(!after(still.replica_end, data.seq), "nothing older than the replica's own");
    assert.ok(!after(data.seq, still.client_ack), "nothing left out");
    for (const frame of sent) assert.equal(frame.ack, still.client_end);
    const offset = ((data.seq - still.iss - 1) >>> 0) - head.length;
    const payload = data.payload.subarray(0, data.length);
    assert.ok(payload.length > 50);
    assertSameBytes(payload, stage.content.subarray(offset, offset + payload.length));
  },
);
