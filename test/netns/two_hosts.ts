/**
 * Two hosts as network namespaces with a link between them, and t2cp processes on them.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { type Event, parseEvent } from "../../lib/event.ts";
import { unique } from "../fixture/unique.ts";
import { PATIENCE } from "../fixture/wait.ts";

const MAIN = fileURLToPath(import.meta.resolve("../../cli/main.ts"));

/** Whether this process may make namespaces. */
export const isRoot: boolean = Deno.uid() === 0;

async function sh(...argv: string[]): Promise<void> {
  const [program, ...args] = argv;
  const { success, stderr } = await new Deno.Command(program!, { args, stdout: "null" }).output();
  if (!success) throw new Error(`${argv.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

/** A running process and the events it has printed. */
export class Process {
  readonly events: Event[] = [];
  readonly pid: number;
  /** Resolves at its end, when all that it has printed is here. */
  readonly status: Promise<Deno.CommandStatus>;
  stderr = "";
  #input: WritableStreamDefaultWriter<Uint8Array> | undefined;
  readonly #child: Deno.ChildProcess;
  #changed = Promise.withResolvers<void>();

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.pid = child.pid;
    const reading = Promise.all([this.#readEvents(), this.#readErrors()]);
    this.status = child.status.then(async (status) => {
      await reading;
      return status;
    });
    // Whoever waits hears of it.
    this.status.catch(() => {});
  }

  /** The next event of `type` after the first `seen` events. */
  async next(type: string, seen = 0): Promise<Event> {
    const timeout = AbortSignal.timeout(PATIENCE);
    const late = new Promise<void>((resolve) =>
      timeout.addEventListener("abort", () => resolve(), { once: true })
    );
    while (true) {
      const found = this.events.slice(seen).find((event) => event.type === type);
      if (found !== undefined) return found;
      if (timeout.aborted) {
        const had = this.events.map((event) => event.type).join(" ");
        throw new Error(`No "${type}" in time, only: ${had} ${this.stderr}`);
      }
      await Promise.race([this.#changed.promise, late]);
    }
  }

  /** Writes a line to the input. */
  async write(line: string): Promise<void> {
    this.#input ??= this.#child.stdin.getWriter();
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  /** Ends the input. */
  async endInput(): Promise<void> {
    this.#input ??= this.#child.stdin.getWriter();
    await this.#input.close();
  }

  /** Sends `signal` and waits for the end. */
  async end(signal: Deno.Signal): Promise<Deno.CommandStatus> {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended already.
    }
    // It has an input only where one was asked for, and that may be at its end.
    await this.endInput().catch(() => {});
    return await this.status;
  }

  async #readEvents(): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of this.#child.stdout) {
      text += decoder.decode(chunk, { stream: true });
      const lines = text.split("\n");
      text = lines.pop()!;
      for (const line of lines) {
        const event = parseEvent(line);
        if (typeof event === "string") throw new Error(`${event}: ${line}`);
        this.events.push(event);
      }
      this.#changed.resolve();
      this.#changed = Promise.withResolvers<void>();
    }
  }

  async #readErrors(): Promise<void> {
    this.stderr = await new Response(this.#child.stderr).text();
  }
}

/** Two hosts, `a` and `b`, on one link: 10.99.0.1 and .2, fd99::1 and ::2, fe80::1 and ::2. */
export class TwoHosts {
  /** Added to the environment of the t2cp commands. */
  env: Record<string, string> = {};
  readonly #names: { a: string; b: string };
  readonly #processes: Process[] = [];
  /** Run directories; the hosts share the file system, but not those. */
  readonly #runDir = Deno.makeTempDirSync({ prefix: "t2cp-test-" });

  private constructor(names: { a: string; b: string }) {
    this.#names = names;
  }

  /** Runs `use` with two hosts, and takes everything down after it, also where it fails. */
  static async with(use: (hosts: TwoHosts) => Promise<void>): Promise<void> {
    const id = unique("t2cp-test-");
    const hosts = new TwoHosts({ a: `${id}-a`, b: `${id}-b` });
    try {
      await hosts.#build();
      await use(hosts);
    } finally {
      for (const process of hosts.#processes) await process.end("SIGKILL");
      for (const name of Object.values(hosts.#names)) {
        await sh("ip", "netns", "delete", name).catch(() => {});
      }
      await Deno.remove(hosts.#runDir, { recursive: true });
    }
  }

  async #build(): Promise<void> {
    const { a, b } = this.#names;
    await sh("ip", "netns", "add", a);
    await sh("ip", "netns", "add", b);
    const peer = ["peer", "name", "link0", "netns", b];
    await sh("ip", "-n", a, "link", "add", "link0", "type", "veth", ...peer);
    for (const [name, last] of [[a, 1], [b, 2]] as const) {
      const address = ["ip", "-n", name, "address", "add"];
      await sh("ip", "-n", name, "link", "set", "link0", "addrgenmode", "none");
      await sh(...address, `10.99.0.${last}/24`, "dev", "link0");
      await sh(...address, `fd99::${last}/64`, "dev", "link0", "nodad");
      await sh(...address, `fe80::${last}/64`, "dev", "link0", "nodad");
      await sh("ip", "-n", name, "link", "set", "lo", "up");
      await sh("ip", "-n", name, "link", "set", "link0", "up");
    }
  }

  /** The name of a host's namespace, as `ip netns` lists it. */
  namespace(host: "a" | "b"): string {
    return this.#names[host];
  }

  /** Starts a t2cp command on a host. */
  start(host: "a" | "b", ...args: string[]): Process {
    const own = args.includes("--respond") ? ["--run-dir", `${this.#runDir}/${host}`] : [];
    return this.pipe(host, "null", ...args, ...own);
  }

  /** Tells the responder on a host to say that it goes down; returns the exit status and what was said. */
  async announceDown(host: "a" | "b"): Promise<{ code: number; stderr: string }> {
    const args = ["detect", "--announce-down", "--run-dir", `${this.#runDir}/${host}`];
    const argv = [Deno.execPath(), "run", "-A", MAIN, ...args];
    const { code, stderr } = await this.command(host, argv).output();
    return { code, stderr: new TextDecoder().decode(stderr) };
  }

  /** Starts a t2cp command on a host, with an input where `stdin` is piped. */
  pipe(host: "a" | "b", stdin: "null" | "piped", ...args: string[]): Process {
    const namespace = `--net=/run/netns/${this.#names[host]}`;
    const child = new Deno.Command("nsenter", {
      args: [namespace, Deno.execPath(), "run", "-A", MAIN, ...args],
      env: this.env,
      stdin,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const process = new Process(child);
    this.#processes.push(process);
    return process;
  }

  /** Cuts or mends the link, by its end at `b`. */
  async link(state: "up" | "down"): Promise<void> {
    const { b } = this.#names;
    await sh("ip", "-n", b, "link", "set", "link0", state);
    if (state === "up") {
      // IPv6 addresses go with the link.
      for (const address of ["fd99::2/64", "fe80::2/64"]) {
        const add = ["ip", "-n", b, "address", "replace", address, "dev", "link0", "nodad"];
        await sh(...add);
      }
    }
  }

  /** Runs a program on a host to its end, and returns what it wrote. */
  async output(host: "a" | "b", ...argv: string[]): Promise<string> {
    const { stdout } = await this.command(host, argv, { stderr: "null" }).output();
    return new TextDecoder().decode(stdout);
  }

  /** A program on a host, not started yet. */
  command(
    host: "a" | "b",
    argv: readonly string[],
    options: Deno.CommandOptions = {},
  ): Deno.Command {
    const args = [`--net=/run/netns/${this.#names[host]}`, ...argv];
    return new Deno.Command("nsenter", { args, ...options });
  }
}
