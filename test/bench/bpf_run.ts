/**
 * What a packet costs in the backup's BPF programs, by runs on frames (BPF_PROG_TEST_RUN). `median` and `p90` are of
 * single runs, each with the system calls around it, and so with caches about as cold as between packets; `net` is the
 * median without what a run costs in active mode, where a program does nothing: reading the clock. `in a row` is the
 * mean over many runs at once, of frames that the program leaves as they are. Needs root; nothing is sent.
 *
 *     deno run -A test/bench/bpf_run.ts [RUNS]
 *
 * @module
 */
import type { BpfProgram } from "../../ffi/bpf_object.ts";
import { Mode } from "../../lib/flow/layout.ts";
import { median, quantile } from "../../lib/lab/measure.ts";
import {
  type Ends,
  type FlowFields,
  LoadedShadow,
  recently,
  timeRuns,
  Verdict,
} from "../fixture/bpf.ts";
import { type Frame, fromClient, fromService, type Said } from "../fixture/tracked.ts";

/** What a packet of a tracked flow may cost, median, in nanoseconds. */
const GOAL = 300;
/** Flows in the table beside the measured one. */
const OTHERS = 10_000;

interface Case {
  name: string;
  tracked: boolean;
  program: BpfProgram;
  frame: Frame;
  verdict: number;
  /** Whether the frame comes out as it went in, so that runs in a row are the same. */
  steady: boolean;
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

function casesOf({ ingress, egress }: LoadedShadow, ends: Ends): Case[] {
  const { PASS, STOLEN, REDIRECT } = Verdict;
  const client = (said: Said): Frame =>
    fromClient(ends, { seq: 1000, ack: 9500, window: 400, timestamps: stamps, ...said });
  const service = (said: Said): Frame =>
    fromService(ends, { ack: 1000, window: 400, timestamps: stamps, ...said });
  const other = foreign(ends);
  const tracked: [string, BpfProgram, Frame, number][] = [
    ["client's acknowledgement", ingress, client({}), PASS],
    ["client's data", ingress, client(data), PASS],
    ["primary's acknowledgement", ingress, service({ seq: 20_000 }), STOLEN],
    ["primary's data", ingress, service({ seq: 20_000, ...data }), STOLEN],
    ["replica's acknowledgement", egress, service({ seq: 8000 }), STOLEN],
    ["replica's data, held", egress, service({ seq: 8000, ...data }), STOLEN],
    ["replica's data, answered", egress, service({ seq: 7000, ...data }), REDIRECT],
  ];
  const untracked: typeof tracked = [
    ["others' data, in", ingress, other, PASS],
    ["others' data, out", egress, other, PASS],
  ];
  return [...tracked, ...untracked].map((one, index): Case => {
    const [name, program, frame, verdict] = one;
    const isTracked = index < tracked.length;
    const steady = verdict === STOLEN || !isTracked;
    return { name, tracked: isTracked, program, frame, verdict, steady };
  });
}

const columns = (...values: readonly (number | string)[]): string =>
  values.map((value) => (typeof value === "number" ? value.toFixed(0) : value).padStart(9)).join(
    "",
  );

/** Measures a case and prints its row; returns its net median. */
function measure({ name, program, frame, verdict, steady }: Case, empty: number): number {
  const nanos = timeRuns(program, frame, verdict, runs);
  const middle = median(nanos)!;
  const row = steady ? program.testRun(frame, runs, frame.length).nanos : "";
  console.log(
    name.padEnd(34) + columns(middle, quantile(nanos, 0.9)!, middle - empty, row),
  );
  return middle - empty;
}

const runs = Number(Deno.args[0] ?? 50_000);
using shadow = new LoadedShadow(["10.77.0.100:80", "[fd77::100]:80"]);
for (let other = 0; other < OTHERS; other++) {
  shadow.setFlow({ ...families[other % 2]!, clientPort: 1024 + other }, flow());
}
console.log(" ".repeat(34) + columns("median", "p90", "net", "in a row") + "  ns a packet");
let worst = 0;
for (const ends of families) {
  const family = `IPv${ends.client.includes(":") ? 6 : 4}`;
  shadow.control(Mode.ACTIVE);
  const frame = foreign(ends);
  const empty = median(timeRuns(shadow.egress, frame, Verdict.PASS, runs))!;
  const inRow = shadow.egress.testRun(frame, runs, frame.length).nanos;
  console.log(`active mode, ${family}`.padEnd(34) + columns(empty, "", 0, inRow));
  shadow.control(Mode.SHADOW);
  for (const one of casesOf(shadow, ends)) {
    shadow.setFlow(ends, flow());
    const net = measure({ ...one, name: `${one.name}, ${family}` }, empty);
    if (one.tracked) worst = Math.max(worst, net);
  }
}
console.log(`Tracked flows: ${worst.toFixed(0)} ns at worst; the goal is ${GOAL} ns`);
