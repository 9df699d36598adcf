/**
 * Shadow testing: what wrk asks one nginx over connections that are kept alive, `record --follow | replay -` asks
 * another one. How many of the requests arrive there, how long after the first nginx had them, and what was lost.
 * Needs root and the packages of the purpose `bench`.
 *
 *     deno task bench:replay-live [SECONDS [RATE …]]
 *
 * The client has a network namespace, both servers and t2cp have another one. The two nginx log each request with its
 * time, to the millisecond. Rate 0 is as fast as wrk can.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { quantile } from "../../lib/lab/measure.ts";
import { poll } from "../fixture/wait.ts";

const seconds = Number(Deno.args[0] ?? 10);
const rates = Deno.args.length > 1 ? Deno.args.slice(1).map(Number) : [500, 2000, 5000, 10_000, 0];
const CONNECTIONS = 100;
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const directory = await Deno.makeTempDir({ prefix: "t2cp-bench-live-" });
const [outside, inside] = ["client", "server"].map((role) => `t2cp-live-${Deno.pid}-${role}`) as [
  string,
  string,
];
const SERVER = "10.99.0.1";
const CLIENT = "10.99.0.2";
const PORT = 8081;
const STAGING = 9081;

async function run(...argv: string[]): Promise<string> {
  const [program, ...args] = argv;
  const { stdout, stderr, success } = await new Deno.Command(program!, { args }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${argv.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

function start(namespace: string, ...argv: string[]): Deno.ChildProcess {
  const args = ["netns", "exec", namespace, ...argv];
  return new Deno.Command("ip", { args, stdin: "null", stdout: "null" }).spawn();
}

async function makeHosts(): Promise<void> {
  for (const name of [outside, inside]) await run("ip", "netns", "add", name);
  await run("ip", "-n", inside, "link", "set", "lo", "up");
  const peer = ["type", "veth", "peer", "name", "eth0", "netns", outside];
  await run("ip", "-n", inside, "link", "add", "eth0", ...peer);
  for (const [name, address] of [[inside, SERVER], [outside, CLIENT]] as const) {
    await run("ip", "-n", name, "address", "add", `${address}/24`, "dev", "eth0");
    await run("ip", "-n", name, "link", "set", "eth0", "up");
  }
}

/** Starts an nginx that logs to `NAME.log`. */
async function nginx(name: string, address: string, port: number): Promise<Deno.ChildProcess> {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((what) =>
    `${what}_temp_path ${directory}/${what};`
  );
  const configuration = join(directory, `${name}.conf`);
  await Deno.writeTextFile(
    configuration,
    `daemon off; worker_processes 1; pid ${directory}/${name}.pid;
events { worker_connections 4096; }
http {
  keepalive_requests 100000000; ${temporary.join(" ")}
  log_format times '$msec $request_uri'; access_log ${directory}/${name}.log times buffer=256k;
  server { listen ${address}:${port} backlog=4096; location / { return 200 "hello\\n"; } }
}`,
  );
  const errors = join(directory, `${name}.errors`);
  const child = start(inside, "nginx", "-p", directory, "-c", configuration, "-e", errors);
  await poll(`nginx ${name}`, async () => {
    const sockets = await run(
      "ip",
      "netns",
      "exec",
      inside,
      "ss",
      "-Hltn",
      "sport",
      "=",
      `:${port}`,
    );
    return sockets !== "";
  });
  return child;
}

/** Asks for another path each time; the pauses of a connection are random, so that they do not march in step. */
function script(rate: number): string {
  const pause = rate === 0 ? 0 : CONNECTIONS / rate * 1000;
  return `local asked = 0
request = function() asked = asked + 1 return wrk.format(nil, "/" .. asked) end
${rate === 0 ? "" : `delay = function() return math.random(0, ${Math.round(2 * pause)}) end`}`;
}

/** When each path was asked for, in milliseconds. */
async function times(name: string): Promise<Map<string, number>> {
  const text = await Deno.readTextFile(join(directory, `${name}.log`));
  const lines = text.split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => {
    const [at, path] = line.split(" ");
    return [path!, Number(at) * 1000];
  }));
}

/** The last event of that type in a file. */
async function last(file: string, type: string): Promise<Record<string, never>> {
  const lines = (await Deno.readTextFile(join(directory, file))).split("\n");
  const found = lines.findLast((line) => line.includes(`"type":"${type}"`));
  if (found === undefined) throw new Error(`No ${type}: ${lines.join("\n")}`);
  return JSON.parse(found);
}

async function has(file: string, what: string): Promise<boolean> {
  return (await Deno.readTextFile(join(directory, file)).catch(() => "")).includes(what);
}

/** As the manual page has it; the shell's process is the recorder's. */
const PIPELINE = `cd "$1"
t2cp() { exec '${Deno.execPath()}' run -A '${main}' "$@"; }
{ t2cp record --follow --interface eth0 --service ${SERVER}:${PORT} 2>record & echo $! >pid; wait; } |
  t2cp replay - --to 127.0.0.1:${STAGING} --max-lag 5 --settle 0.1 --mask @http >replay`;

async function measure(rate: number): Promise<void> {
  for (const file of ["record", "replay", "pid"]) {
    await Deno.remove(join(directory, file)).catch(() => {});
  }
  await Deno.writeTextFile(join(directory, "load.lua"), script(rate));
  const servers = [await nginx("real", SERVER, PORT), await nginx("staging", "127.0.0.1", STAGING)];
  const pipeline = start(inside, "bash", "-c", PIPELINE, "bash", directory);
  try {
    await poll(
      "t2cp",
      async () => await has("record", "started") && await has("replay", "started"),
    );
    const url = `http://${SERVER}:${PORT}/`;
    const load = ["-t1", `-c${CONNECTIONS}`, `-d${seconds}`, "-s", join(directory, "load.lua")];
    await run("ip", "netns", "exec", outside, "wrk", ...load, url);
    const pid = Number(await Deno.readTextFile(join(directory, "pid")));
    Deno.kill(pid, "SIGTERM");
    await pipeline.status;
  } finally {
    for (const server of servers) server.kill("SIGTERM");
    for (const server of servers) await server.status;
  }
  await report(rate);
}

async function report(rate: number): Promise<void> {
  const [real, staging] = [await times("real"), await times("staging")];
  for (const name of ["real", "staging"]) await Deno.remove(join(directory, `${name}.log`));
  const delays: number[] = [];
  for (const [path, at] of staging) {
    const asked = real.get(path);
    if (asked !== undefined) delays.push(at - asked);
  }
  const { outcomes, counters } = await last("replay", "replay.result") as unknown as {
    outcomes: Record<string, number>;
    counters: Record<string, number>;
  };
  const { kernel_dropped: dropped, unwritten_frames: unwritten } = await last("record", "stats");
  const counts = Object.entries(outcomes).filter(([, count]) => count > 0)
    .map(([outcome, count]) => `${count} ${outcome}`);
  const [p50, p99] = [0.5, 0.99].map((share) => quantile(delays, share)?.toFixed(0));
  const longest = delays.reduce((most, delay) => Math.max(most, delay), 0).toFixed(0);
  console.log(
    `${rate === 0 ? "top speed" : `${rate}/s`}: ${(real.size / seconds).toFixed(0)} requests/s, ` +
      `${delays.length} of ${real.size} replayed (${
        (delays.length / real.size * 100).toFixed(2)
      } %), ` +
      `delay ${p50} ms median, ${p99} p99, ${longest} max\n` +
      `  frames lost: ${dropped} by the kernel, ${unwritten} not written; ` +
      `late ${counters["late"]}, missing bytes ${counters["missing_bytes"]}; ${counts.join(", ")}`,
  );
}

try {
  await makeHosts();
  for (const rate of rates) await measure(rate);
} finally {
  for (const name of [outside, inside]) await run("ip", "netns", "delete", name).catch(() => {});
  await Deno.remove(directory, { recursive: true });
}
