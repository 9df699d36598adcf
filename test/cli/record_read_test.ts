/**
 * `t2cp record --read`: the recorder on capture files. No root is needed, and no interface.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type Event, parseEvent } from "../../lib/event.ts";
import {
  type Bytes,
  concat,
  enhancedPacket,
  interfaceBlock,
  pcapHeader,
  pcapRecord,
  section,
} from "../fixture/capture_file.ts";
import { Bit, Ether, ethernet, ipPacket, Next, tcpSegment } from "../fixture/segment.ts";
import { checkout, type Outcome, shell, t2cp } from "./t2cp.ts";

const SERVICE = "10.77.0.100:80";
/** 2024-07-03T01:46:40Z. */
const SECOND = 1_719_971_200;

/** A packet of the client's, or of the service's. */
function packet(
  side: "client" | "service",
  flags: number,
  seq: number,
  ack: number,
  text = "",
): number[] {
  const [source, destination, ports] = side === "client"
    ? ["10.77.1.2", "10.77.0.100", { sourcePort: 40_000, destinationPort: 80 }] as const
    : ["10.77.0.100", "10.77.1.2", { sourcePort: 80, destinationPort: 40_000 }] as const;
  const payload = [...new TextEncoder().encode(text)];
  const body = tcpSegment(source, destination, { ...ports, flags, seq, ack, payload });
  return ipPacket({ source, destination, protocol: Next.TCP }, body);
}

/** A connection in which the client says "hello" in two segments, one of them twice. */
const { SYN, ACK, FIN } = Bit;
const connection: number[][] = [
  packet("client", SYN, 1000, 0),
  packet("service", SYN | ACK, 5000, 1001),
  packet("client", ACK, 1001, 5001, "hel"),
  packet("client", ACK, 1004, 5001, "lo"),
  packet("client", ACK, 1004, 5001, "lo"),
  packet("service", ACK, 5001, 1006),
  packet("client", FIN | ACK, 1006, 5001),
  packet("service", FIN | ACK, 5001, 1007),
  packet("client", ACK, 1007, 5002),
];
/** What the ledger says of it. */
const LEDGER = {
  segments: 9,
  seen: 5,
  acknowledged: 5,
  repeated: 2,
  flows_opened: 1,
  flows_closed: 1,
};

const records: Bytes[] = connection.map((packet, i) =>
  pcapRecord(true, SECOND + i, 250_000, ethernet(Ether.IPV4, packet))
);
const file = concat(pcapHeader(true), ...records);

async function withFile(
  content: Uint8Array,
  test: (path: string) => Promise<void>,
): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-read-" });
  try {
    const path = join(directory, "capture");
    Deno.writeFileSync(path, content);
    await test(path);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function read(path: string, ...args: string[]): Promise<Outcome> {
  return t2cp("record", "--read", path, "--service", SERVICE, "--budget", "8M", ...args);
}

function eventsOf({ stdout }: Outcome): Event[] {
  return stdout.trimEnd().split("\n").map((line) => {
    const event = parseEvent(line);
    if (typeof event === "string") throw new Error(`${event}: ${line}`);
    return event;
  });
}

/** Checks fields of the last event, which must be `stats`. */
function assertLedger(outcome: Outcome, expected: Record<string, number>): void {
  const stats = eventsOf(outcome).at(-1)!;
  assert.equal(stats.type, "stats");
  const actual = Object.fromEntries(Object.keys(expected).map((name) => [name, stats[name]]));
  assert.deepEqual(actual, expected);
}

Deno.test("record --read: events in the time of the capture, and the ledger", async () => {
  await withFile(file, async (path) => {
    const outcome = await read(path, "--flows");
    assert.equal(outcome.status, 0, outcome.stderr);
    const events = eventsOf(outcome);
    assert.deepEqual(events.map(({ type }) => type), [
      "started",
      "flow.open",
      "flow.close",
      "stats",
    ]);
    const ends = { client: "10.77.1.2:40000", server: SERVICE };
    const [, open, close] = events;
    assert.deepEqual({ client: open!["client"], server: open!["server"] }, ends);
    assert.equal(open!.time, "2024-07-03T01:46:42.250000Z");
    assert.equal(close!.time, "2024-07-03T01:46:48.250000Z");
    assertLedger(outcome, { frames: 9, filtered: 0, ...LEDGER });
  });
});

Deno.test("record --read: several link types in one file; unknown ones are left out with a warning", async () => {
  const stamp = BigInt(SECOND) * 1_000_000n;
  const parts = connection.map((packet, i) =>
    i % 2 === 0
      ? enhancedPacket(true, 0, stamp, ethernet(Ether.IPV4, packet, { tags: [Ether.VLAN] }))
      : enhancedPacket(true, 1, stamp, Uint8Array.from(packet))
  );
  const foreign = enhancedPacket(true, 2, stamp, Uint8Array.of(1, 2, 3));
  const interfaces = [1, 101, 147].map((linkType) => interfaceBlock(true, linkType));
  const whole = concat(section(true), ...interfaces, ...parts, foreign, foreign);
  await withFile(whole, async (path) => {
    const outcome = await read(path);
    assert.equal(outcome.status, 0, outcome.stderr);
    const warnings = eventsOf(outcome).filter(({ type }) => type === "warning");
    assert.equal(warnings.length, 1);
    assert.match(String(warnings[0]!["message"]), /link type 147/);
    assertLedger(outcome, { frames: 11, filtered: 2, ...LEDGER });
  });
});

Deno.test("record --read: a filter for each link type", async () => {
  const stamp = BigInt(SECOND) * 1_000_000n;
  const interfaces = [1, 101].map((linkType) => interfaceBlock(true, linkType));
  const parts = connection.flatMap((packet) => [
    enhancedPacket(true, 0, stamp, ethernet(Ether.IPV4, packet)),
    enhancedPacket(true, 1, stamp, Uint8Array.from(packet)),
  ]);
  await withFile(concat(section(true), ...interfaces, ...parts), async (path) => {
    const outcome = await read(path, "--filter", "src host 10.77.1.2 and tcp[13] & 2 == 0");
    assertLedger(outcome, { frames: 18, filtered: 8, segments: 10, acknowledged: 0 });
    const wrong = await read(path, "--filter", "no such thing");
    assert.equal(wrong.status, 64);
    assert.match(wrong.stderr, /"no such thing"/);
  });
});

Deno.test("record --read: compressed, and from standard input", async () => {
  await withFile(gzipSync(file), async (path) => {
    assertLedger(await read(path), LEDGER);
    const script = `t2cp record --read - --service ${SERVICE} --budget 8M <${path}`;
    const outcome = await shell(script);
    assert.equal(outcome.status, 0, outcome.stderr);
    assertLedger(outcome, LEDGER);
  });
});

Deno.test("record --read: a broken file gives the ledger of what is before, then status 65 and the place", async () => {
  const cut = concat(file, records[0]!.subarray(0, 20));
  await withFile(cut, async (path) => {
    const outcome = await read(path);
    assert.equal(outcome.status, 65);
    assertLedger(outcome, { frames: 9, ...LEDGER });
    assert.ok(
      outcome.stderr.startsWith(
        `t2cp record: Block 11 at byte ${file.length} of "${path}" `,
      ),
      outcome.stderr,
    );
  });
});

Deno.test("record --read: stops at SIGTERM though nothing comes any more", async () => {
  const program = ["run", "-A", "--quiet", join(checkout, "cli/main.ts")];
  const args = ["record", "--read", "-", "--service", SERVICE, "--budget", "8M"];
  const child = new Deno.Command(Deno.execPath(), {
    args: [...program, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const input = child.stdin.getWriter();
  await input.write(file);
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.match((await reader.read()).value!, /"type":"started"/);
  child.kill("SIGTERM");
  let rest = "";
  for (let part; !(part = await reader.read()).done;) rest += part.value;
  assert.equal((await child.status).code, 0);
  assert.match(rest, /"type":"stats"/);
  await input.abort().catch(() => {});
});

Deno.test("record --read: what is no file, and flags that go with an interface only", async () => {
  const missing = await read("/nonexistent/capture");
  assert.equal(missing.status, 66);
  assert.match(missing.stderr, /^t2cp record: Capture "\/nonexistent\/capture" does not exist; /);
  assert.equal((await read("/")).status, 66);
  await withFile(new TextEncoder().encode("no capture\n"), async (path) => {
    assert.equal((await read(path)).status, 65);
    for (const flags of [["--interface", "lo"], ["--write", "/tmp"], ["--backup", "10.0.0.1"]]) {
      assert.equal((await read(path, ...flags)).status, 64, flags.join(" "));
    }
  });
});
