/**
 * `t2cp replay`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Service } from "../lib/address.ts";
import { STDIN } from "../lib/capture/open.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runHeal } from "../lib/heal/run.ts";
import { withOutput } from "./context.ts";
import { parsePath, runDirFlag, serviceFlag, statsFlag } from "./flags.ts";
import { analyse } from "./replay_analyse.ts";

interface Flags {
  analyse: boolean;
  notes: boolean;
  filter?: string;
  service?: Service[];
  json: boolean;
  heal: boolean;
  recorder?: string;
  strict: boolean;
  stats?: number;
  runDir: string;
}

async function replay(flags: Flags, capture?: string): Promise<void> {
  if (flags.analyse && flags.heal) {
    throw new Failure(ExitStatus.USAGE, `Flags "--analyse" and "--heal" are two different tasks`, {
      mend: "leave one of them out",
    });
  }
  if (flags.heal) return await heal(flags, capture);
  if (!flags.analyse || capture === undefined) {
    throw new Failure(ExitStatus.USAGE, "What to do is not said, or with which capture", {
      mend: `t2cp replay capture.pcapng --analyse, or t2cp replay --heal --recorder SOCKET`,
    });
  }
  await analyse(capture, flags);
}

async function heal(flags: Flags, capture: string | undefined): Promise<void> {
  const mend = "t2cp replay --heal --recorder /run/t2cp/record.sock";
  if (capture !== undefined) {
    throw new Failure(ExitStatus.USAGE, `"--heal" reads no capture as "${capture}"`, { mend });
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
    positional: {
      kind: "tuple",
      parameters: [{
        brief: `Capture file (pcap or pcapng, also gzip and zstd), or "${STDIN}" for stdin`,
        parse: parsePath,
        placeholder: "CAPTURE",
        optional: true,
      }],
    },
    flags: {
      analyse: {
        kind: "boolean",
        brief: "Tell of the conversations in a capture",
        default: false,
        withNegated: false,
      },
      notes: {
        kind: "boolean",
        brief: "Tell of each gap, retransmission, closed window and such, too",
        default: false,
        withNegated: false,
      },
      filter: {
        kind: "parsed",
        parse: String,
        brief: "Only frames that pass, as pcap-filter(7) writes it",
        placeholder: "FILTER",
        optional: true,
      },
      service: {
        ...serviceFlag,
        brief: "Who is the server where no SYN was captured, as ADDRESS:PORT; may be repeated",
        optional: true,
      },
      json: {
        kind: "boolean",
        brief: "Print events on a terminal, too, instead of a table",
        default: false,
        withNegated: false,
      },
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
    brief: "Analyse captured conversations; heal replicas with recorded traffic",
    fullDescription:
      `With --analyse, reads a capture and tells of its TCP conversations: ends, handshake, options, bytes,
retransmissions, gaps, closed windows, resets. No server is needed.

Example:
  t2cp replay capture.pcapng.zst --analyse | jq 'select(.ended == "reset")'

With --heal, on the backup, reads the events of "t2cp shadow" on stdin and passes them on. Where the
copied traffic lacked bytes, or a replica has fallen behind, it fetches the bytes from "t2cp record" on
the gateway and gives them to the replica, until the replica has acknowledged them. It tells the
recorder what the replicas have, so that it need not keep it.

Example:
  t2cp shadow --interface eth0 --service 10.77.0.100:80 |
    t2cp replay --heal --recorder /run/t2cp/record.sock | tee -a events.ndjson`,
  },
});
