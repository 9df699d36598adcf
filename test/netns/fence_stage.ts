/**
 * The stage of the fence's tests: a primary `a` with an echo server, and a gateway `b` with `t2cp fence` and clients
 * whose sockets the test holds.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { libbpf } from "../../ffi/libbpf_sys.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import { ingressPrograms } from "../../ffi/tcx.ts";
import type { Family } from "../../lib/address.ts";
import { Namespace, TcpSocket } from "../fixture/socket.ts";
import { poll } from "../fixture/wait.ts";
import { isRoot, type Process, TwoHosts } from "./two_hosts.ts";

// Opened inside a test, it would count as its leak.
if (isRoot) libbpf();

const PORT = 7;

/** The service's addresses, which the primary has beside its own. */
const SERVICE: Record<Family, string> = { 4: "10.99.0.100", 6: "fd99::100" };

/** The services as flags. */
export const SERVICES: readonly string[] = [`${SERVICE[4]}:${PORT}`, `[${SERVICE[6]}]:${PORT}`];

/** A line that asks for the fence. */
export function failedLine(target = "primary"): string {
  return JSON.stringify({
    ...{ v: 1, type: "failed", time: "2026-01-31T12:00:00.000000Z", by: "detect", host: "b" },
    ...{ target, level: "host", cause: "unplanned", evidence: [] },
  });
}

/** Registers a test; without root it is ignored. */
export function fenceTest(name: string, fn: (stage: FenceStage) => Promise<void>): void {
  Deno.test({ name: `fence: ${name}`, ignore: !isRoot, fn: () => FenceStage.with(fn) });
}

/** See the module. */
export class FenceStage {
  readonly hosts: TwoHosts;
  /** The fence's run directory. */
  readonly runDir: string;
  readonly #namespace: Namespace;
  readonly #sockets: TcpSocket[] = [];
  #server: Deno.ChildProcess | undefined;

  private constructor(hosts: TwoHosts, runDir: string) {
    this.hosts = hosts;
    this.runDir = runDir;
    this.#namespace = new Namespace(hosts.namespace("b"));
  }

  /** Runs `use` on a stage of its own, and takes everything down after it. */
  static async with(use: (stage: FenceStage) => Promise<void>): Promise<void> {
    const runDir = await Deno.makeTempDir({ prefix: "t2cp-test-" });
    await TwoHosts.with(async (hosts) => {
      const stage = new FenceStage(hosts, runDir);
      try {
        await stage.#build();
        await use(stage);
      } finally {
        await stage.#end();
      }
    });
    await Deno.remove(runDir, { recursive: true });
  }

  async #build(): Promise<void> {
    await this.hosts.output("a", "ip", "address", "add", `${SERVICE[4]}/32`, "dev", "link0");
    const ipv6 = ["ip", "address", "add", `${SERVICE[6]}/128`, "dev", "link0", "nodad"];
    await this.hosts.output("a", ...ipv6);
    await this.startServer();
  }

  /** Starts the primary's server. */
  async startServer(): Promise<void> {
    const listen = `TCP6-LISTEN:${PORT},ipv6only=0,reuseaddr,fork`;
    this.#server = this.hosts.command("a", ["socat", listen, "PIPE"], { stdin: "null" }).spawn();
    await poll(
      "a listener",
      async () => await this.hosts.output("a", "ss", "-Hltn", "sport", "=", `:${PORT}`) !== "",
    );
  }

  async #end(): Promise<void> {
    for (const socket of this.#sockets) socket.close();
    this.#namespace[Symbol.dispose]();
    await this.stopServer();
  }

  /** Ends the primary's server and its connections. */
  async stopServer(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const forks = await Deno.readTextFile(`/proc/${server.pid}/task/${server.pid}/children`);
    for (const pid of [server.pid, ...forks.split(" ").filter(Boolean).map(Number)]) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It has ended already.
      }
    }
    await server.status;
  }

  /** The primary's host comes up again, and says so: RFC 5227 section 2.3. */
  async announceAnew(): Promise<void> {
    const link = ["ip", "link", "set", "dev", "link0"];
    const setting = "/proc/sys/net/ipv4/conf/link0/arp_notify";
    await this.hosts.output("a", "sh", "-c", `echo 1 >${setting}`);
    await this.hosts.output("a", ...link, "down");
    await this.hosts.output("a", ...link, "up");
  }

  /** The flags of a fence against the primary. */
  get flags(): string[] {
    return [
      ...["fence", "--interface", "link0", "--primary", "10.99.0.1"],
      ...[...SERVICES.flatMap((name) => ["--service", name]), "--run-dir", this.runDir],
    ];
  }

  /** Starts a fence that reads events, and waits until it is ready. */
  async fence(...args: string[]): Promise<Process> {
    const process = this.hosts.pipe("b", "piped", ...this.flags, ...args);
    await process.next("fence.ready");
    return process;
  }

  /** Runs t2cp on the gateway to its end, which must be with `status`, and returns its events. */
  async t2cp(status: number, ...args: string[]): Promise<Process> {
    const process = this.hosts.pipe("b", "null", ...args);
    assert.equal((await process.status).code, status, process.stderr);
    return process;
  }

  /** Releases the fence, and returns the services that were fenced. */
  async release(...args: string[]): Promise<unknown[]> {
    const { events } = await this.t2cp(0, "fence", "--release", "--run-dir", this.runDir, ...args);
    return events.map(({ services }) => services);
  }

  /** A client's connection to the service, or to the primary's own address. */
  async client(family: Family = 4, own = false): Promise<TcpSocket> {
    const address = { 4: own ? "10.99.0.1" : SERVICE[4], 6: own ? "fd99::1" : SERVICE[6] };
    const socket = TcpSocket.make(this.#namespace, family);
    this.#sockets.push(socket);
    socket.connect(address[family], PORT);
    await socket.connected();
    return socket;
  }

  /** Asks the control socket. */
  async ask(request: string): Promise<Record<string, unknown>> {
    const path = join(this.runDir, "fence.sock");
    using connection = await Deno.connect({ transport: "unix", path });
    await connection.write(new TextEncoder().encode(`${JSON.stringify({ request })}\n`));
    await connection.closeWrite();
    const text = await new Response(connection.readable).text();
    const [answer, last] = text.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.equal(last?.ok, true, text);
    return answer;
  }

  /** Waits until a counter is at least `least`. */
  async counts(name: string, least = 1): Promise<void> {
    await poll(`${least} of ${name}`, async () => (await this.counters())[name]! >= least);
  }

  /** What the fence's process counts. */
  async counters(): Promise<Record<string, number>> {
    const { stats } = await this.ask("stats") as { stats: Record<string, number> };
    return stats;
  }

  /** The neighbour entry of the service, as `ip` shows it. */
  async neighbour(family: Family): Promise<string> {
    return (await this.hosts.output("b", "ip", "neighbour", "show", "to", SERVICE[family])).trim();
  }

  /** How many programs are at the ingress of the gateway's interface. */
  get programs(): number {
    return this.#namespace.run(() => ingressPrograms(interfaceIndex("link0")).length);
  }
}
