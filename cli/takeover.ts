/**
 * `t2cp takeover`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { ANNOUNCE } from "../lib/claim/agenda.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import type { FenceRule } from "../lib/takeover/fences.ts";
import { runTakeover } from "../lib/takeover/run.ts";
import { withOutput } from "./common/context.ts";
import {
  parsePath,
  parsePositive,
  parseType,
  runDirFlag,
  strictFlag,
  targetFlag,
  wholeNumber,
} from "./common/flags.ts";

interface Flags {
  on?: string;
  now: boolean;
  planned: boolean;
  plannedTimeout?: number;
  target?: readonly string[];
  fence: FenceRule | { socket: string };
  fenceTimeout: number;
  strict: boolean;
  detach: boolean;
  announce?: number;
  announceInterval?: number;
  announceRefresh?: number;
  runDir: string;
}

function parseFence(text: string): FenceRule | { socket: string } {
  if (text === "auto" || text === "require" || text === "none") return text;
  if (text.startsWith("/")) return { socket: parsePath(text) };
  throw new Failure(ExitStatus.USAGE, `"${text}" does not say which fence to wait for`, {
    mend: `write "auto", "require", "none", or the absolute path of a fence's control socket`,
  });
}

/** Longer than replicas are behind, in seconds. */
const PLANNED_TIMEOUT = 1;

function usage(message: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, message, { mend });
}

/** Refuses what does not go with --planned, and what does not go without it. */
function checkPlanned({ planned, plannedTimeout, now, on, fence }: Flags): void {
  if (!planned && plannedTimeout !== undefined) {
    usage(`Flag "--planned-timeout" is of no use without "--planned"`, "give both, or neither");
  }
  if (!planned) return;
  if (now || on !== undefined) {
    usage(`Flags "--planned" and "--${now ? "now" : "on"}" exclude each other`, "give one of them");
  }
  if (typeof fence !== "string") return;
  usage(
    `Without a fence both hosts would speak: "--planned" needs the control socket of one`,
    `give its absolute path with "--fence"`,
  );
}

/** What is about events does not go with --now or --planned. */
function refuseEvents(flags: Flags): void {
  const useless = [
    ...(flags.strict ? ["--strict"] : []),
    ...(flags.target === undefined ? [] : ["--target"]),
    ...(flags.fence === "require" ? ["--fence require"] : []),
  ][0];
  if (useless === undefined) return;
  throw new Failure(
    ExitStatus.USAGE,
    `Flag "${useless}" is about events, which "--${
      flags.planned ? "planned" : "now"
    }" does not read`,
    { mend: "leave it out" },
  );
}

async function takeover(flags: Flags): Promise<void> {
  if (flags.now && flags.on !== undefined) {
    throw new Failure(ExitStatus.USAGE, `Flags "--now" and "--on" exclude each other`, {
      mend: "give one of them",
    });
  }
  checkPlanned(flags);
  if (flags.now || flags.planned) refuseEvents(flags);
  const options = {
    runDir: flags.runDir,
    on: flags.now || flags.planned ? undefined : flags.on ?? "failed",
    planned: flags.planned ? (flags.plannedTimeout ?? PLANNED_TIMEOUT) * 1000 : undefined,
    targets: flags.target ?? [],
    fence: flags.fence,
    fenceTimeout: flags.fenceTimeout * 1000,
    strict: flags.strict,
    detach: flags.detach,
    announce: {
      count: flags.announce ?? ANNOUNCE.count,
      interval: flags.announceInterval ?? ANNOUNCE.interval,
      refresh: (flags.announceRefresh ?? 0) * 1000,
    },
  };
  const warn = (message: string): void => console.error(`t2cp takeover: ${message}`);
  await withOutput("takeover", ({ writer, emitter, interrupted }) => {
    const input = Deno.stdin.readable;
    return runTakeover(options, { input, writer, emitter, warn, interrupted });
  });
}

/**
 * The `takeover` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: takeover,
  parameters: {
    flags: {
      on: {
        kind: "parsed",
        parse: parseType,
        brief: "Type of the event that asks for the takeover; failed unless given",
        placeholder: "TYPE",
        optional: true,
      },
      now: {
        kind: "boolean",
        brief: "Take over at once, without reading events",
        default: false,
        withNegated: false,
      },
      planned: {
        kind: "boolean",
        brief:
          "Switch over at once from a primary that lives, and lose nothing; needs --fence SOCKET",
        default: false,
        withNegated: false,
      },
      plannedTimeout: {
        kind: "parsed",
        parse: parsePositive,
        brief: "How long the replicas may take to catch up; 1 unless given. Then nothing changes",
        placeholder: "SECONDS",
        optional: true,
      },
      target: targetFlag,
      fence: {
        kind: "parsed",
        parse: parseFence,
        brief: "Wait for a fence: auto where one is upstream, require, none, or ask at its socket",
        placeholder: "auto|require|none|SOCKET",
        default: "auto",
      },
      fenceTimeout: {
        kind: "parsed",
        parse: parsePositive,
        brief: "How long a fence may take; then nothing is taken over",
        placeholder: "SECONDS",
        default: "2",
      },
      strict: strictFlag,
      detach: {
        kind: "boolean",
        brief: "Remove the programs once every connection goes on by itself",
        default: false,
        withNegated: false,
      },
      announce: {
        kind: "parsed",
        parse: wholeNumber(1, 100),
        brief: `Times that the address is announced; ${ANNOUNCE.count} unless given`,
        placeholder: "COUNT",
        optional: true,
      },
      announceInterval: {
        kind: "parsed",
        parse: wholeNumber(1, 10_000),
        brief: `Milliseconds before the second announcement; ${ANNOUNCE.interval} unless given. ` +
          "Each further pause is twice as long",
        placeholder: "MS",
        optional: true,
      },
      announceRefresh: {
        kind: "parsed",
        parse: parsePositive,
        brief: "Announce again every so many seconds, as long as the command runs",
        placeholder: "SECONDS",
        optional: true,
      },
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Take over the service's address and its connections, on the backup",
    fullDescription:
      `Waits for a failed event on stdin, then makes the replica that "t2cp shadow" keeps
answer the clients, announces the service's address, and wakes every connection.
Every event passes through to stdout, with an active event added.

Where "t2cp fence" is upstream, waits for it first, so that never both hosts speak.

Examples, on the backup:
  t2cp detect --peer 10.77.0.11 | t2cp takeover --on failed | tee -a events.ndjson
  t2cp takeover --now --fence /run/t2cp/gateway-fence.sock
  t2cp takeover --planned --fence /run/t2cp/gateway-fence.sock`,
  },
});
