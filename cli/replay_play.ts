/**
 * `t2cp replay CAPTURE --to …`: its flags.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import type { Service } from "../lib/address.ts";
import { STDIN } from "../lib/capture/open.ts";
import { FlowComparison } from "../lib/compare/flow.ts";
import { Lesson } from "../lib/compare/learn.ts";
import { Masks } from "../lib/compare/masks.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import type { Conversation } from "../lib/conversation/conversation.ts";
import { EventReport, type ReplayReport, TableReport } from "../lib/replay/report.ts";
import { runReplay } from "../lib/replay/run.ts";
import {
  type Mapping,
  parseCapturedEndpoint,
  parseMapping,
  parsePartialEndpoint,
  type PartialEndpoint,
  Targets,
} from "../lib/replay/targets.ts";
import { withOutput } from "./context.ts";
import { parsePositive, parseSize, wholeNumber } from "./flags.ts";
import { progressLine } from "./progress.ts";

/** What the flags of the player say. */
export interface PlayFlags {
  /** The live server. */
  to?: PartialEndpoint;
  /** Live servers for captured ones. */
  map?: readonly Mapping[];
  /** How much faster than captured. */
  speed?: number;
  /** As fast as possible. */
  topSpeed: boolean;
  /** The longest pause, in seconds. */
  idleCap?: number;
  /** Connections at once. */
  concurrency?: number;
  /** How often the capture is played. */
  loop?: number;
  /** How many conversations, at most. */
  limit?: number;
  /** Only these clients. */
  client?: readonly PartialEndpoint[];
  /** Only these conversations. */
  flow?: readonly number[];
  /** The longest wait, in seconds. */
  wait?: number;
  /** How long an answer that lacks bytes is silent before it has ended, in seconds. */
  settle?: number;
  /** How late a message may be, in seconds. */
  maxLag?: number;
  /** What may differ. */
  mask?: readonly string[];
  /** Learn from two runs what may differ. */
  learnMask: boolean;
  /** Bytes too many. */
  excess?: number;
  /** Memory for what waits to be played, in bytes. */
  readAhead?: number;
}

/** What the player takes of the flags that it shares with other tasks of the command. */
export interface SharedFlags {
  /** Which frames count. */
  filter?: string;
  /** Who is a server. */
  service?: readonly Service[];
  /** Events instead of a table. */
  json: boolean;
  /** Seconds between `stats` events. */
  stats?: number;
}

const MIB = 1 << 20;
/** What the flags are unless given; the help says it, too. */
const CONCURRENCY = 10_000;
const WAIT = 10;
const SETTLE = 1;
const EXCESS = 16 * MIB;
const READ_AHEAD = 64 * MIB;

/** Plays the capture file, or standard input where that is `-`. */
export async function play(file: string, flags: PlayFlags & SharedFlags): Promise<void> {
  const { to, map = [], speed, topSpeed, json } = flags;
  if (speed !== undefined && topSpeed) {
    throw new Failure(ExitStatus.USAGE, `Flags "--speed" and "--top-speed" contradict each other`, {
      mend: "leave one of them out",
    });
  }
  const targets = await Targets.resolve(to, map, async (name) => {
    const found = await lookup(name, { all: true });
    return found.map(({ address }) => address);
  });
  if (flags.maxLag !== undefined && (speed !== undefined || topSpeed)) {
    throw new Failure(ExitStatus.USAGE, `Flag "--max-lag" counts in the time of the capture`, {
      mend: "leave out --speed and --top-speed",
    });
  }
  if (flags.learnMask && file === STDIN) {
    throw new Failure(ExitStatus.USAGE, "Standard input cannot be played twice", {
      mend: "leave out --learn-mask, or name a file",
    });
  }
  const masks = new Masks([...(flags.learnMask ? ["@http"] : []), ...(flags.mask ?? [])]);
  const lesson = new Lesson(masks);
  const options = {
    file,
    filter: flags.filter ?? "",
    servers: flags.service ?? [],
    speed: topSpeed ? Infinity : speed ?? 1,
    idleCap: flags.idleCap ?? Infinity,
    concurrency: flags.concurrency ?? CONCURRENCY,
    loop: flags.loop ?? 1,
    flows: flags.flow ?? [],
    clients: flags.client ?? [],
    limit: flags.limit ?? Infinity,
    wait: (flags.wait ?? WAIT) * 1000,
    settle: (flags.settle ?? SETTLE) * 1000,
    maxLag: (flags.maxLag ?? Infinity) * 1000,
    counts: () => ({
      unmasked_lines: masks.unmasked,
      ...(flags.learnMask
        ? {
          learnt_masks: lesson.learnt.length,
          unlearnt_lines: lesson.unlearnt,
          forgotten_bytes: lesson.forgotten,
        }
        : {}),
    }),
    excess: flags.excess ?? EXCESS,
    readAhead: flags.readAhead ?? READ_AHEAD,
  };
  await withOutput("replay", async ({ writer, emitter, stop }) => {
    const line = progressLine("nothing");
    const report = !json && Deno.stdout.isTerminal()
      ? new TableReport(writer, line)
      : new EventReport(emitter, writer, flags.stats);
    try {
      let check = (_: Conversation): FlowComparison => new FlowComparison(masks);
      if (flags.learnMask) {
        const first = { ...options, loop: 1 };
        await runReplay(first, targets, ({ number }) => lesson.first(number), SILENT, stop);
        check = ({ number }) => lesson.second(number);
      }
      const equal = await runReplay(options, targets, check, report, stop);
      for (const mask of lesson.learnt) console.error(`t2cp replay: learnt --mask '${mask}'`);
      if (equal) return;
      throw new Failure(ExitStatus.DIFFERS, "Not all live answers are the captured ones");
    } finally {
      line.clear();
    }
  });
}

/** Tells nothing: of the run that is only to learn from. */
const SILENT: ReplayReport = {
  begin() {},
  flow() {},
  progress() {},
  result() {},
  warn() {},
  busy: () => undefined,
};

/**
 * The flags of the player.
 *
 * @ignore
 */
export const playFlags = {
  to: {
    kind: "parsed",
    parse: parsePartialEndpoint,
    brief: "Play the conversations to this live server; without a port, to the captured ones",
    placeholder: "HOST:PORT",
    optional: true,
  },
  map: {
    kind: "parsed",
    parse: parseMapping,
    brief: "Another live server for captured ADDRESS, ADDRESS:PORT or :PORT; may be repeated",
    placeholder: "FROM=TO",
    variadic: true,
    optional: true,
  },
  speed: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Play so many times as fast as captured; 1 unless given",
    placeholder: "N",
    optional: true,
  },
  topSpeed: {
    kind: "boolean",
    brief: "Play as fast as the server answers",
    default: false,
    withNegated: false,
  },
  idleCap: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Shorten longer pauses of the capture to so many seconds",
    placeholder: "SECONDS",
    optional: true,
  },
  concurrency: {
    kind: "parsed",
    parse: wholeNumber(1, 1_000_000),
    brief: "Conversations at once, at most; 10000 unless given",
    placeholder: "N",
    optional: true,
  },
  loop: {
    kind: "parsed",
    parse: wholeNumber(1, 1_000_000_000),
    brief: "Play the capture so many times; once unless given",
    placeholder: "N",
    optional: true,
  },
  limit: {
    kind: "parsed",
    parse: wholeNumber(1, 1_000_000_000_000),
    brief: "Play so many conversations, at most",
    placeholder: "N",
    optional: true,
  },
  client: {
    kind: "parsed",
    parse: parseCapturedEndpoint,
    brief: "Play only conversations of this captured client; may be repeated",
    placeholder: "ADDRESS[:PORT]",
    variadic: true,
    optional: true,
  },
  flow: {
    kind: "parsed",
    parse: wholeNumber(0, 1_000_000_000_000),
    brief: "Play only the conversation of this number, as --analyse counts; may be repeated",
    placeholder: "N",
    variadic: true,
    optional: true,
  },
  wait: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Longest wait for a connection, an answer, or the server's reading; 10 unless given",
    placeholder: "SECONDS",
    optional: true,
  },
  settle: {
    kind: "parsed",
    parse: parsePositive,
    brief: "An answer that lacks bytes has ended after such a silence; 1 unless given",
    placeholder: "SECONDS",
    optional: true,
  },
  maxLag: {
    kind: "parsed",
    parse: parsePositive,
    brief: "Skip a conversation that gets so many seconds late, as live traffic may",
    placeholder: "SECONDS",
    optional: true,
  },
  mask: {
    kind: "parsed",
    parse: String,
    brief: "What may differ in a line of an answer, or a preset such as @http; may be repeated",
    placeholder: "REGEX",
    variadic: true,
    optional: true,
  },
  learnMask: {
    kind: "boolean",
    brief: "Play twice, and mask what differs between the two runs; implies --mask @http",
    default: false,
    withNegated: false,
  },
  excess: {
    kind: "parsed",
    parse: parseSize(0, 2 ** 40),
    brief: "Give a server up that says so much more than captured; 16M unless given",
    placeholder: "SIZE",
    optional: true,
  },
  readAhead: {
    kind: "parsed",
    parse: parseSize(1 << 16, 2 ** 40),
    brief: "Memory for what was read and not yet played; 64M unless given",
    placeholder: "SIZE",
    optional: true,
  },
} as const;
