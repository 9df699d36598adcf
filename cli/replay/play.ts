/**
 * `t2cp replay CAPTURE --to …`: what its flags mean.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import type { Service } from "../../lib/address.ts";
import { STDIN } from "../../lib/capture/open.ts";
import { FlowComparison } from "../../lib/compare/flow.ts";
import { Lesson } from "../../lib/compare/learn.ts";
import { Masks } from "../../lib/compare/masks.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import type { Conversation } from "../../lib/conversation/conversation.ts";
import { EventReport, type ReplayReport, TableReport } from "../../lib/replay/report.ts";
import { runReplay } from "../../lib/replay/run.ts";
import { Targets } from "../../lib/replay/targets.ts";
import { withOutput } from "../common/context.ts";
import { progressLine } from "../common/progress.ts";
import type { PlayFlags } from "./play_flags.ts";

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
