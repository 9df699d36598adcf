/**
 * `t2cp replay CAPTURE --to …`: plays captured conversations to a live server.
 *
 * @module
 */
import { TcpClients } from "../../ffi/tcp_client.ts";
import { STDIN } from "../capture/open.ts";
import type { Conversation } from "../conversation/conversation.ts";
import { readConversations } from "../conversation/read.ts";
import type { Totals } from "../conversation/totals.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { type Outcome, outcomes, type ReplayResultFields } from "../vocabulary/replay.ts";
import type { AnswerCheck } from "./answer_check.ts";
import { Intake, type Selection } from "./intake.ts";
import { Player, type PlayerOptions } from "./player.ts";
import { flowFields, type ReplayReport, skippedFields } from "./report.ts";
import { ReadAhead } from "./script.ts";
import { SkipTally } from "./skip.ts";
import type { Targets } from "./targets.ts";
import { type Pace, Timeline } from "./timeline.ts";

/** Settings of {@linkcode runReplay}. Times in milliseconds but those of {@linkcode Pace}. */
export interface ReplayOptions extends PlayerOptions, Pace, Selection {
  /** The capture file, or `-` for standard input. */
  readonly file: string;
  /** Only frames that pass count, in pcap-filter(7)'s language; empty for all. */
  readonly filter: string;
  /** Who is a server where no SYN was captured, beside those that the targets name. */
  readonly servers: readonly { readonly address: string; readonly port: number }[];
  /** How often the capture is played. */
  readonly loop: number;
  /** Further counters for the result. */
  readonly counts?: () => Record<string, number>;
  /** Bytes of memory for what is read and not yet played. */
  readonly readAhead: number;
}

/** How often progress is told, in milliseconds. */
const PROGRESS = 100;

/**
 * Plays a capture. Makes a comparison for each conversation by `makeCheck`.
 *
 * @returns whether all live answers were as captured
 * @throws {BadCapture} where the capture is broken, after all that comes before was played
 * @throws {Failure} where it cannot be read, has nothing to play, or nothing of it could be played
 */
export async function runReplay(
  options: ReplayOptions,
  targets: Targets,
  makeCheck: (conversation: Conversation) => AnswerCheck,
  report: ReplayReport,
  stop: AbortSignal,
): Promise<boolean> {
  if (options.loop > 1 && options.file === STDIN) {
    throw new Failure(ExitStatus.USAGE, "Standard input can be played once only", {
      mend: "leave out --loop, or name a file",
    });
  }
  using clients = new TcpClients();
  const run = new Run(options, targets, makeCheck, report, clients);
  return await run.run(stop);
}

class Run {
  readonly #options: ReplayOptions;
  readonly #targets: Targets;
  readonly #report: ReplayReport;
  readonly #start = performance.now();
  readonly #readAhead: ReadAhead;
  readonly #timeline: Timeline;
  readonly #player: Player;
  readonly #intake: Intake;
  readonly #enough = new AbortController();
  readonly #counts = Object.fromEntries(outcomes.map((name) => [name, 0])) as Record<
    Outcome,
    number
  >;
  readonly #skips = new SkipTally();
  #totals: Totals | undefined;
  #passes = 0;
  #complete = false;

  constructor(
    options: ReplayOptions,
    targets: Targets,
    makeCheck: (conversation: Conversation) => AnswerCheck,
    report: ReplayReport,
    clients: TcpClients,
  ) {
    this.#options = options;
    this.#targets = targets;
    this.#report = report;
    const readAhead = this.#readAhead = new ReadAhead(options.readAhead);
    const timeline = this.#timeline = new Timeline(options, () => performance.now() - this.#start);
    const player = this.#player = new Player(options, {
      ...{ clients, readAhead },
      clock: () => performance.now(),
      onFinished: (result) => {
        this.#counts[result.outcome]++;
        if (result.skip !== undefined) this.#skips.add(result.skip);
        report.flow(flowFields(result, options.loop));
      },
      busy: () => report.busy(),
    });
    this.#intake = new Intake(options, {
      ...{ targets, timeline, readAhead, makeCheck },
      onScript: (script) => player.take(script),
      onMore: (script) => player.fed(script),
      onSkipped: (conversation, pass, skip) => {
        this.#counts.skipped++;
        this.#skips.add(skip);
        report.flow(skippedFields(conversation, pass, options.loop, skip.text));
      },
      onEnough: () => this.#enough.abort(),
    });
  }

  async run(stop: AbortSignal): Promise<boolean> {
    const { file, speed, concurrency, loop } = this.#options;
    const pace = Number.isFinite(speed) ? { speed } : { top_speed: true };
    this.#report.begin({ capture: file, ...pace, concurrency, loop });
    const timer = setInterval(
      () => this.#report.progress(this.#result(), this.#player.open),
      PROGRESS,
    );
    let reading: PromiseSettledResult<void>;
    try {
      const playing = this.#player.run(stop);
      [reading] = await Promise.allSettled([
        this.#read(stop).finally(() => this.#player.readAll()),
      ]);
      await playing;
    } finally {
      clearInterval(timer);
    }
    this.#complete = reading.status === "fulfilled" && !stop.aborted;
    const result = this.#result();
    this.#report.result(result);
    if (reading.status === "rejected") throw reading.reason;
    if (result.flows === 0 && !stop.aborted) throw nothing(file, this.#intake.leftOut);
    const { equal, opaque, skipped } = this.#counts;
    if (skipped === result.flows && !stop.aborted) throw this.#skips.failure(file);
    return equal + opaque + skipped === result.flows;
  }

  /** Reads the capture as often as it is to be played. */
  async #read(stop: AbortSignal): Promise<void> {
    const { file, filter, loop } = this.#options;
    const servers = [...this.#options.servers, ...this.#targets.servers];
    const warn = (message: string): void => this.#report.warn(message);
    const begun = (totals: Totals): void => void (this.#totals = totals);
    const signal = AbortSignal.any([stop, this.#enough.signal]);
    for (let pass = 1; pass <= loop && !signal.aborted; pass++) {
      this.#intake.pass = pass;
      this.#timeline.rewind();
      await readConversations({ file, filter, servers, warn, begun }, this.#intake, signal);
      this.#passes = pass;
    }
  }

  #result(): ReplayResultFields {
    const { sent, received, messages, openMax, postponed, queued, late, lagMax } = this.#player;
    const {
      missing_bytes = 0,
      evicted = 0,
      malformed = 0,
      cut = 0,
      fragments = 0,
      lost = 0,
    } = this.#totals ?? {};
    return {
      capture: this.#options.file,
      complete: this.#complete,
      flows: this.#intake.chosen,
      outcomes: { ...this.#counts },
      ...{ sent, received, messages },
      took_ms: Math.round(performance.now() - this.#start),
      counters: {
        passes: this.#passes,
        left_out: this.#intake.leftOut,
        queued,
        open_max: openMax,
        postponed,
        late,
        lag_max_ms: Math.round(lagMax),
        read_ahead: this.#readAhead.held,
        read_ahead_max: this.#readAhead.heldMax,
        missing_bytes,
        evicted,
        malformed,
        cut,
        fragments,
        lost,
        ...this.#options.counts?.(),
      },
    };
  }
}

function nothing(file: string, leftOut: number): Failure {
  const why = leftOut > 0 ? `, and ${leftOut} were not selected` : "";
  return new Failure(ExitStatus.BAD_INPUT, `"${file}" has no conversation to play${why}`, {
    mend: "see t2cp replay CAPTURE --analyse",
  });
}
