/**
 * What a packet costs in the BPF programs, by runs on frames (BPF_PROG_TEST_RUN). Each run is one of a frame as it comes,
 * with the system calls around it, and so with caches about as cold as between packets. `run` is the median as the kernel
 * measures it, `empty` that of a run in active mode, in which a program reads the mode and returns: reading the clock
 * twice. `packet` is the difference, and what the goal for the backup is for; `p90` is the same of the 90th percentile.
 * The gateway's programs have no goal: most of what they cost is the copy, here to a loopback device that is down. Needs
 * root, and a network namespace of its own; nothing is sent.
 *
 *     deno task bench:bpf-run [RUNS]
 *
 * @module
 */
import type { BpfProgram } from "../../ffi/bpf_object.ts";
import { Mode } from "../../lib/flow/layout.ts";
import { MIRROR_ANSWERS } from "../../lib/mirror/layout.ts";
import { median, quantile } from "../../lib/lab/measure.ts";
import {
  type Ends,
  type FlowFields,
  LoadedMirror,
  LoadedShadow,
  recently,
  timeRuns,
  Verdict,
} from "../fixture/bpf.ts";
import { linked, macs } from "../fixture/commit_flow.ts";
import { type Frame, fromClient, fromService, type Said } from "../fixture/tracked.ts";

/** What a packet of a tracked flow may cost, median, in nanoseconds. */
const GOAL = 300;
/** Flows in the table beside the measured one. */
const OTHERS = 10_000;

/** As `mirror` has it unless told, in milliseconds. */
const HOLD_RESETS = 500;

/** The runs are spread over so many rounds, so that a moment of load does not fall on one case alone. */
const ROUNDS = 5;

interface Case {
  name: string;
  ends: Ends;
  tracked: boolean;
  /** What the gateway's programs are told. */
  flags: number;
  program: BpfProgram;
  frame: Frame;
  verdict: number;
  nanos: number[];
}

const families: readonly Ends[] = [
  { client: "10.77.1.2", clientPort: 40_000, server: "10.77.0.100", serverPort: 80 },
  { client: "fd77:1::2", clientPort: 40_000, server: "fd77::100", serverPort: 80 },
];
const stamps: [number, number] = [1000, 2000];
const data: Said = { payload: Array<number>(1448).fill(1), timestamps: stamps };

/** The flow as it stands before each case: the replica lags a little behind what the client has. */
function flow(): FlowFields {
  return {
    ...{ client_end: 1000, client_next: 1000, client_ack: 9000, client_window: 500 },
    ...{ primary_end: 20_000, primary_ack: 1000, primary_right: 60_000, primary_ns: recently() },
    ...{ replica_end: 8000, replica_ack: 1000, client_wscale: 7, primary_wscale: 7, options: 7 },
  };
}

/** A segment of no service. */
function foreign(ends: Ends): Frame {
  return fromService({ ...ends, server: ends.server.replace(/100$/, "12"), serverPort: 22 }, data);
}

function shadowCases({ ingress, egress }: LoadedShadow, ends: Ends): Case[] {
  const { PASS, STOLEN, REDIRECT } = Verdict;
  const client = (said: Said): Frame => {
    const place = { seq: 1000, ack: 9500, window: 400, timestamps: stamps };
    // To the MAC address of the interface that the runs have, as a mirror's copies are to the backup's.
    return fromClient(ends, { ...place, ...said }).fill(0, 0, 6);
  };
  const service = (said: Said): Frame =>
    fromService(ends, { ack: 1000, window: 400, timestamps: stamps, ...said });
  const other = foreign(ends);
  const tracked: [string, BpfProgram, Frame, number][] = [
    ["client's acknowledgement", ingress, client({}), PASS],
    ["client's data", ingress, client(data), PASS],
    ["primary's acknowledgement", ingress, service({ seq: 20_000 }), STOLEN],
    ["primary's data", ingress, service({ seq: 20_000, ...data }), STOLEN],
    ["replica's acknowledgement, held", egress, service({ seq: 8000 }), STOLEN],
    ["replica's data, held", egress, service({ seq: 8000, ...data }), STOLEN],
    ["replica's probe, answered", egress, service({ seq: 7999 }), REDIRECT],
    ["replica's data, answered", egress, service({ seq: 7000, ...data }), REDIRECT],
  ];
  const others: typeof tracked = [
    ["others' data, in", ingress, other, PASS],
    ["others' data, out", egress, other, PASS],
  ];
  const family = ends.client.includes(":") ? "IPv6" : "IPv4";
  return [...tracked, ...others].map(([name, program, frame, verdict]): Case => ({
    ...{ name: `${family} ${name}`, tracked: !name.startsWith("others"), flags: 0, ends },
    ...{ program, frame, verdict, nanos: [] },
  }));
}

function mirrorCases({ ingress, egress }: LoadedMirror, ends: Ends): Case[] {
  const said = { timestamps: stamps };
  const client = (said: Said): Frame => {
    const frame = fromClient(ends, said);
    frame.set([...macs.primary, ...macs.own]);
    return frame;
  };
  const primary = (said: Said): Frame => linked(fromService(ends, said), macs.primary);
  const { PASS } = Verdict;
  const all: [string, BpfProgram, Frame, number?][] = [
    ["client's acknowledgement, copied", egress, client(said)],
    ["client's data, copied", egress, client(data)],
    ["primary's acknowledgement, copied", ingress, primary(said)],
    ["primary's data, copied", ingress, primary(data)],
    ["client's data, with --unanswered", egress, client(data), MIRROR_ANSWERS],
    ["primary's data, with --unanswered", ingress, primary(data), MIRROR_ANSWERS],
    ["others' data, in", ingress, foreign(ends)],
    ["others' data, out", egress, foreign(ends)],
  ];
  const family = ends.client.includes(":") ? "IPv6" : "IPv4";
  return all.map(([name, program, frame, flags = 0]): Case => ({
    ...{ name: `${family} gateway: ${name}`, tracked: false, flags, ends },
    ...{ program, frame, verdict: PASS, nanos: [] },
  }));
}

const columns = (name: string, ...values: readonly (number | string)[]): string =>
  name.padEnd(48) +
  values.map((value) => (typeof value === "number" ? value.toFixed(0) : value).padStart(8)).join(
    "",
  );

const runs = Math.ceil(Number(Deno.args[0] ?? 50_000) / ROUNDS);
using shadow = new LoadedShadow(["10.77.0.100:80", "[fd77::100]:80"]);
for (let other = 0; other < OTHERS; other++) {
  shadow.setFlow({ ...families[other % 2]!, clientPort: 1024 + other }, flow());
}
using mirror = new LoadedMirror(["10.77.0.100:80", "[fd77::100]:80"]);
const cases = families.flatMap((ends) => [
  ...shadowCases(shadow, ends),
  ...mirrorCases(mirror, ends),
]);
const nothing: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  shadow.control(Mode.ACTIVE);
  nothing.push(...timeRuns(shadow.egress, foreign(families[0]!), Verdict.PASS, runs));
  shadow.control(Mode.SHADOW);
  for (const { ends, flags, program, frame, verdict, nanos } of cases) {
    mirror.control(macs, flags, 0, HOLD_RESETS);
    shadow.setFlow(ends, flow());
    nanos.push(...timeRuns(program, frame, verdict, runs));
  }
}
const empty = median(nothing)!;
console.log(columns("ns a packet, median", "run", "empty", "packet", "p90", "goal", "met"));
let met = true;
for (const { name, tracked, nanos } of cases) {
  const run = median(nanos)!, packet = run - empty;
  const goal = tracked ? [GOAL, packet <= GOAL ? "yes" : "NO"] : [];
  met &&= !tracked || packet <= GOAL;
  console.log(columns(name, run, empty, packet, quantile(nanos, 0.9)! - empty, ...goal));
}
console.log(
  `Tracked flows: at most ${GOAL} ns a packet, ${met ? "met" : "NOT MET"}; ` +
    `load ${Deno.loadavg()[0]!.toFixed(1)} on ${navigator.hardwareConcurrency} processors`,
);
