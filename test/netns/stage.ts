/**
 * The stage of the replica's tests: a lab with servers, `mirror` and `shadow`, clients that do what
 * the test says, and eyes on the wire and on the sockets.
 *
 * @module
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { missingPackages } from "../../lib/host/packages.ts";
import { from16Bytes } from "../../lib/address.ts";
import { Lab } from "../../lib/lab/lab.ts";
import { commandPath } from "../../lib/lab/processes.ts";
import { documentDirectory, startEchoServer, startWebServer } from "../../lib/lab/servers.ts";
import { mountsBelow } from "../../lib/lab/system.ts";
import { hostEnd, type Role, SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import type { TrackedFlow } from "../../lib/shadow/programs.ts";
import { checkout, type Outcome } from "../cli/t2cp.ts";
import type { Frame } from "../fixture/frame.ts";
import { unique } from "../fixture/unique.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";
import { Capture, type Captured, tcpdumpArgs } from "./capture.ts";
import { Connection } from "./connection.ts";
import { isRoot } from "./lab.ts";
import { Process } from "./two_hosts.ts";

const missing = isRoot
  ? (await missingPackages("test").catch(() => [])).map(({ name }) => name)
    .filter((name) => !["frr", "bird2"].includes(name)) // Their tests say themselves.
  : [];

/** Registers a test on a stage; without root, or where a package is missing, it is ignored. */
export function onStage(name: string, fn: (stage: Stage) => Promise<void>): void {
  Deno.test({ name, ignore: !isRoot || missing.length > 0, fn: () => Stage.with(fn) });
}

/** The command line of this checkout's t2cp. */
export const T2CP: readonly string[] = [
  ...[Deno.execPath(), "run", "-A", "--quiet"],
  join(checkout, "cli", "main.ts"),
];

/** The service's IPv4 address. */
export const SERVICE_ADDRESS: string = SERVICE_ADDRESSES[4];

/** The service's IPv6 address as frames show it. */
const SERVICE_ADDRESS_6 = "2001:db8:77:0:0:0:0:100";

/** The web server's and the echo server's service. */
export const WEB = `${SERVICE_ADDRESS}:80`;
export const ECHO = `${SERVICE_ADDRESS}:7`;

const settingPath = (name: string): string => `/proc/sys/${name.replaceAll(".", "/")}`;

/** See the module. */
export class Stage {
  readonly lab: Lab;
  /** The run directory of the backup's commands. */
  readonly runDir: string;
  /** A directory for large files. */
  readonly scratch: string;
  /** What nginx serves as /content. */
  content: Uint8Array = new Uint8Array(0);
  readonly #children: Deno.ChildProcess[] = [];
  readonly #processes: Process[] = [];
  readonly #connections: Connection[] = [];
  #ports = 40_000;
  #marks = 0;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.runDir = lab.roleDirectory("backup");
    this.scratch = lab.makeScratch();
  }

  /** Runs `use` on a stage of its own, and takes everything down after it, also where it fails. */
  static async with(use: (stage: Stage) => Promise<void>): Promise<void> {
    const runDir = await Deno.makeTempDir({ prefix: "t2cp-test-" });
    const name = unique("stage-");
    const lab = await Lab.create({ name, runDir, owned: true }, new AbortController().signal);
    const stage = new Stage(lab);
    try {
      await use(stage);
    } finally {
      await stage.#end();
      await lab.down();
      await Deno.remove(runDir, { recursive: true }).catch(() => {});
    }
  }

  async #end(): Promise<void> {
    for (const connection of this.#connections) await connection.kill();
    for (const process of this.#processes) await process.end("SIGKILL").catch(() => {});
    for (const child of this.#children) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await child.status;
    }
  }

  /** Runs a program on a host to its end, which must come within `seconds`. */
  async run(role: Role, argv: readonly string[], seconds = PATIENCE / 1000): Promise<Outcome> {
    const { code, stdout, stderr } = await this.#command(role, [
      ...["timeout", "--foreground", "--kill-after=1", String(seconds)],
      ...argv,
    ]).output();
    const decoder = new TextDecoder();
    return { status: code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }

  /** Runs a program that must end with status 0, and returns what it printed. */
  async output(role: Role, ...argv: string[]): Promise<string> {
    const outcome = await this.run(role, argv);
    assert.equal(outcome.status, 0, `${argv.join(" ")}: ${outcome.stderr}`);
    return outcome.stdout;
  }

  /** Runs a shell script on a host; `t2cp` is this checkout's. */
  shell(role: Role, script: string, seconds?: number): Promise<Outcome> {
    return this.run(role, ["bash", "-c", script], seconds);
  }

  /** Runs t2cp on a host to its end. */
  t2cp(role: Role, ...args: string[]): Promise<Outcome> {
    return this.run(role, [...T2CP, ...args]);
  }

  /** Starts t2cp on a host. */
  start(role: Role, ...args: string[]): Process {
    const process = new Process(this.#command(role, [...T2CP, ...args]).spawn());
    this.#processes.push(process);
    return process;
  }

  /** Starts t2cp on a host, with an input that the test writes. */
  startReading(role: Role, ...args: string[]): Process {
    const process = new Process(this.#command(role, [...T2CP, ...args], "piped").spawn());
    this.#processes.push(process);
    return process;
  }

  /** Starts two commands of t2cp on a host, the first one's output being the second one's input. */
  startPipe(role: Role, first: readonly string[], second: readonly string[]): Process {
    const writer = this.#command(role, [...T2CP, ...first]).spawn();
    const reader = this.#command(role, [...T2CP, ...second], "piped").spawn();
    this.#children.push(writer);
    writer.stderr.pipeTo(new WritableStream()).catch(() => {});
    writer.stdout.pipeTo(reader.stdin).catch(() => {});
    const process = new Process(reader);
    this.#processes.push(process);
    return process;
  }

  #command(role: Role, argv: readonly string[], stdin: "piped" | "null" = "null"): Deno.Command {
    const [program, ...args] = this.lab.inRole(role, argv);
    return new Deno.Command(program!, {
      args,
      env: { PATH: commandPath(), NO_COLOR: "1" },
      stdin,
      stdout: "piped",
      stderr: "piped",
    });
  }

  /** Sets kernel settings on a host: `net.ipv4.tcp_sack=0`. */
  async sysctl(role: Role, ...settings: string[]): Promise<void> {
    for (const setting of settings) {
      const [name, value] = setting.split("=");
      await this.output(role, "sh", "-c", `echo "$1" >"$0"`, settingPath(name!), value!);
    }
  }

  /** A kernel setting on a host. */
  async setting(role: Role, name: string): Promise<string> {
    return (await this.output(role, "cat", settingPath(name))).trim();
  }

  /** Starts nginx on both servers, with `size` random bytes as /content. */
  async webServers(size: number, roles: readonly ("primary" | "backup")[] = ["primary", "backup"]) {
    this.content = randomFillSync(new Uint8Array(size));
    await Deno.mkdir(documentDirectory(this.scratch));
    await Deno.writeFile(join(documentDirectory(this.scratch), "content"), this.content);
    for (const role of roles) await startWebServer(this.lab, role, this.scratch);
  }

  /** Starts an echo server on both servers. */
  async echoServers(): Promise<void> {
    for (const role of ["primary", "backup"] as const) await startEchoServer(this.lab, role, 4);
  }

  /** Starts a server on a host, and waits until something listens on `port`. */
  async server(role: Role, port: number, argv: readonly string[]): Promise<void> {
    const child = this.#command(role, argv).spawn();
    this.#children.push(child);
    for (const stream of [child.stdout, child.stderr]) {
      stream.pipeTo(new WritableStream()).catch(() => {});
    }
    await poll(`a listener on port ${port}`, async () => {
      const text = await this.output(role, "ss", "-Hltn", "sport", "=", `:${port}`);
      return text !== "";
    });
  }

  /** Starts a socat on a host that listens on `port`: `TCP4-LISTEN:9,fork`, `EXEC:cat`. */
  async socat(role: Role, port: number, ...addresses: string[]): Promise<void> {
    await this.server(role, port, ["socat", ...addresses]);
  }

  /** Starts `shadow` on the backup, and waits until it is in place. */
  async shadow(...args: string[]): Promise<Process> {
    const process = this.start("backup", ...this.shadowArgs(...args));
    await process.next("started");
    return process;
  }

  /** The arguments of `shadow`; for the web service unless `args` name others. */
  shadowArgs(...args: string[]): string[] {
    const services = args.includes("--service") ? [] : ["--service", WEB];
    const interfaces = args.includes("--interface") ? [] : ["--interface", "eth0"];
    const runDir = args.includes("--run-dir") ? [] : ["--run-dir", this.runDir];
    return ["shadow", ...interfaces, ...services, ...runDir, ...args];
  }

  /** Starts `mirror` on the gateway, and waits until it is in place. */
  async mirror(...args: string[]): Promise<Process> {
    const process = this.start("gateway", ...this.mirrorArgs(...args));
    await process.next("started");
    return process;
  }

  /** The arguments of `mirror`; for the web service unless `args` name others. */
  mirrorArgs(...args: string[]): string[] {
    const defaults = {
      "--interface": "br0",
      "--primary": hostEnd("primary").mac,
      "--backup": hostEnd("backup").mac,
      "--service": WEB,
      "--run-dir": this.lab.roleDirectory("gateway"),
    };
    const given = Object.entries(defaults).filter(([flag]) => !args.includes(flag)).flat();
    return ["mirror", ...given, ...args];
  }

  /** Starts `shadow` and `mirror` for services, with `flow.*` events of both. */
  async protect(...services: string[]): Promise<{ shadow: Process; mirror: Process }> {
    const flags = [...services.flatMap((service) => ["--service", service]), "--flows"];
    const shadow = await this.shadow(...flags);
    const mirror = await this.mirror(...flags);
    return { shadow, mirror };
  }

  /** Cuts the primary off and takes over, and returns the `active` event. */
  async failOver(): Promise<Record<string, unknown>> {
    await this.lab.failHost();
    const takeover = this.start("backup", "takeover", "--now", "--run-dir", this.runDir);
    return await takeover.next("active");
  }

  /** Connects the client to the service's `port`; `options` are socat's. */
  connect(port: number, options = "nodelay", sourcePort: number = this.#ports++): Connection {
    const address = `TCP4:${SERVICE_ADDRESS}:${port},sourceport=${sourcePort},${options}`;
    const child = this.#command("client", ["socat", "-t", "60", "-", address], "piped").spawn();
    child.stderr.pipeTo(new WritableStream()).catch(() => {});
    const connection = new Connection(child, sourcePort);
    this.#connections.push(connection);
    return connection;
  }

  /** Begins a download of /content and reads its head; the body is left to the test. */
  async download(request = ""): Promise<Connection> {
    const connection = this.connect(80);
    await connection.write(
      `GET /content HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${request}\r\n`,
    );
    const head = await connection.readTo("\r\n\r\n");
    assert.match(head, /^HTTP\/1\.1 200 /);
    return connection;
  }

  /** Captures on one of the gateway's ports. */
  async capture(
    port: "eth0" | "br0" | "primary" | "backup",
    direction: "in" | "out" | "inout" = "in",
    filter = "",
  ): Promise<Capture> {
    const child = this.#command("gateway", tcpdumpArgs(port, direction, filter)).spawn();
    this.#children.push(child);
    const capture = new Capture(child);
    await capture.ready();
    return capture;
  }

  /**
   * Sends a datagram from the backup's own address and waits until `capture`, on the port `backup`,
   * shows it: then it has shown all that came before.
   */
  async caughtUp(capture: Capture): Promise<void> {
    const text = `mark ${this.#marks++}`;
    const sent = await this.shell("backup", `echo -n "${text}" >/dev/udp/10.77.0.1/9`);
    assert.equal(sent.status, 0, sent.stderr);
    await capture.find(text, (frame) =>
      frame.kind === "ipv4" && frame.protocol === 17 &&
      new TextDecoder().decode(frame.payload.subarray(8)) === text);
  }

  /** What `capture`, on the port `backup`, shows of the service's address; must be nothing. */
  async assertSilent(capture: Capture): Promise<void> {
    await this.caughtUp(capture);
    assert.deepEqual(capture.frames.filter(isOfService).map(describe), []);
  }

  /** Asks the backup's control socket, and returns the lines before the last. */
  async ask(request: string): Promise<Record<string, unknown>[]> {
    using client = await Deno.connect({
      transport: "unix",
      path: join(this.runDir, "shadow.sock"),
    });
    await client.write(new TextEncoder().encode(`${JSON.stringify({ request })}\n`));
    const decoder = new TextDecoder();
    const bytes = new Uint8Array(1 << 16);
    let text = "";
    while (true) {
      const lines = text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
      const last = lines.at(-1);
      if (last !== undefined && "ok" in last) {
        assert.equal(last.ok, true, text);
        return lines.slice(0, -1);
      }
      const length = await client.read(bytes);
      assert.ok(length !== null, `The control socket ended after "${text}"`);
      text += decoder.decode(bytes.subarray(0, length), { stream: true });
    }
  }

  /** The flows that the backup tracks. */
  async flows(): Promise<TrackedFlow[]> {
    return (await this.ask("flows")).map((line) => line.flow as TrackedFlow);
  }

  /** The backup's counters. */
  async stats(): Promise<Record<string, number>> {
    return (await this.ask("stats"))[0]!.stats as Record<string, number>;
  }

  /** The sockets of a server's connections to `port` in any state, as ss shows them. */
  async sockets(role: Role, port: number): Promise<string[]> {
    const filter = ["sport", "=", `:${port}`];
    const text = await this.output(role, "ss", "-Htan", "state", "connected", ...filter);
    return text.split("\n").filter((line) => line !== "");
  }

  /** What tc shows of filters at an interface, both directions. */
  async filters(role: Role, name: string): Promise<string> {
    const show = ["tc", "filter", "show", "dev", name];
    return await this.output(role, ...show, "ingress") + await this.output(role, ...show, "egress");
  }

  /** Nothing of t2cp is at the interface or mounted below the run directory. */
  async assertNothingAttached(role: "backup" | "gateway", runDir?: string): Promise<void> {
    assert.equal(await this.filters(role, role === "backup" ? "eth0" : "br0"), "", "filters");
    this.assertNothingPinned(runDir ?? this.lab.roleDirectory(role));
  }

  /** Nothing is mounted below a run directory, and there are no pins. */
  assertNothingPinned(runDir: string): void {
    assert.deepEqual(mountsBelow(runDir), [], "mounts");
    const left = [...Deno.readDirSync(runDir)].map((entry) => entry.name);
    assert.ok(!left.includes("bpf"), `the directory of pins is left: ${left}`);
  }
}

/** Whether a frame speaks for the service's address. */
export function isOfService(frame: Frame): boolean {
  if (frame.kind === "arp") return frame.sender === SERVICE_ADDRESS;
  if (!("source" in frame)) return false;
  // A neighbour advertisement names the address that it claims: RFC 4861 section 4.4.
  const claims = frame.kind === "ipv6" && frame.protocol === 58 && frame.payload[0] === 136;
  return [SERVICE_ADDRESS, SERVICE_ADDRESS_6].includes(frame.source) ||
    claims && from16Bytes(frame.payload.subarray(8, 24)) === SERVICE_ADDRESSES[6];
}

/** A frame as a line, for messages. */
export function describe(frame: Captured): string {
  const { kind } = frame;
  if (kind === "arp") return `ARP ${frame.operation}: ${frame.sender} for ${frame.target}`;
  if (kind === "other") return `EtherType ${frame.etherType.toString(16)}`;
  if (kind !== "tcp") return `${frame.source} > ${frame.destination}: protocol ${frame.protocol}`;
  return `${frame.source}:${frame.sourcePort} > ${frame.destination}:${frame.destinationPort}: ` +
    `${frame.flags} seq ${frame.seq} ack ${frame.ack} length ${frame.length}`;
}

/** Fails where two byte strings differ, with the place and not the bytes. */
export function assertSameBytes(actual: Uint8Array, expected: Uint8Array, what = "content"): void {
  const length = Math.min(actual.length, expected.length);
  for (let at = 0; at < length; at++) {
    if (actual[at] !== expected[at]) assert.fail(`The ${what} differs at byte ${at}`);
  }
  assert.equal(actual.length, expected.length, `length of the ${what}`);
}

/** One line on stderr, nothing on stdout, and the right exit status. */
export function assertRefused(outcome: Outcome, status: number, line: RegExp): void {
  assert.equal(outcome.status, status, `${outcome.stdout}${outcome.stderr}`);
  assert.equal(outcome.stdout, "");
  assert.equal(outcome.stderr.trimEnd().split("\n").length, 1, outcome.stderr);
  assert.match(outcome.stderr, line);
}
