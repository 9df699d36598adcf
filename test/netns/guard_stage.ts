/**
 * The stage of the guard's tests: a server host with `t2cp guard`, and clients whose sockets the test holds.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Family } from "../../lib/address.ts";
import { Namespace, State, TcpSocket } from "../fixture/socket.ts";
import { PATIENCE, poll, within } from "../fixture/wait.ts";
import { isRoot, type Process, TwoHosts } from "./two_hosts.ts";

const SERVER = fileURLToPath(new URL("./guard_server.py", import.meta.url));

/** The addresses of the host with the server. */
const ADDRESS: Record<Family, string> = { 4: "10.99.0.1", 6: "fd99::1" };

/** The service on `port`, as a flag has it. */
export function service(port: number, family: Family = 4): string {
  return family === 4 ? `${ADDRESS[4]}:${port}` : `[${ADDRESS[6]}]:${port}`;
}

/** Registers a test; without root it is ignored. */
export function guardTest(name: string, fn: (stage: GuardStage) => Promise<void>): void {
  Deno.test({ name, ignore: !isRoot, fn: () => GuardStage.with(fn) });
}

/** See the module. */
export class GuardStage {
  readonly hosts: TwoHosts;
  /** The guard's run directory, and room for other files. */
  readonly directory: string;
  readonly #namespace: Namespace;
  readonly #children: Deno.ChildProcess[] = [];
  readonly #sockets: TcpSocket[] = [];

  private constructor(hosts: TwoHosts, directory: string) {
    this.hosts = hosts;
    this.directory = directory;
    this.#namespace = new Namespace(hosts.namespace("b"));
  }

  /** Runs `use` on a stage of its own, and takes everything down after it. */
  static async with(use: (stage: GuardStage) => Promise<void>): Promise<void> {
    const directory = await Deno.makeTempDir({ prefix: "t2cp-test-" });
    await TwoHosts.with(async (hosts) => {
      const stage = new GuardStage(hosts, directory);
      try {
        await use(stage);
      } finally {
        await stage.#end();
      }
    });
    await new Deno.Command("umount", { args: [join(directory, "bpf")], stderr: "null" }).output();
    await Deno.remove(directory, { recursive: true });
  }

  async #end(): Promise<void> {
    for (const socket of this.#sockets) socket.close();
    this.#namespace[Symbol.dispose]();
    for (const child of this.#children) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await child.status;
    }
  }

  /** Starts the server, also in a control group, and returns the numbers of the processes that serve. */
  async serve(
    port: number,
    args: readonly string[] = [],
    controlGroup?: string,
  ): Promise<{ main: number; pids: number[]; status: Promise<Deno.CommandStatus> }> {
    const enter = controlGroup === undefined
      ? []
      : ["sh", "-c", `echo $$ >"${controlGroup}/cgroup.procs"; exec "$@"`, "sh"];
    const child = this.spawn([...enter, "python3", SERVER, `${port}`, ...args]);
    const reader = child.stdout.getReader();
    const { value } = await within(PATIENCE, reader.read(), "a listening server");
    await reader.cancel();
    const pids = new TextDecoder().decode(value).trim().split(" ").map(Number);
    return { main: child.pid, pids, status: child.status };
  }

  /** Starts a program on the server's host; it is killed at the end. */
  spawn(argv: readonly string[], host: "a" | "b" = "a"): Deno.ChildProcess {
    const options = { stdin: "null", stdout: "piped", stderr: "inherit" } as const;
    const child = this.hosts.command(host, argv, options).spawn();
    this.#children.push(child);
    return child;
  }

  /** Starts the guard and waits until it is in place. */
  async guard(...args: string[]): Promise<Process> {
    const process = this.start(...args);
    await process.next("started");
    return process;
  }

  /** Starts the guard. */
  start(...args: string[]): Process {
    const flags = ["--interface", "link0", "--run-dir", this.directory, "--target", "primary"];
    return this.hosts.start("a", "guard", ...flags, ...args);
  }

  /** A client's socket that is connecting. */
  connecting(port: number, family: Family = 4): TcpSocket {
    const socket = TcpSocket.make(this.#namespace, family);
    this.#sockets.push(socket);
    socket.connect(ADDRESS[family], port);
    return socket;
  }

  /** A client whose first line is `order`, and which has got `answer`. */
  async client(port: number, order: string, answer = "", family: Family = 4): Promise<TcpSocket> {
    const socket = this.connecting(port, family);
    await socket.connected();
    await socket.send(`${order}\n`);
    if (answer !== "") assert.equal(await socket.receiveText(answer.length), answer);
    return socket;
  }

  /** Asks the guard's control socket. */
  async ask(request: string): Promise<Record<string, unknown>[]> {
    const path = join(this.directory, "guard.sock");
    using client = await Deno.connect({ transport: "unix", path });
    await client.write(new TextEncoder().encode(`${JSON.stringify({ request })}\n`));
    let text = "";
    const bytes = new Uint8Array(1 << 16);
    while (true) {
      const lines = text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
      if (lines.at(-1)?.ok !== undefined) {
        assert.equal(lines.at(-1).ok, true, text);
        return lines.slice(0, -1);
      }
      const length = await client.read(bytes);
      assert.ok(length !== null);
      text += new TextDecoder().decode(bytes.subarray(0, length));
    }
  }

  /** The guard's counters. */
  async stats(): Promise<Record<string, number>> {
    return (await this.ask("stats"))[0]!.stats as Record<string, number>;
  }

  /** Waits until counter `name` is at least `least`; calls `meanwhile` before each look. */
  async counts(name: string, least: number, meanwhile: () => void = () => {}): Promise<void> {
    await poll(`${least} of ${name}`, async () => {
      meanwhile();
      return (await this.stats())[name]! >= least;
    });
  }

  /** What is attached to the server's interface. */
  async filters(): Promise<string> {
    const show = ["tc", "filter", "show", "dev", "link0"];
    const parts = ["ingress", "egress"].map((way) => this.hosts.output("a", ...show, way));
    return (await Promise.all(parts)).join("");
  }
}

/** Scheduling policies, as /proc has them: sched.h. */
export const SCHED_OTHER = 0;
export const SCHED_RR = 2;

/** The scheduling policies in lines of /proc/PID/stat: the 41st field of proc(5), the second of which may hold blanks. */
export function policies(stats: string): number[] {
  const behindName = stats.trimEnd().split("\n").map((line) => line.replace(/^.*\) /, ""));
  return behindName.map((fields) => Number(fields.split(" ")[38]));
}

/** The scheduling policies of a process's threads. */
export function threadPolicies(pid: number): number[] {
  const threads = [...Deno.readDirSync(`/proc/${pid}/task`)].map(({ name }) => name);
  return threads.flatMap((id) => {
    try {
      return policies(Deno.readTextFileSync(`/proc/${pid}/task/${id}/stat`));
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}

/** Kills a process as no process can prevent. */
export function kill(pid: number): void {
  Deno.kill(pid, "SIGKILL");
}

/** Resolves when the client has got the other end's FIN; what came before is thrown away. */
export async function ended(socket: TcpSocket): Promise<void> {
  await poll(
    "the end of the connection",
    () => socket.tryReceive(1 << 20)?.length === 0,
    PATIENCE,
    5,
  );
}

/** The client's connection has not ended, nor has its server's sending. */
export function assertOpen(socket: TcpSocket, what: string): void {
  assert.equal(socket.state, State.ESTABLISHED, what);
  assert.equal(socket.error, 0, what);
}
