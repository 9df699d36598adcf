/**
 * How soon a loss of the tap is reported: from the primary's acknowledgement on the wire to the `gap` event. `seen` is the
 * event's time, at which the BPF program knew; `printed` is when its line had been read here, behind the moment in which
 * the shadow waits for bytes that another processor has under way. Needs root and the lab's packages.
 *
 *     deno task bench:gap [GAPS]
 *
 * @module
 */
import { median, quantile } from "../../lib/lab/measure.ts";
import { poll } from "../fixture/wait.ts";
import { Stage } from "../netns/stage.ts";
import { PORT, TWINS, Twins } from "../netns/twins.ts";

/** In milliseconds. */
const GOAL = 5;
const count = Number(Deno.args[0] ?? 100);
/** Bytes that are lost at a time, and the length of the IP packet that bears them. */
const LOST = 4, LENGTH = 20 + 32 + LOST;

/** Microseconds since the epoch. */
function microsOf(time: string): number {
  return Date.parse(`${time.slice(0, 19)}Z`) * 1000 + Number(time.slice(20, 26));
}

const print = (name: string, millis: number[]): boolean => {
  const [middle, high, most] = [median(millis)!, quantile(millis, 0.9)!, Math.max(...millis)];
  const figures = [middle, high, most].map((value) => value.toFixed(2).padStart(8)).join("");
  console.log(
    `${name.padEnd(14)}${figures}${String(GOAL).padStart(8)}   ${middle <= GOAL ? "yes" : "NO"}`,
  );
  return middle <= GOAL;
};

await Stage.with(async (stage) => {
  using twins = new Twins(stage);
  const { shadow } = await stage.protect(TWINS);
  const wire = await stage.capture("primary");
  const flow = await twins.open("gapped");
  await flow.up("before");
  const copies = `oifname "backup" tcp dport ${PORT} tcp sport ${flow.port} ip length ${LENGTH}`;
  await twins.rule("gateway", "bridge output", `${copies} drop`);
  const seen: number[] = [], printed: number[] = [];
  for (let round = 0; round < count; round++) {
    await flow.client.send("x".repeat(LOST));
    const gap = await poll(
      "a gap",
      () => shadow.events.filter(({ type }) => type === "gap")[round],
      10_000,
      0,
    );
    const now = (performance.timeOrigin + performance.now()) * 1000;
    const ack = await wire.find(
      "the acknowledgement",
      (frame) =>
        frame.kind === "tcp" && frame.destinationPort === flow.port && frame.ack === gap.to,
    );
    await flow.primary.receive(LOST);
    seen.push((microsOf(String(gap.time)) - ack.time) / 1000);
    printed.push((now - ack.time) / 1000);
  }
  const head = ["median", "p90", "most", "goal"].map((text) => text.padStart(8)).join("");
  console.log(`${"ms from ACK".padEnd(14)}${head}   met`);
  print("seen", seen);
  print("printed", printed);
  console.log(
    `${count} gaps; load ${Deno.loadavg()[0]!.toFixed(1)} on ` +
      `${navigator.hardwareConcurrency} processors`,
  );
});
