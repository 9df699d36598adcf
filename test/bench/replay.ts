/**
 * The player against nginx on the loopback interface: requests a second, with connections that are kept alive and with
 * one connection for each request; and ten thousand conversations at once. Beside it wrk, a load generator in C, which
 * knows one request and compares nothing; and tcpreplay, which puts the same frames on the wire and talks to nobody, so
 * that nginx answers none of its requests. Needs root and the packages of the purpose `bench`.
 *
 *     deno task bench:replay [SECONDS]
 *
 * It runs in a network namespace of its own.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { captureOf, says } from "../fixture/dialogue.ts";
import { poll } from "../fixture/wait.ts";

const seconds = Number(Deno.args[0] ?? 8);
const PORT = 8080;
const GOAL = 20_000;
const MANY = 10_000;
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const directory = await Deno.makeTempDir({ prefix: "t2cp-bench-replay-" });

interface Result {
  messages: number;
  took_ms: number;
  outcomes: Record<string, number>;
  counters: Record<string, number>;
}

async function run(program: string, ...args: string[]): Promise<{ out: string; ok: boolean }> {
  const { stdout, stderr, success } = await new Deno.Command(program, { args }).output();
  return { out: new TextDecoder().decode(success ? stdout : stderr), ok: success };
}

/** Plays a file, and returns its `replay.result`. */
async function replay(file: string, ...flags: string[]): Promise<Result> {
  const args = ["run", "-A", main, "replay", file, "--to", `127.0.0.1:${PORT}`, ...flags];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
}

/** What curl and nginx say to each other, as tcpdump sees it. */
async function record(name: string, connections: number, requests: number): Promise<string> {
  const file = join(directory, name);
  const args = ["-i", "lo", "-U", "-w", file, "tcp", "port", String(PORT)];
  const tcpdump = new Deno.Command("tcpdump", { args, stderr: "null" }).spawn();
  await poll("tcpdump", () => Deno.stat(file).then(({ size }) => size > 0, () => false));
  const urls = Array.from(
    { length: requests },
    (_, i) => [`http://127.0.0.1:${PORT}/${i}`, "-o", "/dev/null"],
  );
  for (let i = 0; i < connections; i++) await run("curl", "-s", ...urls.flat());
  // The last frames are in the kernel's ring for a moment.
  await new Promise((resolve) => setTimeout(resolve, 1500));
  tcpdump.kill("SIGINT");
  await tcpdump.status;
  return file;
}

/** Plays for about so many seconds, after a short run that tells the speed. */
async function measure(file: string, concurrency: number): Promise<number> {
  const flags = ["--top-speed", "--concurrency", String(concurrency), "--mask", "@http-date"];
  const first = await replay(file, ...flags, "--loop", "5");
  const loop = Math.max(5, Math.ceil(5 * seconds * 1000 / Math.max(first.took_ms, 1)));
  const { messages, took_ms, outcomes } = await replay(file, ...flags, "--loop", String(loop));
  const rate = messages / took_ms * 1000;
  const all = Object.values(outcomes).reduce((sum, number) => sum + number, 0);
  const line = `${messages} requests in ${(took_ms / 1000).toFixed(1)} s, ${rate.toFixed(0)}/s, ` +
    `${outcomes["equal"]} of ${all} conversations equal`;
  console.log(`  ${concurrency} at once: ${line}`);
  return rate;
}

/** Requests a second that wrk makes, on one thread as the player. */
async function wrk(concurrency: number, ...flags: string[]): Promise<number> {
  const load = ["-t1", `-c${concurrency}`, `-d${Math.min(seconds, 5)}`, ...flags];
  const { out } = await run("wrk", ...load, `http://127.0.0.1:${PORT}/1`);
  return Number(/Requests\/sec: +([\d.]+)/.exec(out)?.[1]);
}

/** How many requests nginx has answered so far, this one included. */
async function answered(): Promise<number> {
  const { out } = await run("curl", "-s", `http://127.0.0.1:${PORT}/status`);
  return Number(/^ \d+ \d+ (\d+)/m.exec(out)?.[1]);
}

async function atTopSpeed(
  what: string,
  file: string,
  requests: number,
  ...flags: string[]
): Promise<void> {
  console.log(what);
  let best = 0;
  for (const concurrency of [100, 1000]) {
    const rate = await measure(file, concurrency);
    const other = await wrk(concurrency, ...flags);
    console.log(`    wrk: ${other.toFixed(0)}/s; t2cp ${(rate / other).toFixed(2)} x of it`);
    best = Math.max(best, rate);
  }
  console.log(`  ${(best / GOAL).toFixed(2)} x of ${GOAL} requests/s`);
  const before = await answered();
  const blind = await run("tcpreplay", "-q", "--topspeed", "--loop=50", "-i", "lo", file);
  const answers = await answered() - before - 1;
  const packets = /Rated:.*, ([\d.]+) pps/.exec(blind.out)?.[1];
  const actual = /Actual: (\d+) packets/.exec(blind.out)?.[1];
  if (packets === undefined || actual === undefined) return console.log(blind.out);
  const rate = Number(packets) * requests / (Number(actual) / 50);
  console.log(
    `  tcpreplay: ${packets} frames/s, the frames of ${rate.toFixed(0)} requests/s; ` +
      `t2cp ${(best / rate).toFixed(2)} x of it; nginx answered ${answers} of them`,
  );
}

async function manyAtOnce(): Promise<void> {
  const request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
  const file = join(directory, "many.pcap");
  const dialogues = Array.from({ length: MANY }, (_, i) => ({
    client: `10.0.${i >> 8}.${i & 255}`,
    begin: i * 0.2,
    lines: [says(request, 4000 - i * 0.2), says(request, 500)],
    end: "client" as const,
  }));
  await Deno.writeFile(file, captureOf(...dialogues));
  const { took_ms, counters, messages } = await replay(file, "--concurrency", String(MANY));
  console.log(
    `${MANY} conversations at once: ${counters["open_max"]} were open, ${messages} messages, ` +
      `${(took_ms / 1000).toFixed(1)} s (captured: 4.5 s)`,
  );
}

await run("ip", "link", "set", "lo", "up");
const configuration = `daemon off; worker_processes 1; pid ${directory}/pid;
events { worker_connections 18000; multi_accept on; }
http {
  access_log off; keepalive_requests 1000000;
  ${
  ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) =>
    `${name}_temp_path ${directory}/${name};`
  ).join(" ")
}
  server { listen 127.0.0.1:${PORT} backlog=4096; location / { return 200 "hello\\n"; }
    location = /status { stub_status; } }
}`;
await Deno.writeTextFile(join(directory, "nginx.conf"), configuration);
const nginx = new Deno.Command("nginx", {
  args: ["-p", directory, "-c", join(directory, "nginx.conf"), "-e", join(directory, "error.log")],
}).spawn();
try {
  await poll(
    "nginx",
    () => Deno.connect({ port: PORT }).then((c) => (c.close(), true), () => false),
  );
  const kept = await record("kept.pcap", 40, 100);
  await atTopSpeed("100 requests a connection", kept, 4000);
  await atTopSpeed(
    "a connection for each request",
    await record("single.pcap", 300, 1),
    300,
    "-H",
    "Connection: close",
  );
  await manyAtOnce();
} finally {
  nginx.kill("SIGTERM");
  await nginx.status;
  await Deno.remove(directory, { recursive: true });
}
