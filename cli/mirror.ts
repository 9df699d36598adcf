/**
 * `t2cp mirror`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Service } from "../lib/address.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runMirror } from "../lib/mirror/mirror.ts";
import { withOutput } from "./common/context.ts";
import {
  parseHost,
  parseInterface,
  parseName,
  runDirFlag,
  serviceFlag,
  statsFlag,
  wholeNumber,
} from "./common/flags.ts";

interface Flags {
  interface: string;
  primary: string;
  backup: string;
  service: Service[];
  payload: boolean;
  commit: boolean;
  commitTimeout?: number;
  holdResets: number;
  unanswered?: number;
  resets?: number;
  target?: string;
  flows: boolean;
  stats?: number;
  runDir: string;
}

/** Longer than most clients take to send again what was lost, in milliseconds. */
const COMMIT_TIMEOUT = 1000;

/** Time enough for detecting a failure and taking over, in milliseconds; a backup waits a second for its primary's. */
const HOLD_RESETS = 500;

async function mirror(flags: Flags): Promise<void> {
  if (flags.commitTimeout !== undefined && !flags.commit) {
    throw new Failure(ExitStatus.USAGE, `Flag "--commit-timeout" is of no use without "--commit"`, {
      mend: "give both, or neither",
    });
  }
  if (
    flags.target !== undefined && flags.unanswered === undefined && flags.resets === undefined
  ) {
    throw new Failure(
      ExitStatus.USAGE,
      `Flag "--target" is of no use without "--unanswered" or "--resets"`,
      { mend: "give one of them, or leave it out" },
    );
  }
  const { commitTimeout = COMMIT_TIMEOUT, target = flags.primary } = flags;
  const options = { ...flags, commitTimeout, target, services: flags.service };
  await withOutput("mirror", ({ emitter, stop }) => runMirror(options, emitter, stop));
}

/**
 * The `mirror` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: mirror,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to the servers",
        placeholder: "NAME",
      },
      primary: {
        kind: "parsed",
        parse: parseHost,
        brief: "The primary's MAC or own IP address",
        placeholder: "HOST",
      },
      backup: {
        kind: "parsed",
        parse: parseHost,
        brief: "The backup's MAC or own IP address",
        placeholder: "HOST",
      },
      service: serviceFlag,
      payload: {
        kind: "boolean",
        brief: "Copy the primary's segments whole, not just their headers",
        default: false,
        withNegated: false,
      },
      commit: {
        kind: "boolean",
        brief: "Tell the client only what both servers have acknowledged",
        default: false,
        withNegated: false,
      },
      commitTimeout: {
        kind: "parsed",
        parse: wholeNumber(10, 60_000),
        brief: "How long a client waits for the backup, 10 to 60000 ms; 1000 unless given",
        placeholder: "MS",
        optional: true,
      },
      holdResets: {
        kind: "parsed",
        parse: wholeNumber(0, 60_000),
        brief: "How long to hold back the primary's resets, up to 60000 ms; 0 for not at all",
        placeholder: "MS",
        default: String(HOLD_RESETS),
      },
      unanswered: {
        kind: "parsed",
        parse: wholeNumber(10, 60_000),
        brief: "Suspect a primary that leaves clients unanswered for longer, 10 to 60000 ms",
        placeholder: "MS",
        optional: true,
      },
      resets: {
        kind: "parsed",
        parse: wholeNumber(1, 1_000_000),
        brief: "Suspect a primary that sends as many resets within a second",
        placeholder: "N",
        optional: true,
      },
      target: {
        kind: "parsed",
        parse: parseName,
        brief: "Name of the primary in such events; what --primary says unless given",
        placeholder: "NAME",
        optional: true,
      },
      flows: { kind: "boolean", brief: "Report every opened and closed flow", default: false },
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Copy the service's traffic to the backup, on the gateway",
    fullDescription:
      `Copies what passes between the clients and the primary to the backup, in the kernel.
It ends by itself for a flow as soon as the service's address moves to another host.

With --commit, and "t2cp shadow --commit" on the backup, the client is told no acknowledgement
before both servers have the bytes.

Resets of the primary wait for --hold-resets: those of a dying process must not reach the client
before the backup has taken over. Where it has not by then, they go on.

With --unanswered and --resets the clients' traffic itself raises suspicion, which "t2cp detect"
takes as a reason to probe at once.

Examples, on the gateway:
  t2cp mirror --interface br0 --primary 10.77.0.11 --backup 10.77.0.12 --service 10.77.0.100:80
  t2cp mirror --interface br0 --primary 10.77.0.11 --backup 10.77.0.12 --service 10.77.0.100:80 \\
    --commit --commit-timeout 500
  t2cp mirror --interface br0 --primary 10.77.0.11 --backup 10.77.0.12 --service 10.77.0.100:80 \\
    --hold-resets 1000
  t2cp mirror --interface br0 --primary 10.77.0.11 --backup 10.77.0.12 --service 10.77.0.100:80 \\
    --unanswered 300 --resets 20 --target primary`,
  },
});
