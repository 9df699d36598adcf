/**
 * How soon the death of a server is reported, from the moment at which the kernel closes its first connection: `made`, to
 * the making of the event; `read`, until its line was read here, by a process with the priority that `takeover` has.
 * `dying` is the time before, from the signal to that moment. Needs root.
 *
 *     deno task bench:guard [KILLS]
 *
 * @module
 */
import assert from "node:assert/strict";
import { runRealtimeAlone } from "../../ffi/scheduler.ts";
import { median, quantile } from "../../lib/lab/measure.ts";
import { GuardStage, kill, service } from "../netns/guard_stage.ts";

/** In milliseconds. */
const GOAL = 2;
const PORT = 8000;
const count = Number(Deno.args[0] ?? 50);

/** Microseconds since the epoch. */
function microsOf(time: string): number {
  return Date.parse(`${time.slice(0, 19)}Z`) * 1000 + Number(time.slice(20, 26));
}

const now = (): number => (performance.timeOrigin + performance.now()) * 1000;

const print = (name: string, millis: number[], goal?: number): void => {
  const p99 = quantile(millis, 0.99)!;
  const figures = [median(millis)!, p99, Math.max(...millis)]
    .map((value) => value.toFixed(2).padStart(8)).join("");
  const verdict = goal === undefined
    ? ""
    : `   goal ${goal} ms at p99: ${p99 <= goal ? "met" : "MISSED"}`;
  console.log(`${name.padEnd(10)}${figures}${verdict}`);
};

await GuardStage.with(async (stage) => {
  const guard = await stage.guard("--service", service(PORT), "--release", "0.1");
  runRealtimeAlone();
  const dying: number[] = [], made: number[] = [], read: number[] = [];
  for (let round = 0; round < count; round++) {
    const recovered = guard.events.length;
    const server = await stage.serve(PORT);
    if (round > 0) await guard.next("recovered", recovered);
    const client = await stage.client(PORT, "hold", "held");
    const seen = guard.events.length;
    // Nothing else is to do when it dies.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const killed = now();
    kill(server.main);
    const failed = await guard.next("failed", seen);
    const end = now();
    const died = microsOf(String(failed.last_seen));
    dying.push((died - killed) / 1000);
    made.push((microsOf(failed.time) - died) / 1000);
    read.push((end - died) / 1000);
    assert.equal(await client.fails(), "ECONNRESET");
    client.close();
    await server.status;
  }
  const head = ["median", "p99", "most"].map((text) => text.padStart(8)).join("");
  console.log(`${"ms".padEnd(10)}${head}`);
  print("dying", dying);
  print("made", made, GOAL);
  print("read", read, GOAL);
  console.log(
    `${count} kills; load ${Deno.loadavg()[0]!.toFixed(1)} on ` +
      `${navigator.hardwareConcurrency} processors`,
  );
});
