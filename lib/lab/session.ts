/**
 * Runs a scenario as often as asked and writes what it gives: events, pictures, a report.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";
import { drawPicture } from "./picture.ts";
import { NdjsonWriter } from "../ndjson.ts";
import { Recorder } from "./recorder.ts";
import {
  describeScenario,
  moments,
  type Paint,
  reportResult,
  reportRun,
  verbOf,
} from "./report.ts";
import { type Result, sumUp } from "./result.ts";
import { runOnce } from "./run.ts";
import type { Measures, Scenario } from "./scenario.ts";

/** How a scenario is run. */
export interface SessionOptions {
  /** What is run. */
  scenario: Scenario;
  /** How often. */
  runs: number;
  /** The lab's name. */
  name: string;
  /** The run directory that holds the labs. */
  runDir: string;
  /** The directory for events and pictures, made if need be; undefined for none. */
  out: string | undefined;
  /** Whether the last run's lab is left standing. */
  keep: boolean;
  /** Receives events beside the file in `out`; undefined for none. */
  writer: NdjsonWriter | undefined;
  /** Aborted where the session is to end early. */
  signal: AbortSignal;
  /** Receives lines on what is going on. */
  say: (line: string) => void;
  /** Receives the report, line by line. */
  report: (line: string) => void;
  /** Colours the report. */
  paint: Paint;
}

/**
 * Runs a scenario and reports it; the last event is `lab.result`.
 *
 * @throws {Failure} where a run could not be made or is not ok, after the events of it are written
 */
export async function runSession(options: SessionOptions): Promise<void> {
  const { out, report } = options;
  if (out !== undefined) await makeDirectory(out);
  const file = out === undefined ? undefined : await Deno.create(`${out}/events.ndjson`);
  const fileWriter = file === undefined ? undefined : new NdjsonWriter(file);
  const writers = [options.writer, fileWriter].filter((writer) => writer !== undefined);
  try {
    const { result, error } = await runAll(options, new Recorder(writers));
    if (options.runs > 1) {
      for (const line of ["", ...reportResult(result, options.paint)]) report(line);
    }
    if (out !== undefined) {
      report("");
      report(`Events    ${out}/events.ndjson`);
      for (let number = 1; number <= result.runs; number++) {
        report(`Picture   ${picture(out, number)}`);
      }
    }
    if (error !== undefined) throw error;
    if (!result.ok) {
      throw new Failure(ExitStatus.UNAVAILABLE, `The scenario is not ok: ${result.problem}`);
    }
  } finally {
    await fileWriter?.close();
    file?.close();
  }
}

async function runAll(
  options: SessionOptions,
  recorder: Recorder,
): Promise<{ result: Result; error: unknown }> {
  const { scenario, runs, out, report, paint } = options;
  const done: Measures[] = [];
  let error: unknown;
  report(paint("bold", describeScenario(scenario)));
  for (let number = 1; number <= runs && error === undefined; number++) {
    const title = runs === 1 ? "" : `run ${number} of ${runs}: `;
    try {
      const { measures, trace } = await runOnce(scenario, {
        ...options,
        keep: options.keep && number === runs,
        recorder,
        say: (line) => options.say(`${title}${line}`),
        saveLogs: (directory) => saveLogs(directory, out, number, options.say),
      });
      done.push(measures);
      recorder.emit("lab.run", measures);
      for (const line of ["", ...(title === "" ? [] : [title.slice(0, -2)])]) report(line);
      for (const line of reportRun(scenario, measures, trace, paint)) report(line);
      if (out === undefined) continue;
      const text = drawPicture({
        title: describeScenario(scenario),
        verb: verbOf(scenario),
        progress: trace.progress,
        moments: moments(trace, scenario.failure),
      });
      await Deno.writeTextFile(picture(out, number), text);
    } catch (reason) {
      error = reason;
    }
  }
  const result = sumUp(done, scenario, runs);
  if (error !== undefined) {
    result.problem = error instanceof Error ? error.message : String(error);
  }
  recorder.emit("lab.result", result);
  return { result, error };
}

function picture(out: string, number: number): string {
  return `${out}/run-${number}.svg`;
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new Failure(ExitStatus.NO_INPUT, `Cannot make directory "${path}": ${text}`, {
      mend: "choose another --out",
      cause: error,
    });
  }
}

/** Copies the logs of a run that went wrong to where they outlive the lab, if that can be done. */
async function saveLogs(
  directory: string,
  out: string | undefined,
  number: number,
  say: (line: string) => void,
): Promise<void> {
  try {
    const target = out === undefined
      ? await Deno.makeTempDir({ prefix: "t2cp-lab-log-" })
      : `${out}/log-${number}`;
    await Deno.mkdir(target, { recursive: true });
    for await (const entry of Deno.readDir(directory)) {
      await Deno.copyFile(`${directory}/${entry.name}`, `${target}/${entry.name}`);
    }
    say(`the logs of the processes are in ${target}`);
  } catch (error) {
    // What went wrong before is what the user needs to know.
    say(`the logs of the processes could not be saved: ${error}`);
  }
}
