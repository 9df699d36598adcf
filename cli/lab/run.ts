/**
 * The work of `t2cp lab run`, `demo` and `setup`.
 *
 * @module
 */

import type { Family } from "../../lib/address.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import { installPackages, type Purpose, requirePackages } from "../../lib/host/packages.ts";
import { describeCommands } from "../../lib/lab/commands.ts";
import { throwIfInterrupted } from "../../lib/lab/interrupt.ts";
import { requireRoot } from "../../lib/lab/lab.ts";
import type { Point } from "../../lib/lab/quantity.ts";
import { amountOf } from "../../lib/lab/pace.ts";
import { families } from "../../lib/lab/namespaces.ts";
import { painter } from "../../lib/lab/report.ts";
import {
  type FailureName,
  type Scenario,
  type ServerName,
  serverOf,
  type WorkloadName,
} from "../../lib/lab/scenario.ts";
import { WEB_PORT } from "../../lib/lab/servers.ts";
import { runSession } from "../../lib/lab/session.ts";
import { hostAddress, SERVICE_ADDRESSES } from "../../lib/lab/topology.ts";
import { openOutput, type Output, stopSignal } from "../common/context.ts";
import { progressLine } from "../common/progress.ts";

/** Flags of `t2cp lab demo`. */
export interface DemoFlags {
  /** Print events, nothing else. */
  json?: boolean;
  /** Where to put events and pictures. */
  out?: string;
  /** The run directory that holds the labs. */
  runDir: string;
}

/** Flags of `t2cp lab run`. */
export interface RunFlags extends DemoFlags {
  /** The lab's name; made from the process number unless given. */
  name?: string;
  /** What the client does. */
  workload: WorkloadName;
  /** What serves it. */
  server?: ServerName;
  /** What fails. */
  failure?: FailureName;
  /** The IP version. */
  family: Family;
  /** How many flows. */
  flows?: number;
  /** Bytes to transfer, of all flows together. */
  size?: number;
  /** Bytes a second between gateway and client; 0 for no limit. */
  rate: number;
  /** Bits a second of the primary's link. */
  link?: number;
  /** Milliseconds between heartbeats. */
  interval: number;
  /** How many heartbeats may be missing. */
  multiplier: number;
  /** When the failure comes. */
  after: Point;
  /** How often. */
  runs: number;
  /** Record and heal. */
  heal?: boolean;
  /** The share of the copies that get lost, 0 to 1. */
  tapLoss?: number;
  /** Milliseconds before the failure in which every copy gets lost. */
  tapBlackout?: number;
  /** Without t2cp. */
  plain?: boolean;
  /** With output commit. */
  commit?: boolean;
  /** Freeze the flows until the takeover. */
  freeze?: boolean;
  /** Silence the primary before a takeover. */
  fence?: boolean;
  /** Leave the last run's lab standing. */
  keep?: boolean;
}

/** `t2cp lab run`. */
export async function run(flags: RunFlags): Promise<void> {
  requireRoot();
  const { plain = false, commit = false } = flags;
  if (plain && flags.failure !== undefined && flags.failure !== "none") {
    throw new Failure(ExitStatus.USAGE, "Without t2cp nothing survives a failure", {
      mend: `leave out --failure ${flags.failure} or --plain`,
    });
  }
  if (plain && commit) {
    throw new Failure(ExitStatus.USAGE, "Without t2cp there is no output commit", {
      mend: "leave out --plain or --commit",
    });
  }
  if (plain && flags.freeze) {
    throw new Failure(ExitStatus.USAGE, "Without t2cp nothing is frozen", {
      mend: "leave out --plain or --freeze",
    });
  }
  if (plain && flags.fence) {
    throw new Failure(ExitStatus.USAGE, "Without t2cp nobody is fenced", {
      mend: "leave out --plain or --fence",
    });
  }
  const { tapLoss = 0, tapBlackout: blackout = 0 } = flags;
  const heal = flags.heal === true || tapLoss > 0 || blackout > 0;
  if (plain && heal) {
    throw new Failure(ExitStatus.USAGE, "Without t2cp there is no tap, and nothing to heal", {
      mend: "leave out --plain, or --heal, --tap-loss and --tap-blackout",
    });
  }
  if (blackout > 0 && flags.failure === "none") {
    throw new Failure(ExitStatus.USAGE, "The blackout comes before a failure", {
      mend: "leave out --failure none or --tap-blackout",
    });
  }
  const amount = amountOf(flags.workload, flags);
  const server = serverOf(flags.workload, flags.server);
  if (!families().includes(flags.family)) {
    throw new Failure(ExitStatus.UNAVAILABLE, "This kernel runs without IPv6", {
      mend: "boot it without ipv6.disable=1",
    });
  }
  const special = tapLoss > 0 || blackout > 0 || server === "python" || server === "threaded";
  await requirePackages(special ? "test" : "demo");
  const scenario: Scenario = {
    ...flags,
    ...amount,
    server,
    plain,
    commit,
    heal,
    tapLoss,
    blackout,
    failure: flags.failure ?? (plain ? "none" : "host"),
    link: flags.link ?? 0,
  };
  await runAndReport(scenario, flags);
}

/** `t2cp lab demo`. */
export async function demo(flags: DemoFlags): Promise<void> {
  requireRoot();
  await install("demo");
  const scenario: Scenario = {
    workload: "download",
    server: serverOf("download", undefined),
    failure: "host",
    family: 4,
    ...amountOf("download", {}),
    rate: 40e6,
    link: 0,
    interval: 50,
    multiplier: 3,
    after: { share: 0.4 },
    plain: false,
    commit: false,
    heal: false,
    tapLoss: 0,
    blackout: 0,
  };
  if (!flags.json) console.log(introduce(scenario));
  await runAndReport(scenario, { ...flags, runs: 1 });
}

/** What the demo is, for a person. */
function introduce(scenario: Scenario): string {
  const { family } = scenario;
  const commands = describeCommands({ ...scenario, port: WEB_PORT });
  return `Four hosts, each a network namespace of this machine:

    client ${hostAddress("client", family)} ---- gateway ----+---- primary ${
    hostAddress("primary", family)
  }
                                      \`---- backup  ${hostAddress("backup", family)}

nginx serves a file at ${
    SERVICE_ADDRESSES[family]
  }:${WEB_PORT}, on primary and backup. t2cp runs as an admin starts it
(the lab itself enters the backup without ssh):

${commands.map((line) => `    ${line}`).join("\n")}

The client downloads the file with curl. Mid-transfer the primary's link is cut.
`;
}

/** `t2cp lab setup`. */
export async function setup(flags: { for: Purpose }): Promise<void> {
  await install(flags.for);
}

/** Installs; a signal that asks to stop is obeyed afterwards, since half-installed helps nobody. */
async function install(purpose: Purpose): Promise<void> {
  const stop = stopSignal();
  try {
    await installPackages(purpose, (line) => console.error(line));
    throwIfInterrupted(stop.signal);
  } finally {
    stop.release();
  }
}

async function runAndReport(
  scenario: Scenario,
  flags: DemoFlags & { name?: string; runs: number; keep?: boolean },
): Promise<void> {
  const output: Output | undefined = flags.json ? openOutput("lab") : undefined;
  const stop = output === undefined ? stopSignal() : undefined;
  const say = progressLine("lines");
  try {
    await runSession({
      scenario,
      runs: flags.runs,
      name: flags.name ?? `run-${Deno.pid}`,
      runDir: flags.runDir,
      // Who reads the events himself gets files only where he asks for them.
      out: flags.out ?? (flags.json ? undefined : defaultDirectory()),
      keep: flags.keep ?? false,
      writer: output?.writer,
      signal: output?.stop ?? stop!.signal,
      say: say.show,
      report: (line) => {
        say.clear();
        if (!flags.json) console.log(line);
      },
      paint: painter(Deno.stdout.isTerminal() && !Deno.noColor),
    });
  } finally {
    say.clear();
    stop?.release();
    await output?.close();
  }
}

/** A new directory among the temporary ones, with the time in its name. */
function defaultDirectory(): string {
  const time = new Date().toISOString().replaceAll(/[-:]|\..*/g, "").replace("T", "-");
  return Deno.makeTempDirSync({ prefix: `t2cp-lab-${time}-` });
}
