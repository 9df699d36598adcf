/**
 * Runs the commands of t2cp in a lab, each in its own process on its own host, joined by a pipe as
 * an admin joins them.
 *
 * @module
 */

import { type Family, formatEndpoint } from "../address.ts";
import { type Event, parseEvent } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { MAX_LINE, readLines } from "../ndjson.ts";
import { orInterrupted } from "./interrupt.ts";
import type { Lab } from "./lab.ts";
import { HostProcess, quote } from "./processes.ts";
import type { Recorder } from "./recorder.ts";
import { BRIDGE, hostAddress, type Role, SERVICE_ADDRESSES } from "./topology.ts";

/** How the commands are to be started. */
export interface CommandOptions {
  /** The IP version of the service and of the heartbeat. */
  family: Family;
  /** The service's port. */
  port: number;
  /** The heartbeat's interval in milliseconds. */
  interval: number;
  /** How many heartbeats may be missing. */
  multiplier: number;
  /** Whether the client is told only what both servers have acknowledged. */
  commit: boolean;
  /** Record at the gateway and heal the replicas; false unless given. */
  heal?: boolean;
  /** Freeze the flows until the takeover; false unless given. */
  freeze?: boolean;
  /** Silence the primary at the gateway before a takeover; false unless given. */
  fence?: boolean;
  /** Guard this process of the primary, the server's first; nobody is guarded unless given. */
  guard?: number;
  /** Probe the server so, beside the heartbeat; no probe unless given. */
  probe?: string;
}

/** One part of a command line: what runs on one host. */
export interface Part {
  /** The host. */
  role: Role;
  /** Program and arguments. */
  argv: string[];
}

/** One command, or several joined by a pipe. */
export interface Plan {
  /** A name for messages and the log file. */
  what: string;
  /** The commands in the order of the pipe. */
  parts: Part[];
  /** A command beside the first, whose events go into the same pipe. */
  beside?: Part;
  /** It ends by itself, with status 0. */
  ends?: boolean;
}

/** The name of the primary in the events, where several detectors watch it. */
const TARGET = "primary";

/** The hosts whose commands keep something in a run directory. */
export type KeeperRole = "gateway" | "primary" | "backup";

/**
 * The command lines that protect the service, in the order of their start. `runDir` names each
 * host's run directory; without it they have none, as on real hosts.
 */
export function planCommands(
  options: CommandOptions,
  runDir?: (role: KeeperRole) => string,
): Plan[] {
  const { family, port, interval, multiplier, guard, probe } = options;
  const commit = options.commit ? ["--commit"] : [];
  const service = ["--service", formatEndpoint(SERVICE_ADDRESSES[family], port)];
  const timers = ["--interval", String(interval), "--multiplier", String(multiplier)];
  const at = (role: KeeperRole) => runDir === undefined ? [] : ["--run-dir", runDir(role)];
  const [primary, backup] = [hostAddress("primary", family), hostAddress("backup", family)];
  const command = (role: Role, ...argv: string[]): Part => ({ role, argv: ["t2cp", ...argv] });
  // Both hosts of a lab see the same files; on real ones, ssh -L joins the socket.
  const recorder = `${runDir === undefined ? "/run/t2cp" : runDir("gateway")}/record.sock`;
  const heal = command("backup", "replay", "--heal", "--recorder", recorder, ...at("backup"));
  const record = command(
    ...["gateway", "record", "--interface", BRIDGE.name, "--backup", backup, ...service] as const,
    ...["--window", "128M", "--budget", "512M", ...at("gateway")],
  );
  const target = guard === undefined ? [] : ["--target", TARGET];
  const freeze = (...flags: string[]): Part[] =>
    options.freeze ? [command("backup", "freeze", ...flags, ...at("backup"))] : [];
  const probing = probe === undefined ? [] : ["--probe", probe];
  const fence = command(
    ...["gateway", "fence", "--interface", BRIDGE.name, "--primary", primary] as const,
    ...["--backup", backup, ...service, ...at("gateway")],
  );
  return [
    {
      what: "shadow",
      parts: [
        command(
          ...["backup", "shadow", "--interface", "eth0"] as const,
          ...[...service, ...commit, ...at("backup")],
        ),
        ...(options.heal ? [heal] : []),
      ],
    },
    ...(options.heal ? [{ what: "record", parts: [record] }] : []),
    {
      what: "mirror",
      parts: [
        command(
          ...["gateway", "mirror", "--interface", BRIDGE.name] as const,
          ...["--primary", primary, "--backup", backup, ...service, ...commit, ...at("gateway")],
        ),
      ],
    },
    {
      what: "respond",
      parts: [
        command(
          ...["primary", "detect", "--respond", "--local", primary] as const,
          ...[...timers, ...at("primary")],
        ),
      ],
    },
    {
      what: "takeover",
      parts: [
        command("gateway", "detect", "--peer", primary, ...timers, ...target, ...probing),
        ...(options.fence ? [fence] : []),
        command("backup", "takeover", "--on", "failed", ...at("backup")),
        // Behind it, so that it does not wait for them.
        ...freeze("--on", "failed"),
        ...freeze("--thaw", "--on", "active"),
      ],
      ...(guard === undefined ? {} : {
        beside: command(
          ...["primary", "guard", "--interface", "eth0", ...service] as const,
          ...["--pid", String(guard), ...target, ...at("primary")],
        ),
      }),
    },
  ];
}

/** The planned switch-over, for a lab that runs with a fence. */
export function planSwitchOver(runDir: (role: KeeperRole) => string): Plan {
  // On real hosts, ssh -L joins the socket.
  const fence = ["--fence", `${runDir("gateway")}/fence.sock`];
  const argv = ["t2cp", "takeover", "--planned", ...fence, "--run-dir", runDir("backup")];
  return { what: "switch-over", parts: [{ role: "backup", argv }], ends: true };
}

/** The command lines as an admin types them, with the host's name as the prompt. */
export function describeCommands(options: CommandOptions): string[] {
  return planCommands(options).map((plan) => {
    // Where two hosts' events meet, the one that acts on them fetches both.
    const { role: host } = plan.beside === undefined ? plan.parts[0]! : plan.parts.at(-1)!;
    const line = joinParts(
      plan,
      ({ role, argv }) => role === host ? quote(argv) : `ssh ${role} ${quote(argv)}`,
    );
    return `${`${host}#`.padEnd(9)} ${line}`;
  });
}

/** The plan as one line for the shell, each part as `write` has it. */
function joinParts({ parts, beside }: Plan, write: (part: Part) => string): string {
  const [first, ...others] = parts.map(write);
  const source = beside === undefined ? first : `{ ${write(beside)} & ${first}; }`;
  return [source, ...others].join(" | ");
}

/** The running commands of one lab, and the events they have sent. */
export class Commands {
  /** Every event so far, in the order of arrival. */
  readonly events: Event[] = [];
  /** Rejects as soon as a command ends by itself; never resolves. */
  readonly broken: Promise<never>;
  readonly #processes: HostProcess[] = [];
  readonly #readers: Promise<void>[] = [];
  readonly #breaking = Promise.withResolvers<never>();
  #waiting: { wanted: (event: Event) => boolean; found: (event: Event) => void }[] = [];
  #stopping = false;

  private constructor() {
    this.broken = this.#breaking.promise;
    // Whoever waits hears of it; that nobody waits is no error.
    this.broken.catch(() => {});
  }

  /**
   * Starts all commands and waits until each works and the heartbeat is up.
   *
   * @throws {Failure} where one ends or takes longer than a minute
   */
  static async start(
    lab: Lab,
    options: CommandOptions,
    recorder: Recorder,
    signal: AbortSignal,
  ): Promise<Commands> {
    const commands = new Commands();
    const [shadow, ...others] = planCommands(options, (role) => lab.roleDirectory(role));
    // The replica is silent before anyone asks for the service's address.
    await orInterrupted(commands.launch(lab, shadow!, recorder), signal);
    const ready = others.map((plan) => commands.launch(lab, plan, recorder));
    await orInterrupted(Promise.all([...ready, commands.waitFor("up", 60_000)]), signal);
    return commands;
  }

  /**
   * Starts one process or pipe and waits until each command in it has said `started`.
   *
   * @throws {Failure} where one ends or takes longer than a minute
   */
  async launch(lab: Lab, plan: Plan, recorder: Recorder): Promise<void> {
    const { what, parts: [first, ...others], beside } = plan;
    const only = others.length === 0 && beside === undefined ? first : undefined;
    const line = () => joinParts(plan, ({ role, argv }) => quote(lab.inRole(role, argv)));
    const process = HostProcess.start(lab, {
      ...{ what, argv: only?.argv ?? ["sh", "-c", line()], stdout: true },
      ...(only === undefined ? {} : { role: only.role }),
    });
    this.#processes.push(process);
    let missing = plan.parts.length + (beside === undefined ? 0 : 1);
    const started = Promise.withResolvers<void>();
    this.#readers.push(this.#read(process, recorder, (event) => {
      if (event.type === "started" && --missing === 0) started.resolve();
    }));
    process.status.then(async () => {
      const { success } = await process.status;
      if (this.#stopping || plan.ends && success) return;
      this.#breaking.reject(await process.unexpectedEnd());
    });
    await this.#bounded(started.promise, 60_000, `Command "${plan.what}" does not start`);
  }

  async #read(
    process: HostProcess,
    recorder: Recorder,
    onEvent: (event: Event) => void,
  ): Promise<void> {
    for await (const line of readLines(process.stdout, { maxLine: MAX_LINE })) {
      if ("error" in line) continue;
      recorder.raw(line.line);
      const event = parseEvent(line.line);
      if (typeof event === "string") {
        const message = `Line ${line.number} of "${process.what}" is no event: ${event}`;
        recorder.emit("warning", { message });
        continue;
      }
      this.events.push(event);
      onEvent(event);
      this.#waiting = this.#waiting.filter(({ wanted, found }) => {
        if (!wanted(event)) return true;
        found(event);
        return false;
      });
    }
  }

  /** The first event of that type so far. */
  find(type: string): Event | undefined {
    return this.events.find((event) => event.type === type);
  }

  /**
   * The first event of that type, past or to come.
   *
   * @throws {Failure} where a command ends first, or after `timeout` ms
   */
  waitFor(type: string, timeout: number): Promise<Event> {
    const past = this.find(type);
    if (past !== undefined) return Promise.resolve(past);
    const event = Promise.withResolvers<Event>();
    this.#waiting.push({ wanted: (event) => event.type === type, found: event.resolve });
    return this.#bounded(event.promise, timeout, `No event "${type}" has come`);
  }

  async #bounded<T>(work: Promise<T>, timeout: number, message: string): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      late.reject(new Failure(ExitStatus.UNAVAILABLE, `${message} within ${timeout / 1000} s`));
    }, timeout);
    try {
      return await Promise.race([work, late.promise, this.broken]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Stops the commands in the reverse order of their start, and reads what they still say. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const process of this.#processes.toReversed()) await process.stop();
    await Promise.all(this.#readers);
  }
}
