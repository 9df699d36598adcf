/**
 * `t2cp replay`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Service } from "../lib/address.ts";
import { STDIN } from "../lib/capture/open.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { withOutput } from "./common/context.ts";
import { parsePath, runDirFlag, serviceFlag, statsFlag, strictFlag } from "./common/flags.ts";
import { type PlayFlags, playFlags } from "./replay/play_flags.ts";

interface Flags extends PlayFlags {
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

/** What the command can do, and the flags that each of it takes. */
const tasks = {
  "--analyse": ["analyse", "notes", "filter", "service", "json"],
  "--heal": ["heal", "recorder", "strict", "stats", "runDir"],
  "a live server": ["filter", "service", "json", "stats", ...Object.keys(playFlags)],
} as const;

async function replay(flags: Flags, capture?: string): Promise<void> {
  if (flags.heal) {
    refuseOthers(flags, "--heal");
    return await heal(flags, capture);
  }
  const plays = flags.to !== undefined || flags.map !== undefined;
  if (capture === undefined || !flags.analyse && !plays) {
    throw new Failure(ExitStatus.USAGE, "What to do is not said, or with which capture", {
      mend: `t2cp replay capture.pcapng --to HOST:PORT, t2cp replay capture.pcapng --analyse, \
or t2cp replay --heal --recorder SOCKET`,
    });
  }
  refuseOthers(flags, flags.analyse ? "--analyse" : "a live server");
  // Only what the task needs is loaded.
  if (flags.analyse) await (await import("./replay/analyse.ts")).analyse(capture, flags);
  else await (await import("./replay/play.ts")).play(capture, flags);
}

/** Refuses flags that would have no effect. */
function refuseOthers(flags: Flags, task: keyof typeof tasks): void {
  // What has a default is always there.
  const others = Object.entries(flags).filter(([, value]) => value !== undefined && value !== false)
    .map(([name]) => name).filter((name) => name !== "runDir");
  const known: readonly string[] = tasks[task];
  const other = others.find((name) => !known.includes(name));
  if (other === undefined) return;
  const flag = other.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new Failure(ExitStatus.USAGE, `Flag "--${flag}" has no effect with ${task}`, {
    mend: "leave one of them out",
  });
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
  const { runHeal } = await import("../lib/heal/run.ts");
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
      ...playFlags,
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
      strict: strictFlag,
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Play captured conversations to a live server, or analyse them; heal replicas",
    fullDescription:
      `With --to, plays the clients of a capture to a live server, by connections of its own, in the time
of the capture, and compares the answers with those that were captured. A message that followed an
answer in the capture waits for it. Exit status 1 says that something differs.

Examples:
  t2cp replay capture.pcapng --to staging:80
  t2cp replay capture.pcapng --to 127.0.0.1:8080 --top-speed --loop 10 --concurrency 100
  t2cp replay capture.pcapng --map 10.0.0.1:80=web:8080 --map 10.0.0.2=db --filter 'tcp port 80'

Live traffic, to a staging server beside the real one:
  t2cp record --follow --interface eth0 --service 10.0.0.1:80 |
    t2cp replay - --to staging:80 --max-lag 5 --mask @http --mask 'id="[0-9a-f]+"'

With --analyse, reads a capture and tells of its TCP conversations: ends, handshake, options, bytes,
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
