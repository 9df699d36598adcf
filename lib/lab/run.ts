/**
 * One run of a scenario: a lab of its own, servers, commands, a client, perhaps a failure, and the
 * measurements.
 *
 * @module
 */

import { runOrdinary, runRealtimeAlone } from "../../ffi/scheduler.ts";
import type { Family } from "../address.ts";
import { formatTime, nowMicros } from "../clock.ts";
import { type Event, type EventOf } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { type CommandOptions, Commands, planSwitchOver } from "./commands.ts";
import { EarlyEnds } from "./early_ends.ts";
import { FAULT_LABELS, prepareFault } from "./fault.ts";
import { Interrupted, orInterrupted } from "./interrupt.ts";
import { Lab } from "./lab.ts";
import { spread } from "./flows.ts";
import { maximum, type Progress, toMillis } from "./measure.ts";
import type { Recorder } from "./recorder.ts";
import type { HostProcess } from "./processes.ts";
import { probeOf } from "./servers.ts";
import { shapeClientLink, shapeServerLink } from "./shaping.ts";
import { healingMeasures } from "./healing.ts";
import { type TapDrops, TapLoss } from "./tap_loss.ts";
import { run, until } from "./system.ts";
import { dueSeconds } from "./pace.ts";
import { ROUTES, SERVICE_PLACES } from "./topology.ts";
import type {
  FailureName,
  Measures,
  RunOutcome,
  Scenario,
  TakeoverSpread,
  Trace,
} from "./scenario.ts";
import type { Workload } from "./workload.ts";
import { makeWorkload } from "./workloads.ts";

/** What a run happens in and reports to. */
export interface RunContext {
  /** The lab's name. */
  name: string;
  /** The run directory that holds the labs. */
  runDir: string;
  /** Receives all events. */
  recorder: Recorder;
  /** Aborted where the run is to end early. */
  signal: AbortSignal;
  /** Receives lines on what is going on. */
  say: (line: string) => void;
  /** Whether the lab is left standing. */
  keep: boolean;
  /** Where the logs of a run that is not ok are copied to. */
  saveLogs: (directory: string) => Promise<void>;
}

/** How far around the failure a silence is looked for, in microseconds. */
const BEFORE_CUT = 100_000;
const AFTER_TRIGGER = 2_000_000;
/** How long a switch-over may take, in milliseconds. */
const SWITCH_OVER = 20_000;
/** What was on its way at the takeover's trigger has arrived by then, in microseconds after it. */
const AT_TAKEOVER = 20_000;

/**
 * Runs a scenario once. A failure of the scenario is in the outcome; only what kept it from being
 * run is thrown.
 *
 * @throws {Failure} where lab, servers or commands do not come up, or the run is interrupted
 */
export async function runOnce(scenario: Scenario, context: RunContext): Promise<RunOutcome> {
  const { name, runDir, say, signal } = context;
  say("building the lab");
  const lab = await Lab.create({ name, runDir, owned: true }, signal);
  try {
    const outcome = await runInLab(lab, scenario, context);
    if (!outcome.measures.ok) await context.saveLogs(`${lab.directory}/log`);
    return outcome;
  } catch (error) {
    if (!(error instanceof Interrupted)) await context.saveLogs(`${lab.directory}/log`);
    throw error;
  } finally {
    if (context.keep) lab.release();
    else await lab.down();
  }
}

async function runInLab(
  lab: Lab,
  scenario: Scenario,
  context: RunContext,
): Promise<RunOutcome> {
  const { recorder, signal, say } = context;
  const workload = makeWorkload(lab, scenario);
  if (scenario.plain) await removeReplicaAddress(lab);
  if (scenario.commit) await acknowledgeAtOnce(lab, scenario.family);
  if (scenario.rate > 0) await shapeClientLink(lab, scenario.rate);
  if (scenario.link > 0) await shapeServerLink(lab, scenario.link);
  say("starting the servers");
  const server = await orInterrupted(startServers(workload, scenario), signal);
  const options = commandOptions(scenario, workload, server);
  let commands: Commands | undefined;
  if (!scenario.plain) {
    say("starting mirror, shadow, detect and takeover");
    commands = await Commands.start(lab, options, recorder, signal);
  }
  const tap = await beginLoss(lab, scenario, workload);
  const ends = await watchEnds(lab, scenario, workload);
  // From the takeover on, what looks like a copy is none.
  const dropped = tap === undefined || commands === undefined || scenario.failure === "none"
    ? undefined
    : commands.waitFor("failed", timeLimit(scenario) * 1000).then(() => tap.end(), () => undefined);
  say(`running the client of workload "${scenario.workload}"`);
  const trace: Trace = { progress: workload.progress };
  const problems: string[] = [];
  const client = workload.runClient().then((problem) =>
    problem === undefined || problems.push(problem)
  );
  client.catch(() => {});
  // It notes when the client got its bytes, and must not wait for a processor to do so.
  runRealtimeAlone();
  try {
    await orInterrupted(
      Promise.race([
        transfer(lab, scenario, workload, server, client, trace, recorder, tap, commands),
        ...(commands === undefined ? [] : [commands.broken]),
      ]),
      signal,
    );
  } catch (error) {
    if (!(error instanceof Failure) || error instanceof Interrupted) throw error;
    problems.push(error.message);
  } finally {
    runOrdinary();
  }
  await workload.stopClient();
  await client;
  if (problems.length === 0 && !await replicaIsWhole(scenario, workload)) {
    problems.push("the replica's content differs");
  }
  const earlyEnds = await ends?.end();
  await commands?.stop();
  const healing = commands === undefined || !scenario.heal
    ? undefined
    : healingMeasures(commands.events, await drops(scenario, tap, dropped));
  if (healing !== undefined && healing.lost_bytes > 0) {
    problems.push(`${healing.lost_bytes} bytes are lost for the replica`);
  }
  if (commands !== undefined) problems.push(...examine(scenario, commands, trace));
  if (earlyEnds !== undefined && earlyEnds > 0) {
    problems.push(`the client got ${earlyEnds} FIN or RST too early`);
  }
  const equal = await workload.verify(scenario.failure === "none" ? "primary" : "backup");
  if (!equal) problems.push("the content differs");
  const measures = measure(scenario, workload, trace, equal, problems, commands);
  return {
    measures: {
      ...measures,
      ...(earlyEnds === undefined ? {} : { early_ends: earlyEnds }),
      ...(healing === undefined ? {} : { healing }),
    },
    trace,
  };
}

/** Starts the servers on their hosts; the primary's is returned. */
async function startServers(workload: Workload, { plain }: Scenario): Promise<HostProcess> {
  await workload.prepare();
  const primary = await workload.startServer("primary");
  if (!plain) await workload.startServer("backup");
  return primary;
}

/** Where the host lives on, its heartbeat is not enough. */
function commandOptions(
  scenario: Scenario,
  { port }: Workload,
  server: HostProcess,
): CommandOptions {
  const { failure, family } = scenario;
  return {
    ...scenario,
    port,
    fence: scenario.fence || failure === "planned",
    ...(needsGuard(failure) && server.id !== undefined ? { guard: server.id.pid } : {}),
    ...(failure === "hang" ? { probe: probeOf(port, family) } : {}),
  };
}

/** Whether the primary's kernel lives on and may speak to the client. */
function outlives(failure: FailureName): boolean {
  return failure === "planned" || needsGuard(failure);
}

function needsGuard(failure: FailureName): boolean {
  return failure === "process" || failure === "hang";
}

async function watchEnds(
  lab: Lab,
  { failure, family, workload }: Scenario,
  { port }: Workload,
): Promise<EarlyEnds | undefined> {
  if (!outlives(failure)) return undefined;
  // A web server ends a connection that serves one request.
  return await EarlyEnds.begin(lab, family, port, workload !== "connections");
}

async function beginLoss(
  lab: Lab,
  { family, tapLoss, blackout }: Scenario,
  { port }: Workload,
): Promise<TapLoss | undefined> {
  if (tapLoss === 0 && blackout === 0) return undefined;
  const tap = new TapLoss(lab, family, port);
  await tap.begin(tapLoss);
  return tap;
}

/** What the tap has lost. */
async function drops(
  { failure }: Scenario,
  tap: TapLoss | undefined,
  dropped: Promise<TapDrops | undefined> | undefined,
): Promise<TapDrops | undefined> {
  return failure === "none" ? await tap?.end() : await dropped;
}

/** What a healed replica may still need after its client's end, in milliseconds. */
const LAST_HEALINGS = 20_000;

/** Whether the replica of an upload has got all of it, though its primary has not failed. */
async function replicaIsWhole(scenario: Scenario, workload: Workload): Promise<boolean> {
  const { failure, heal } = scenario;
  if (failure !== "none" || !heal || scenario.workload !== "upload") return true;
  const end = performance.now() + LAST_HEALINGS;
  while (!await workload.verify("backup")) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
}

/** Without t2cp nothing keeps the backup from answering for the service's address. */
async function removeReplicaAddress(lab: Lab): Promise<void> {
  const place = SERVICE_PLACES.find(({ role }) => role === "backup")!;
  await run(lab.inRole("backup", ["ip", "address", "flush", "scope", "global", "dev", place.name]));
}

/** Makes the replicas acknowledge without delay, since the clients wait for it. */
async function acknowledgeAtOnce(lab: Lab, family: Family): Promise<void> {
  const { via, metrics } = ROUTES.find(({ role }) => role === "backup")!;
  const route = ["default", "via", via[family], ...metrics.split(" "), "quickack", "1"];
  await run(lab.inRole("backup", ["ip", `-${family}`, "route", "replace", ...route]));
}

/** Waits for the client's end and makes the failure on the way; bounded. */
async function transfer(
  lab: Lab,
  scenario: Scenario,
  workload: Workload,
  server: HostProcess,
  client: Promise<unknown>,
  trace: Trace,
  recorder: Recorder,
  tap: TapLoss | undefined,
  commands: Commands | undefined,
): Promise<void> {
  let ended = false;
  const end = client.then(() => ended = true);
  const seconds = timeLimit(scenario);
  const started = nowMicros();
  recorder.emit("lab.mark", { what: "client started", time: formatTime(started) });
  if (scenario.failure !== "none") {
    const fault = prepareFault(lab, scenario.failure, server, async () => {
      const plan = planSwitchOver((role) => lab.roleDirectory(role));
      await commands!.launch(lab, plan, recorder);
      return triggerTime(await commands!.waitFor("active", SWITCH_OVER));
    });
    try {
      const due = () => ended || isDue(scenario, workload.progress);
      if (!await until(due, seconds * 1000, 2)) throw tooLate(scenario, seconds);
      if (ended) {
        throw new Failure(ExitStatus.UNAVAILABLE, "The client ended before the failure was due");
      }
      if (scenario.blackout > 0) {
        await tap?.loseAll();
        recorder.emit("lab.mark", { what: "every copy gets lost" });
        await new Promise((resolve) => setTimeout(resolve, scenario.blackout));
      }
      trace.cut = await fault.make();
      const what = FAULT_LABELS[scenario.failure];
      recorder.emit("lab.mark", { what, time: formatTime(trace.cut) });
    } finally {
      await fault.cancel();
    }
  }
  const left = Math.max(1000, seconds * 1000 - (nowMicros() - started) / 1000);
  if (!await until(() => ended, left, 5)) throw tooLate(scenario, seconds);
  await end;
  recorder.emit("lab.mark", { what: "client ended" });
}

function isDue({ after, size }: Scenario, progress: Progress): boolean {
  if (progress.first === undefined) return false;
  if ("share" in after) return progress.bytes >= after.share * size;
  return nowMicros() - progress.first >= after.seconds * 1e6;
}

/** Seconds that a client may take: twice its due, and time for the failure. */
function timeLimit(scenario: Scenario): number {
  return Math.ceil(dueSeconds(scenario) * 2 + 20);
}

function tooLate({ workload }: Scenario, seconds: number): Failure {
  const message = `The client of workload "${workload}" is not done after ${seconds} s`;
  return new Failure(ExitStatus.UNAVAILABLE, message);
}

/** Takes the moments from the events, and says what in them is not as it should be. */
function examine(scenario: Scenario, commands: Commands, trace: Trace): string[] {
  const failed = commands.find("failed");
  const active = commands.find("active");
  if (scenario.failure === "none") {
    return [
      ...(failed === undefined ? [] : ["a failure was detected though there was none"]),
      ...(active === undefined ? [] : ["the backup took over though nothing failed"]),
    ];
  }
  if (trace.cut === undefined) return [];
  if (scenario.failure === "planned") {
    if (failed !== undefined) return ["a failure was detected though there was none"];
  } else {
    if (failed === undefined) return ["the failure was not detected"];
    const { time, level } = failed as EventOf<"failed">;
    const detected = micros(time);
    if (detected < trace.cut) return ["a failure was detected before there was one"];
    if (needsGuard(scenario.failure) && level === "host") return ["its host was taken for failed"];
    trace.failed = detected;
  }
  if (active === undefined) return ["the backup did not take over"];
  trace.trigger = triggerTime(active);
  const { steps } = active as EventOf<"active">;
  const step = (name: string): number => trace.trigger! + (steps[name] ?? 0) * 1000;
  trace.active = step("woken");
  trace.address = step("announced");
  trace.firstByte = trace.progress.firstSince(trace.trigger);
  return [];
}

/** When the takeover was triggered, microseconds since the epoch. */
function triggerTime(active: Event): number {
  if (typeof active.trigger === "string") return micros(active.trigger);
  return micros(active.time) - (typeof active.took_ms === "number" ? active.took_ms * 1000 : 0);
}

function micros(time: string): number {
  return Number(Temporal.Instant.from(time).epochNanoseconds / 1000n);
}

function takeoverSpread(waits: readonly number[]): TakeoverSpread {
  const { p50, p99, max } = spread(waits);
  return { flows: waits.length, first: toMillis(Math.min(...waits)), p50, p99, last: max };
}

function measure(
  scenario: Scenario,
  workload: Workload,
  trace: Trace,
  equal: boolean,
  problems: string[],
  commands: Commands | undefined,
): Measures {
  const { progress, cut, failed, trigger, firstByte } = trace;
  const waits = trigger === undefined ? [] : workload.waits(trigger);
  const until = trigger ?? failed ?? cut;
  const silence = cut === undefined
    ? progress.longestSilence()
    : progress.longestSilence(cut - BEFORE_CUT, until! + AFTER_TRIGGER);
  const pause = cut === undefined || trigger === undefined
    ? undefined
    : progress.longestSilence(cut, trigger + AT_TAKEOVER);
  const active = commands?.find("active");
  const span = (from: number | undefined, to: number | undefined) =>
    toMillis(from === undefined || to === undefined ? undefined : to - from);
  const whole = (value: number | null) => value === null ? null : Math.round(value);
  return {
    ok: problems.length === 0,
    workload: scenario.workload,
    server: scenario.server,
    failure: scenario.failure,
    family: scenario.family,
    flows: scenario.flows,
    sha256_equal: equal,
    stall_ms: toMillis(silence?.length),
    pause_ms: toMillis(pause?.length),
    detect_ms: span(cut, failed),
    takeover_ms: toMillis(maximum(waits) ?? undefined),
    ...(waits.length > 1 ? { takeover_flows_ms: takeoverSpread(waits) } : {}),
    took_ms: typeof active?.took_ms === "number" ? active.took_ms : null,
    bytes: progress.bytes,
    throughput: whole(progress.throughput()),
    throughput_before: cut === undefined ? null : whole(progress.throughput(-Infinity, cut)),
    throughput_after: firstByte === undefined ? null : whole(progress.throughput(firstByte)),
    ...workload.details(),
    ...(problems.length === 0 ? {} : { problem: problems.join("; ") }),
  };
}
