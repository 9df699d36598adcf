/**
 * The player against nginx on the loopback interface: requests a second, with connections that are kept alive and with
 * one connection for each request; and ten thousand conversations at once. Beside it wrk, a load generator in C, which
 * knows one request and compares nothing; tcpreplay, which puts the same frames on the wire and talks to nobody, so that
 * nginx answers none of its requests; and GoReplay, which compares nothing either, where its program `gor` is on PATH
 * (Debian has no package of it). Needs root and the packages of the purpose `bench`.
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

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
  await sleep(1500);
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

/** Requests a second that nginx answers to GoReplay, whose start is left out; `undefined` where it is not installed. */
async function goReplay(concurrency: number, header: string): Promise<number | undefined> {
  const file = join(directory, "requests.gor");
  const requests = Array.from({ length: 50_000 }, (_, i) => {
    const id = i.toString(16).padStart(24, "0");
    const request = `GET /${i} HTTP/1.1\r\nHost: 127.0.0.1:${PORT}\r\n${header}Accept: */*\r\n\r\n`;
    return `1 ${id} 1700000000000000000 0\n${request}\n🐵🙈🙉\n`;
  });
  await Deno.writeTextFile(file, requests.join(""));
  // By its default depth it rests for 100 ms after every 100 requests.
  const args = ["--input-file", file, "--input-file-loop", "--input-file-read-depth", "100000"];
  args.push("--output-http", `http://127.0.0.1:${PORT}`);
  args.push("--output-http-workers", String(concurrency));
  let gor: Deno.ChildProcess;
  try {
    gor = new Deno.Command("gor", { args, stdout: "null", stderr: "null" }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  await sleep(1000);
  const [before, begin] = [await answered(), performance.now()];
  await sleep(Math.min(seconds, 5) * 1000);
  const [after, end] = [await answered(), performance.now()];
  gor.kill("SIGTERM");
  await gor.status;
  return (after - before - 1) / (end - begin) * 1000;
}

async function atTopSpeed(
  what: string,
  file: string,
  requests: number,
  header = "",
): Promise<void> {
  console.log(what);
  let best = 0;
  for (const concurrency of [100, 1000]) {
    const rate = await measure(file, concurrency);
    const compare = (name: string, other: number): void =>
      console.log(`    ${name}: ${other.toFixed(0)}/s; t2cp ${(rate / other).toFixed(2)} x of it`);
    compare("wrk", await wrk(concurrency, ...(header === "" ? [] : ["-H", header.trim()])));
    const gor = await goReplay(concurrency, header);
    if (gor === undefined) console.log("    GoReplay: gor is not on PATH");
    else compare("GoReplay", gor);
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
    "Connection: close\r\n",
  );
  await manyAtOnce();
} finally {
  nginx.kill("SIGTERM");
  await nginx.status;
  await Deno.remove(directory, { recursive: true });
}
