/**
 * `t2cp takeover`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runTakeover } from "../lib/takeover/run.ts";
import { withOutput } from "./context.ts";
import { parseType, runDirFlag } from "./flags.ts";

interface Flags {
  on?: string;
  now: boolean;
  strict: boolean;
  detach: boolean;
  runDir: string;
}

async function takeover(flags: Flags): Promise<void> {
  if (flags.now && flags.on !== undefined) {
    throw new Failure(ExitStatus.USAGE, `Flags "--now" and "--on" exclude each other`, {
      mend: "give one of them",
    });
  }
  if (flags.now && flags.strict) {
    throw new Failure(
      ExitStatus.USAGE,
      `Flag "--strict" is about events, which "--now" does not read`,
      {
        mend: "leave it out",
      },
    );
  }
  const options = {
    runDir: flags.runDir,
    on: flags.now ? undefined : flags.on ?? "failed",
    strict: flags.strict,
    detach: flags.detach,
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
      strict: {
        kind: "boolean",
        brief: "End at an input line that is no event",
        default: false,
        withNegated: false,
      },
      detach: {
        kind: "boolean",
        brief: "Remove the programs once every connection goes on by itself",
        default: false,
        withNegated: false,
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

Example, on the backup:
  t2cp detect --peer 10.77.0.11 | t2cp takeover --on failed | tee -a events.ndjson`,
  },
});
