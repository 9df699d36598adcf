import assert from "node:assert/strict";
import { failedLine, type FenceStage, fenceTest, SERVICES } from "./fence_stage.ts";
import type { TcpSocket } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import { killAt } from "./strace.ts";
import type { Process } from "./two_hosts.ts";

const MAC = "02:00:00:00:00:99";

/** What a client gets back of a word. */
async function echo(socket: TcpSocket, word: string): Promise<void> {
  await socket.send(word);
  assert.equal(await socket.receiveText(word.length), word);
}

/** The types of a process's events without those of its start and end. */
function told(process: Process): string[] {
  return process.events.map(({ type }) => type)
    .filter((type) => !["started", "fence.ready", "stats"].includes(type));
}

fenceTest("fenced comes before failed, and the primary is heard no more", async (stage) => {
  const clients = [await stage.client(4), await stage.client(6)];
  const fence = await stage.fence();
  const suspect = failedLine().replace("failed", "from.the.future");
  await fence.write(suspect);
  await fence.next("from.the.future");
  for (const client of clients) await echo(client, "before");
  await fence.write(failedLine());
  await fence.next("failed");
  assert.deepEqual(told(fence), ["from.the.future", "fenced", "failed"]);
  const fenced = await fence.next("fenced");
  assert.deepEqual(fenced.services, SERVICES);
  assert.ok(Number((fenced.steps as Record<string, number>).dropping) >= 0);

  for (const client of clients) await client.send("after");
  await stage.counts("dropped_tcp", 2);
  await echo(await stage.client(4, true), "heartbeat");
  await echo(await stage.client(6, true), "heartbeat");
  for (const client of clients) assert.equal(client.tryReceive(1), undefined);
  // Nor is it asked where the service is, or believed.
  for (const family of [4, 6] as const) {
    const flush = ["ip", `-${family}`, "neighbour", "flush", "dev", "link0"];
    await stage.hosts.output("b", ...flush);
  }
  for (const client of clients) await client.send("again");
  await stage.counts("dropped_arp");
  await stage.counts("dropped_nd");
  for (const family of [4, 6] as const) {
    assert.doesNotMatch(await stage.neighbour(family), /lladdr/);
  }

  // What came meanwhile was not lost.
  assert.deepEqual(await stage.release(), [SERVICES]);
  for (const client of clients) assert.equal(await client.receiveText(10), "afteragain");
  await fence.endInput();
  assert.equal((await fence.status).code, 0, fence.stderr);
  assert.deepEqual(told(fence).slice(3), ["fence.released"]);
  assert.equal(stage.programs, 0, "what is not up goes with the process");
});

fenceTest(
  "a fence that is up outlives its process, and the next start adopts it",
  async (stage) => {
    const client = await stage.client();
    const first = await stage.fence();
    await first.write(failedLine());
    await first.next("failed");
    await first.end("SIGKILL");
    await client.send("one");
    const second = await stage.fence();
    const { adopted, up } = await second.next("started");
    assert.deepEqual([adopted, up], [true, true]);
    await second.write(failedLine());
    const { already } = await second.next("fenced");
    assert.equal(already, true);
    await second.end("SIGTERM");
    // Nor is there another primary or service in its place.
    const others = [...stage.flags, "--now"].map((flag) => flag.replace(":7", ":8"));
    const refused = await stage.t2cp(69, ...others);
    assert.match(refused.stderr, /^t2cp fence: A fence is up .* for another primary, or other/);
    assert.equal(client.tryReceive(1), undefined);
    assert.deepEqual(await stage.release(), [SERVICES]);
    assert.equal(await client.receiveText(3), "one");
    assert.equal(stage.programs, 0);
    assert.deepEqual(await stage.release(), [], "nothing is left to release");
  },
);

fenceTest("one that was killed as it came up is completed by the next start", async (stage) => {
  const client = await stage.client();
  const first = await stage.fence("--backup", MAC);
  // Dropping is a store to memory; the neighbour entries are told by a message.
  await killAt(first.pid, "sendto:1", () => first.write(failedLine()));
  await first.end("SIGKILL");
  assert.deepEqual(told(first), []);
  assert.doesNotMatch(await stage.neighbour(4), new RegExp(MAC));
  await client.send("one");
  const second = await stage.fence("--backup", MAC);
  assert.equal((await second.next("started")).up, true);
  await second.write(failedLine());
  assert.equal((await second.next("fenced")).already, true);
  assert.match(await stage.neighbour(4), new RegExp(`lladdr ${MAC}`));
  assert.equal(client.tryReceive(1), undefined);
  assert.deepEqual(await stage.release(), [SERVICES]);
  assert.equal(await client.receiveText(3), "one");
  await second.end("SIGTERM");
});

fenceTest("one that was killed before it was up leaves nothing that drops", async (stage) => {
  const first = await stage.fence();
  await first.end("SIGKILL");
  await echo(await stage.client(), "still here");
  const second = await stage.fence();
  assert.equal(stage.programs, 1, "the earlier one is gone");
  await second.end("SIGTERM");
  assert.equal(stage.programs, 0);
});

fenceTest("--now fences at once and points the neighbour entries at the backup", async (stage) => {
  await echo(await stage.client(), "before");
  const { events } = await stage.t2cp(0, ...stage.flags, "--now", "--backup", MAC);
  assert.deepEqual(events.map(({ type }) => type), ["fenced"]);
  for (const family of [4, 6] as const) {
    assert.match(await stage.neighbour(family), new RegExp(`lladdr ${MAC} REACHABLE`));
  }
  // Without the record, too.
  await Deno.remove(`${stage.runDir}/fence.json`);
  const flags = ["--interface", "link0"];
  assert.deepEqual((await stage.release(...flags)).map(String), [SERVICES.toSorted().join()]);
  assert.equal(stage.programs, 0);
});

fenceTest("--serve fences and releases when its control socket is asked", async (stage) => {
  const fence = stage.hosts.pipe("b", "null", ...stage.flags, "--serve", "--backup", MAC);
  await fence.next("fence.ready");
  const { fenced } = await stage.ask("fence") as { fenced: Record<string, unknown> };
  assert.deepEqual(fenced.services, SERVICES);
  assert.match(await stage.neighbour(4), /lladdr 02:00:00:00:00:99/);
  // Another start asks it as well.
  const { events } = await stage.t2cp(0, ...stage.flags, "--now");
  assert.deepEqual(events.map(({ type, already }) => [type, already]), [["fenced", true]]);
  assert.deepEqual(await stage.ask("release"), { released: SERVICES });
  assert.doesNotMatch(await stage.neighbour(4), /lladdr/);
  assert.deepEqual(await stage.ask("release"), { released: [] });
  await echo(await stage.client(), "again");
  await fence.end("SIGTERM");
  assert.deepEqual(told(fence), ["fenced", "fenced", "fence.released"]);
});

/** Runs a fence with a command to the end of its input, a failed event, and returns its own view and the rest. */
async function withCommand(stage: FenceStage, ...flags: string[]): Promise<Process> {
  const fence = await stage.fence(...flags);
  await fence.write(failedLine());
  await fence.endInput();
  assert.equal((await fence.status).code, 0, fence.stderr);
  return fence;
}

fenceTest("--exec runs beside the fence, and its failure changes nothing", async (stage) => {
  const script = 'echo "$T2CP_SERVICES"; test -n "$T2CP_PRIMARY" && exit 3';
  const fence = await withCommand(stage, "--exec", script);
  assert.deepEqual(told(fence), ["fenced", "failed", "fence.exec"]);
  const { ok, status, timeout, output } = await fence.next("fence.exec");
  assert.deepEqual([ok, status, timeout, output], [false, 3, false, SERVICES.join(" ")]);
  assert.deepEqual(await stage.release(), [SERVICES]);
});

fenceTest(
  "--exec-required: failed waits for the command, and says where it failed",
  async (stage) => {
    const good = await withCommand(stage, "--exec", "true", "--exec-required");
    assert.deepEqual(told(good), ["fence.exec", "fenced", "failed"]);
    assert.equal((await good.next("failed")).fenced, undefined);
    assert.deepEqual(await stage.release(), [SERVICES]);

    const late = ["--exec", "sleep 60", "--exec-timeout", "0.3", "--exec-required"];
    const bad = await withCommand(stage, ...late);
    assert.deepEqual(told(bad), ["fence.exec", "warning", "failed"]);
    assert.equal((await bad.next("fence.exec")).timeout, true);
    assert.equal((await bad.next("failed")).fenced, false);
    await echo(await stage.client(), "not fenced");
    const now = await stage.t2cp(75, ...stage.flags, "--now", "--exec", "false", "--exec-required");
    assert.match(now.stderr, /The primary is not fenced: its command has ended with status 1/);
    assert.equal(stage.programs, 0);
  },
);

fenceTest("killed while its command runs, the next start undoes or completes it", async (stage) => {
  const client = await stage.client();
  const ran = `${stage.runDir}/ran`;
  // It ends with the test, also where nobody ends it.
  const WAIT = `while [ -e ${stage.runDir} ]; do sleep 0.05; done`;
  const exec = (script: string) => ["--exec", `echo x >>${ran}; ${script}`];
  const runs = (count: number) =>
    poll("the command", async () => {
      const text = await Deno.readTextFile(ran).catch(() => "");
      return text.length === 2 * count;
    });

  // Nobody has been told yet: it is undone, and the primary speaks again.
  const first = await stage.fence(...exec(WAIT), "--exec-required");
  await first.write(failedLine());
  await runs(1);
  await first.end("SIGKILL");
  assert.deepEqual(told(first), []);
  await client.send("one");
  const second = await stage.fence(...exec("true"), "--exec-required");
  assert.deepEqual(told(second), ["warning", "fence.released"]);
  const { adopted, up } = await second.next("started");
  assert.deepEqual([adopted, up], [true, false]);
  assert.match(String((await second.next("warning")).message), /killed .* and is undone; if the/);
  assert.equal(await client.receiveText(3), "one");
  await second.write(failedLine());
  await second.next("failed");
  assert.deepEqual(told(second).slice(2), ["fence.exec", "fenced", "failed"]);
  await second.end("SIGKILL");

  // All have been told: the fence stays, and what ran beside it is run again.
  await client.send("two");
  await runs(2);
  const third = await stage.fence(...exec(WAIT));
  assert.equal((await third.next("started")).up, true);
  assert.deepEqual(told(third), []);
  await third.write(failedLine());
  assert.equal((await third.next("fenced")).already, true, "its command had ended");
  assert.deepEqual(await stage.ask("release"), { released: SERVICES });
  assert.equal(await client.receiveText(3), "two");
  await third.write(failedLine());
  await runs(3);
  await third.end("SIGKILL");
  await client.send("three");
  const fourth = await stage.fence(...exec("true"));
  await fourth.write(failedLine());
  await fourth.next("fence.exec");
  assert.deepEqual(told(fourth), ["fenced", "failed", "fence.exec"]);
  await runs(4);
  assert.equal(client.tryReceive(1), undefined);
  assert.deepEqual(await stage.release(), [SERVICES]);
  assert.equal(await client.receiveText(5), "three");
  await fourth.end("SIGTERM");
});

fenceTest(
  "its counters go on at the next start, over the primary's end and start",
  async (stage) => {
    const client = await stage.client();
    await echo(client, "before");
    const first = await stage.fence();
    await first.write(failedLine());
    await first.next("failed");
    await client.send("lost");
    await stage.counts("dropped_tcp");
    await first.end("SIGKILL");
    const adopted = await stage.fence();
    const before = await stage.counters();
    assert.ok(before["dropped_tcp"]! >= 1, "counted by the one that was killed");

    // The end of its connections, and that it has the address when it is back.
    await stage.stopServer();
    await stage.counts("dropped_tcp", before["dropped_tcp"]! + 1);
    await stage.startServer();
    await stage.announceAnew();
    await stage.counts("dropped_arp", before["dropped_arp"]! + 1);
    assert.equal(client.tryReceive(1), undefined, "nor has it heard of an end");
    assert.deepEqual(told(adopted), []);
    await adopted.end("SIGTERM");
    assert.deepEqual(await stage.release(), [SERVICES]);
  },
);

fenceTest("events of another target, type or service pass, and do nothing", async (stage) => {
  const line = (type: string, target: string, fields: object = {}) =>
    JSON.stringify({ ...JSON.parse(failedLine(target)), type, ...fields });
  const fence = await stage.fence("--target", "primary", "--on", "a.type");
  const lines = [
    failedLine(),
    line("a.type", "other"),
    line("a.type", "primary", { services: ["10.99.0.101:7", null] }),
    line("a.type", "primary", { server: `${SERVICES[0]}0` }),
    line("a.type", "primary", { services: [SERVICES[1]] }),
  ];
  for (const text of lines) await fence.write(text);
  await fence.endInput();
  assert.equal((await fence.status).code, 0, fence.stderr);
  assert.deepEqual(told(fence), ["failed", "a.type", "a.type", "a.type", "fenced", "a.type"]);
});

fenceTest("a line that is no event passes, and with --strict ends it", async (stage) => {
  const t2cp = `"${Deno.execPath()}" run -A --quiet cli/main.ts ${stage.flags.join(" ")}`;
  const lenient = await stage.hosts.output("b", "sh", "-c", `echo nonsense | ${t2cp} 2>&1`);
  assert.match(lenient, /^nonsense$/m);
  assert.match(lenient, /^t2cp fence: Line 1 of the input is no event: it is not JSON$/m);
  const strict = `echo nonsense | ${t2cp} --strict 2>&1; echo status $?`;
  assert.match(await stage.hosts.output("b", "sh", "-c", strict), /^status 65$/m);
  assert.equal(stage.programs, 0);
});

fenceTest("what does not go together is refused", async (stage) => {
  const cases: [status: number, line: RegExp, flags: string[]][] = [
    [64, /Flags "--now" and "--serve" exclude/, [...stage.flags, "--now", "--serve"]],
    [64, /Flag "--target" is of no use with "--now"/, [...stage.flags, "--now", "--target", "x"]],
    [64, /Flag "--exec-timeout" is of no use/, [...stage.flags, "--now", "--exec-timeout", "1"]],
    [64, /Flag "--primary" is missing/, ["fence", "--interface", "link0", "--now"]],
    [66, /There is no interface "nowhere"/, [
      ...["fence", "--interface", "nowhere", "--primary", MAC, "--service", SERVICES[0]!],
      ...["--now", "--run-dir", stage.runDir],
    ]],
    [64, /is this host, not the primary/, [
      ...["fence", "--interface", "link0", "--service", SERVICES[0]!, "--run-dir", stage.runDir],
      ...["--now", "--primary", await ownMac(stage)],
    ]],
  ];
  for (const [status, line, flags] of cases) {
    assert.match((await stage.t2cp(status, ...flags)).stderr, line);
  }
  assert.equal(stage.programs, 0);
});

async function ownMac(stage: FenceStage): Promise<string> {
  const text = await stage.hosts.output("b", "ip", "-j", "link", "show", "dev", "link0");
  return JSON.parse(text)[0].address;
}
