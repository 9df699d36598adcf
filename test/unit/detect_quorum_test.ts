import assert from "node:assert/strict";
import { Agenda } from "../../lib/detect/agenda.ts";
import { Quorum } from "../../lib/detect/votes.ts";
import { Emitter, type Event, parseEvent } from "../../lib/event.ts";
import { NdjsonWriter } from "../../lib/ndjson.ts";

/** A quorum on a clock of its own, and what it has said. */
class Stage {
  now = 0;
  readonly agenda = new Agenda();
  readonly quorum: Quorum;
  readonly #emitter: Emitter;
  #text = "";

  constructor(require: number, holdDown = 0) {
    const decoder = new TextDecoder();
    const writer = new NdjsonWriter({
      write: (bytes) => {
        this.#text += decoder.decode(bytes);
        return Promise.resolve(bytes.length);
      },
    });
    this.#emitter = new Emitter("detect", writer, "backup");
    this.quorum = new Quorum({
      ...{ require, holdDown, emitter: this.#emitter, host: "backup" },
      clock: () => this.now,
      settle: (task) => this.agenda.settle(task),
    });
  }

  /** Lets a detector say something. */
  say(type: string, host: string, fields: Record<string, unknown> = {}): void {
    this.quorum.count({
      ...{ v: 1, type, time: "2026-01-01T00:00:00.000000Z", by: "detect", host, target: "primary" },
      ...fields,
    });
  }

  failed(host: string, fields: Record<string, unknown> = {}): void {
    this.say("failed", host, { level: "host", cause: "unplanned", evidence: [], ...fields });
  }

  pass(micros: number): void {
    this.now += micros;
    this.agenda.tick(this.now);
  }

  async events(): Promise<Event[]> {
    await this.#emitter.close();
    const events = this.#text.trim().split("\n").filter((line) => line !== "").map((line) =>
      parseEvent(line)
    );
    for (const event of events) assert.equal(typeof event, "object", String(event));
    return events as Event[];
  }
}

Deno.test("quorum: so many detectors must agree at the same time", async () => {
  const stage = new Stage(2);
  stage.failed("gateway");
  stage.failed("gateway");
  stage.failed("gateway", { target: "other" });
  stage.say("recovered", "gateway");
  stage.failed("backup");
  stage.failed("gateway", { level: "application", last_seen: "2026-01-01T00:00:01.000000Z" });
  const [failed, ...more] = await stage.events();
  assert.deepEqual(more, []);
  assert.deepEqual([failed!.type, failed!.target, failed!.votes], ["failed", "primary", 2]);
  assert.equal(failed!.last_seen, "2026-01-01T00:00:01.000000Z");
  const evidence = failed!.evidence as Record<string, unknown>[];
  assert.deepEqual(evidence.map(({ host, level }) => [host, level]), [
    ["backup", "host"],
    ["gateway", "application"],
  ]);
});

Deno.test("quorum: the majority says what failed, and one who knows that it was planned", async () => {
  const stage = new Stage(3);
  for (const host of ["a", "b"]) stage.failed(host, { level: "application" });
  stage.failed("c", { cause: "planned" });
  const [failed] = await stage.events();
  assert.deepEqual([failed!.level, failed!.cause], ["application", "planned"]);
});

Deno.test("quorum: fewer votes mean recovery, after the hold-down", async () => {
  const stage = new Stage(2, 1000);
  stage.failed("a");
  stage.failed("b");
  stage.say("recovered", "a");
  stage.pass(999);
  stage.failed("a");
  stage.pass(5000);
  stage.say("started", "b");
  stage.pass(999);
  stage.pass(1);
  const events = await stage.events();
  assert.deepEqual(events.map(({ type }) => type), ["failed", "recovered"]);
  assert.deepEqual([events[1]!.flaps, events[1]!.votes], [1, 1]);
});

Deno.test("quorum: a failure goes on as a suspicion, with all its fields", () => {
  const { quorum } = new Stage(2);
  const event: Event = { v: 1, type: "failed", time: "t", by: "guard", host: "h", level: "host" };
  assert.deepEqual(quorum.rewrite(event), { ...event, type: "suspect", vote: "failed" });
  assert.equal(quorum.rewrite({ ...event, type: "gap" }), undefined);
});

Deno.test("quorum: own signals have one vote, and do not fail by themselves", async () => {
  const stage = new Stage(2);
  const fields = { target: "primary", level: "host", cause: "unplanned", evidence: [] } as const;
  stage.quorum.emit("failed", fields);
  stage.failed("gateway");
  stage.quorum.emit("recovered", { target: "primary" });
  const events = await stage.events();
  assert.deepEqual(events.map(({ type, vote }) => [type, vote]), [
    ["suspect", "failed"],
    ["failed", undefined],
    ["recovered", "good"],
    ["recovered", undefined],
  ]);
});

Deno.test("quorum: votes of an input that has ended are withdrawn", async () => {
  const stage = new Stage(2);
  stage.failed("gateway");
  assert.equal(stage.quorum.end(), 1);
  stage.failed("backup");
  assert.deepEqual(await stage.events(), []);
});

Deno.test("quorum: more votes than are kept are refused, and told of once", async () => {
  const stage = new Stage(2);
  for (let i = 0; i < 1100; i++) stage.failed("gateway", { target: `t${i}` });
  assert.equal(stage.quorum.refused, 76);
  assert.deepEqual((await stage.events()).map(({ type }) => type), ["warning"]);
});
