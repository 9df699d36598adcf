/**
 * FRR's bfdd on one of two hosts, with a directory of its own, for tests and benches.
 *
 * @module
 */
import { join } from "node:path";
import { PATIENCE } from "../fixture/wait.ts";
import type { TwoHosts } from "./two_hosts.ts";

const BFDD = "/usr/lib/frr/bfdd";

/** Whether Debian's package frr is installed. */
export const hasBfdd: boolean = ((): boolean => {
  try {
    return Deno.statSync(BFDD).isFile;
  } catch {
    return false;
  }
})();

/** A session as `show bfd peers json` has it. */
export interface BfddPeer {
  peer: string;
  multihop: boolean;
  status: "up" | "down" | "init" | "shutdown";
  diagnostic: string;
  "remote-diagnostic": string;
  "remote-receive-interval": number;
  "remote-transmit-interval": number;
  "remote-detect-multiplier": number;
}

/** See the module. */
export class Bfdd {
  readonly #hosts: TwoHosts;
  readonly #host: "a" | "b";
  readonly #directory: string;
  readonly #child: Deno.ChildProcess;

  private constructor(hosts: TwoHosts, host: "a" | "b", directory: string) {
    this.#hosts = hosts;
    this.#host = host;
    this.#directory = directory;
    const path = (name: string): string => join(directory, name);
    const argv = [
      ...[BFDD, "--config_file", path("bfdd.conf"), "--pid_file", path("bfdd.pid")],
      ...["--vty_socket", directory, "--vty_port", "0"],
      ...["--socket", path("zebra"), "--bfdctl", path("control")],
    ];
    const quiet = { stdin: "null", stdout: "null", stderr: "null" } as const;
    this.#child = hosts.command(host, argv, { ...quiet, env: { TZ: "UTC" } }).spawn();
  }

  /** Runs `use` with a bfdd that has `peers` configured, and ends it after that. */
  static async with(
    hosts: TwoHosts,
    host: "a" | "b",
    peers: string,
    use: (bfdd: Bfdd) => Promise<void>,
  ): Promise<void> {
    const directory = await Deno.makeTempDir({ prefix: "t2cp-test-bfdd-" });
    // Its user must be able to make its sockets there.
    await hosts.output(host, "chown", "frr:frrvty", directory);
    const log = ["log timestamp precision 6", `log file ${join(directory, "log")} debugging`];
    const lines = [...log, "debug bfd peer", "bfd", peers];
    await Deno.writeTextFile(join(directory, "bfdd.conf"), `${lines.join("\n")}\n`);
    const bfdd = new Bfdd(hosts, host, directory);
    try {
      await use(bfdd);
    } finally {
      try {
        bfdd.#child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await bfdd.#child.status;
      await Deno.remove(directory, { recursive: true });
    }
  }

  /** What vtysh prints for commands, one after the other. */
  ask(...commands: string[]): Promise<string> {
    const argv = commands.flatMap((command) => ["-c", command]);
    const socket = ["--vty_socket", this.#directory];
    return this.#hosts.output(this.#host, "vtysh", ...socket, "-d", "bfdd", ...argv);
  }

  /** Changes the configuration of one peer. */
  async configure(peer: string, ...commands: string[]): Promise<void> {
    await this.ask("configure terminal", "bfd", `peer ${peer}`, ...commands);
  }

  /** Its sessions; none while it does not answer. */
  async peers(): Promise<BfddPeer[]> {
    const text = await this.ask("show bfd peers json");
    return text.trimStart().startsWith("[") ? JSON.parse(text) : [];
  }

  /** Waits until `test` is true of its sessions. */
  async until(
    what: string,
    test: (peers: BfddPeer[]) => boolean,
  ): Promise<BfddPeer[]> {
    const end = performance.now() + PATIENCE;
    while (true) {
      const peers = await this.peers();
      if (test(peers)) return peers;
      if (performance.now() > end) throw new Error(`bfdd: not ${what}: ${JSON.stringify(peers)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The lines of its log that tell of a new session state. */
  async stateChanges(): Promise<string[]> {
    const text = await Deno.readTextFile(join(this.#directory, "log"));
    return text.split("\n").filter((line) => line.includes("state-change:"));
  }
}
