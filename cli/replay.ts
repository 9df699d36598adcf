/**
 * `t2cp replay`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runHeal } from "../lib/heal/run.ts";
import { withOutput } from "./context.ts";
import { parsePath, runDirFlag, statsFlag } from "./flags.ts";

interface Flags {
  heal: boolean;
  recorder?: string;
  strict: boolean;
  stats?: number;
  runDir: string;
}

async function replay(flags: Flags): Promise<void> {
  const mend = "t2cp replay --heal --recorder /run/t2cp/record.sock";
  if (!flags.heal) {
    throw new Failure(ExitStatus.USAGE, `Flag "--heal" says what to do, and is needed`, { mend });
  }
  const { recorder } = flags;
  if (recorder === undefined) {
    throw new Failure(ExitStatus.USAGE, `Flag "--recorder" is needed with "--heal"`, { mend });
  }
  const warn = (message: string): void => console.error(`t2cp replay: ${message}`);
  await withOutput("replay", ({ writer, emitter, stop }) => {
    const input = Deno.stdin.readable;
    return runHeal({ ...flags, recorder }, { input, writer, emitter, warn, stop });
  });
}

/**
 * The `replay` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: replay,
  parameters: {
    flags: {
      heal: {
        kind: "boolean",
        brief: "Give the replicas on this host what the copied traffic lacked",
        default: false,
        withNegated: false,
      },
      recorder: {
        kind: "parsed",
        parse: parsePath,
        brief: "Socket of t2cp record, from which bytes are fetched",
        placeholder: "SOCKET",
        optional: true,
      },
      strict: {
        kind: "boolean",
        brief: "End at an input line that is no event",
        default: false,
        withNegated: false,
      },
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Heal replicas with recorded traffic, on the backup",
    fullDescription:
      `Reads the events of "t2cp shadow" on stdin and passes them on. Where the copied traffic
lacked bytes, or a replica has fallen behind, it fetches the bytes from "t2cp record" on the
gateway and gives them to the replica, until the replica has acknowledged them. It tells the
recorder what the replicas have, so that it need not keep it.

Example, on the backup:
  t2cp shadow --interface eth0 --service 10.77.0.100:80 |
    t2cp replay --heal --recorder /run/t2cp/record.sock | tee -a events.ndjson`,
  },
});
