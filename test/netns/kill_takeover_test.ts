import assert from "node:assert/strict";
import { onStage } from "./stage.ts";
import type { Call } from "./strace.ts";
import { type Moment, Scene } from "./takeover_scene.ts";
import type { Process } from "./two_hosts.ts";

/** Kills before active mode, in the order of the steps, and what each leaves. */
const BEFORE: { step: string; at: Moment; record: boolean; asked: string[] }[] = [
  { step: "before the event", at: "started", record: false, asked: [] },
  { step: "before the record is locked", at: "flock:1", record: false, asked: [] },
  { step: "before the record is whole", at: "rename:1", record: false, asked: [] },
  { step: "before the fence is asked", at: "sendto:1", record: true, asked: [] },
  { step: "while the fence fences", at: "asked", record: true, asked: ["fence"] },
  { step: "before active mode", at: "getsockopt:1", record: true, asked: ["fence"] },
];

/** Kills of further starts, which find the host active and not settled; the first one was killed before any flow was woken. */
const AGAIN: readonly Moment[] = ["active", "noted", "placed"];

/** Kills `first` once the primary is gone, and then further starts; one more finishes what they have begun. */
async function killActive(
  scene: Scene,
  first: Process,
  at: Call,
  again: readonly Moment[] = [],
): Promise<void> {
  await scene.fail();
  await scene.kill(first, at);
  assert.deepEqual(scene.left.filter((name) => !name.endsWith(".new")), ["takeover.json"]);
  assert.equal((await scene.stage.stats()).mode, "settling");
  for (const moment of again) await scene.kill(await scene.start(), moment);
  await scene.assertFinished(await scene.start());
  assert.deepEqual(scene.asked, ["fence"]);
}

onStage(
  "takeover: killed at any step, the next start undoes it before active mode, and finishes it after",
  async (stage) => {
    await using scene = await Scene.on(stage);
    let process = await scene.start();
    for (const { step, at, record, asked } of BEFORE) {
      await scene.kill(process, at);
      assert.equal(scene.left.includes("takeover.json"), record, `${step}: the record`);
      assert.deepEqual(scene.asked.splice(0), asked, `${step}: the fence`);

      process = await scene.start();
      const warnings = process.events.filter(({ type }) => type === "warning");
      assert.equal(warnings.length, record ? 1 : 0, `${step}: ${JSON.stringify(warnings)}`);
      assert.deepEqual(scene.asked.splice(0), record ? ["release"] : [], `${step}: released`);
      assert.ok(!scene.left.includes("takeover.json"), `${step}: the record is left`);
      assert.equal((await stage.stats()).mode, "shadow", step);
      assert.equal(await scene.hasAddress(), false, step);
      for (const client of scene.clients) assert.equal(await client.echo(step), step);
    }
    await killActive(scene, process, "bpf:5", AGAIN);
  },
);

/** Further kills in active mode, of starts that find the host in shadow mode. */
const AFTER: { step: string; at: Call }[] = [
  { step: "between two flows", at: "sendto:4" },
  { step: "before its record is removed", at: "unlink:1" },
];

for (const { step, at } of AFTER) {
  onStage(`takeover: killed ${step}, in active mode, the next start finishes it`, async (stage) => {
    await using scene = await Scene.on(stage);
    await killActive(scene, await scene.start(), at);
  });
}

/** Kills of a planned switch-over before active mode, in the order of the steps. */
const PLANNED: { step: string; at: Call | "asked"; asked: string[]; record: boolean }[] = [
  { step: "between two clients that it freezes", at: "sendto:3", asked: [], record: false },
  { step: "frozen, before the fence is asked", at: "sendto:5", asked: [], record: true },
  { step: "while the fence fences", at: "asked", asked: ["fence"], record: true },
];

onStage(
  "takeover: --planned that is killed at any step is undone before active mode, and finished after",
  async (stage) => {
    await using scene = await Scene.on(stage);
    let [process, go] = await scene.plan();
    /** What the last one has left, and what the next one makes of it. */
    const next = async (step: string, record: boolean, asked: string[]): Promise<void> => {
      assert.equal(scene.left.includes("takeover.json"), record, `${step}: the record`);
      assert.deepEqual(scene.asked.splice(0), asked, `${step}: the fence`);
      [process, go] = await scene.plan();
      assert.deepEqual(scene.asked.splice(0), record ? ["release"] : [], `${step}: released`);
      assert.ok(!scene.left.includes("takeover.json"), `${step}: the record is left`);
      assert.equal((await stage.stats()).mode, "shadow", step);
      for (const client of scene.clients) assert.equal(await client.echo(step), step);
    };
    for (const { step, at, asked, record } of PLANNED) {
      await scene.kill(process, at, go);
      await next(step, record, asked);
    }
    await scene.killBehindFence(process, "bpf:1", go);
    await next("behind the fence", true, ["fence"]);

    await scene.killBehindFence(process, "sendto:1", go, () => scene.fail());
    assert.equal((await stage.stats()).mode, "settling");
    await scene.kill(scene.again(), "active");
    await scene.assertFinished(scene.again());
    assert.deepEqual(scene.asked, ["fence"]);
  },
);
