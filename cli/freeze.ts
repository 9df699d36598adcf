/**
 * `t2cp freeze`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runFreeze } from "../lib/freeze/run.ts";
import { type ClientPattern, parseClientPattern, parseFlow } from "../lib/freeze/selection.ts";
import { withOutput } from "./common/context.ts";
import { parsePositive, parseType, runDirFlag, strictFlag, targetFlag } from "./common/flags.ts";

interface Flags {
  on?: string;
  now: boolean;
  thaw: boolean;
  lease?: number;
  flow?: readonly Uint8Array[];
  client?: readonly ClientPattern[];
  target?: readonly string[];
  revocable: boolean;
  strict: boolean;
  runDir: string;
}

/** The longest lease, in seconds: a client that waits for longer has given up. */
const MAX_LEASE = 3600;

function parseLease(text: string): number {
  const seconds = parsePositive(text);
  if (seconds <= MAX_LEASE) return seconds;
  throw new Failure(ExitStatus.USAGE, `"${text}" is too long for a lease`, {
    mend: `write ${MAX_LEASE} seconds at most`,
  });
}

/** Refuses flags that have no effect together. */
function requireSense(flags: Flags): void {
  const { on, now, thaw, lease, revocable, strict, target } = flags;
  const refuse = (line: string, mend: string): never => {
    throw new Failure(ExitStatus.USAGE, line, { mend });
  };
  if (now && on !== undefined) {
    refuse(`Flags "--now" and "--on" exclude each other`, "give one of them");
  }
  const aboutEvents = strict ? "--strict" : target !== undefined ? "--target" : undefined;
  if (now && aboutEvents !== undefined) {
    refuse(`Flag "${aboutEvents}" is about events, which "--now" does not read`, "leave it out");
  }
  const aboutFreezing = lease !== undefined ? "--lease" : revocable ? "--revocable" : undefined;
  if (thaw && aboutFreezing !== undefined) {
    refuse(`Flag "${aboutFreezing}" has no meaning with "--thaw"`, "leave it out");
  }
}

async function freeze(flags: Flags): Promise<void> {
  requireSense(flags);
  const options = {
    runDir: flags.runDir,
    on: flags.now ? undefined : flags.on ?? (flags.thaw ? "active" : "failed"),
    targets: flags.target ?? [],
    thaw: flags.thaw,
    lease: (flags.lease ?? 10) * 1000,
    selection: { flows: flags.flow ?? [], clients: flags.client ?? [] },
    revocable: flags.revocable,
    strict: flags.strict,
  };
  const warn = (message: string): void => console.error(`t2cp freeze: ${message}`);
  await withOutput("freeze", ({ writer, emitter, interrupted }) => {
    const input = Deno.stdin.readable;
    return runFreeze(options, { input, writer, emitter, warn, interrupted });
  });
}

/**
 * The `freeze` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: freeze,
  parameters: {
    flags: {
      on: {
        kind: "parsed",
        parse: parseType,
        brief: "Type of the event that asks for it; failed unless given, active with --thaw",
        placeholder: "TYPE",
        optional: true,
      },
      now: {
        kind: "boolean",
        brief: "Freeze or thaw at once, without reading events",
        default: false,
        withNegated: false,
      },
      thaw: {
        kind: "boolean",
        brief: "Thaw what is frozen",
        default: false,
        withNegated: false,
      },
      lease: {
        kind: "parsed",
        parse: parseLease,
        brief: "Thaw after so many seconds; 10 unless given",
        placeholder: "SECONDS",
        optional: true,
      },
      flow: {
        kind: "parsed",
        parse: parseFlow,
        brief: "This flow, as CLIENT=SERVICE, both ADDRESS:PORT; may be repeated",
        placeholder: "FLOW",
        variadic: true,
        optional: true,
      },
      client: {
        kind: "parsed",
        parse: parseClientPattern,
        brief: "Flows of these clients: ADDRESS, ADDRESS/BITS or ADDRESS:PORT; may be repeated",
        placeholder: "PATTERN",
        variadic: true,
        optional: true,
      },
      target: targetFlag,
      revocable: {
        kind: "boolean",
        brief: "Acknowledge nothing that the primary has not, so that it may go on",
        default: false,
        withNegated: false,
      },
      strict: strictFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Freeze flows by closed windows until the backup has taken over",
    fullDescription:
      `Waits for a failed event on stdin, then tells the clients that the window is closed, and
answers their probes, until the backup has taken over or the lease ends.
With --thaw, waits for an active event, then tells them that it is open.
Every event passes through to stdout, with frozen and thawed events added.

Examples, on the backup:
  t2cp detect --peer 10.77.0.11 | t2cp takeover --fence /run/t2cp/gateway-fence.sock |
    t2cp freeze --on failed | t2cp freeze --thaw --on active | tee -a events.ndjson
  t2cp freeze --now --client 10.77.1.0/24 --lease 30`,
  },
});
