import assert from "node:assert/strict";
import { join } from "node:path";
import { ControlClient } from "../../lib/control_client.ts";
import { serveControl } from "../../lib/control.ts";
import { type Event, parseEvent } from "../../lib/event.ts";
import { Failure } from "../../lib/failure.ts";
import { Entry, type EntryOptions } from "../../lib/takeover/entry.ts";
import { Fences } from "../../lib/takeover/fences.ts";
import { Pending } from "../../lib/takeover/pending.ts";
import { poll } from "../fixture/wait.ts";
import { asksFor, concerns, type Trigger } from "../../lib/takeover/trigger.ts";

const WEB = "10.77.0.100:80";
const ECHO = "10.77.0.100:7";

function event(type: string, fields: object = {}): Event {
  const common = { v: 1, type, time: "2026-01-31T12:00:00.000000Z", by: "test", host: "h" };
  const parsed = parseEvent(JSON.stringify({ ...common, ...fields }));
  assert.ok(typeof parsed === "object", String(parsed));
  return parsed;
}

const failed = (target = "primary", fields: object = {}) =>
  event("failed", { target, level: "host", cause: "unplanned", evidence: [], ...fields });
const recovered = (target = "primary") => event("recovered", { target });
const ready = (...services: string[]) => event("fence.ready", { services });
const fenced = (...services: string[]) =>
  event("fenced", { services, took_ms: 0.1, steps: { dropping: 0.1 } });

/** An entry with a run directory of its own, and what it did. */
class Trial implements AsyncDisposable {
  readonly runDir = Deno.makeTempDirSync({ prefix: "t2cp-test-" });
  readonly triggers: Trigger[] = [];
  readonly warnings: string[] = [];
  readonly failures: unknown[] = [];
  shadow = true;
  services = [WEB];
  breaks: Error | undefined;
  behind: () => Promise<void> = () => Promise.resolve();
  readonly entry: Entry;

  constructor(options: Partial<EntryOptions> = {}) {
    this.entry = new Entry({
      ...{ runDir: this.runDir, wanted: { on: "failed", targets: [] }, rule: "auto" },
      ...{ asked: undefined, timeout: 60_000 },
      ...options,
    }, {
      services: () => this.services,
      isShadow: () => this.shadow,
      refresh: () => {},
      fenced: () => this.behind(),
      activate: (trigger) => {
        if (this.breaks !== undefined) throw this.breaks;
        this.triggers.push(trigger);
        this.shadow = false;
      },
      warn: (message) => void this.warnings.push(message),
      fail: (error) => void this.failures.push(error),
    });
  }

  take(...events: Event[]): this {
    for (const one of events) this.entry.take(one);
    return this;
  }

  /** The record of a takeover under way. */
  get record(): Record<string, unknown> | undefined {
    try {
      return JSON.parse(Deno.readTextFileSync(join(this.runDir, "takeover.json")));
    } catch {
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.entry.stop("the test has ended");
    await this.entry.idle();
    Deno.removeSync(this.runDir, { recursive: true });
  }
}

/** A fence that answers as `answer` says, and what it was asked. */
async function fence(answer: (request: string) => Iterable<object> | AsyncIterable<object>) {
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-test-" });
  const path = join(directory, "fence.sock");
  const requests: string[] = [];
  const handle = (name: string) => () => {
    requests.push(name);
    return answer(name);
  };
  const server = await serveControl(path, { fence: handle("fence"), release: handle("release") });
  const client = ControlClient.of(path);
  return {
    path,
    client,
    requests,
    async [Symbol.asyncDispose](): Promise<void> {
      client[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
      Deno.removeSync(directory, { recursive: true });
    },
  };
}

const yes = (request: string): object[] =>
  request === "fence" ? [{ fenced: { services: [WEB] } }] : [];

Deno.test("entry: without a fence it acts at once, and again on an active host", async () => {
  await using trial = new Trial();
  trial.take(failed());
  assert.equal(trial.triggers.length, 1);
  assert.deepEqual(trial.triggers[0]!.steps, {});
  trial.take(failed());
  assert.equal(trial.triggers.length, 2);
  assert.equal(trial.record, undefined);
});

Deno.test("entry: behind a fence it waits for fenced of its services, and no longer", async () => {
  await using trial = new Trial();
  trial.services = [WEB, ECHO];
  trial.take(ready(WEB, ECHO), failed());
  assert.equal(trial.triggers.length, 0);
  assert.equal(trial.record?.["target"], "primary");
  trial.take(failed(), fenced("10.77.0.101:80"), fenced(ECHO));
  assert.equal(trial.triggers.length, 0);
  trial.take(fenced(WEB));
  assert.equal(trial.triggers.length, 1);
  assert.ok(trial.triggers[0]!.steps["fenced"]! >= 0);
  assert.equal(trial.record, undefined);
});

Deno.test("entry: fenced may come first, and what no fence guards is not waited for", async () => {
  await using first = new Trial();
  first.take(ready(WEB), fenced(WEB), failed());
  assert.equal(first.triggers.length, 1);
  await using other = new Trial();
  other.take(ready("10.77.0.101:80"), failed());
  assert.equal(other.triggers.length, 1);
  await using none = new Trial({ rule: "none" });
  none.take(ready(WEB), failed());
  assert.equal(none.triggers.length, 1);
});

Deno.test("entry: an old fenced does not count", () => {
  const fences = new Fences("auto", 2000);
  fences.take(ready(WEB), 0);
  fences.take(fenced(WEB), 1000);
  assert.deepEqual(fences.missing([WEB], 3000), []);
  assert.deepEqual(fences.missing([WEB], 3001), [WEB]);
  fences.take(fenced(WEB), 3100);
  fences.take(event("fence.released", { services: [WEB] }), 3200);
  assert.deepEqual(fences.missing([WEB], 3300), [WEB], "nor one that was released");
});

Deno.test("entry: with require it waits for all services though no fence showed itself", async () => {
  await using trial = new Trial({ rule: "require" });
  trial.take(failed());
  assert.equal(trial.triggers.length, 0);
  trial.take(fenced(WEB));
  assert.equal(trial.triggers.length, 1);
});

Deno.test("entry: recovered of the same target cancels what waits, of another does not", async () => {
  await using trial = new Trial({ rule: "require" });
  trial.take(failed(), recovered("other"));
  assert.ok(trial.record !== undefined);
  trial.take(recovered());
  assert.equal(trial.record, undefined);
  assert.match(trial.warnings.join(), /given up before it began: "primary" has recovered/);
  trial.take(fenced(WEB));
  assert.equal(trial.triggers.length, 0);
  trial.take(failed());
  assert.equal(trial.triggers.length, 1, "the fence stands, and it fails again");
});

Deno.test("entry: where no fence answers in time, nothing is changed, and it says so", async () => {
  await using trial = new Trial({ rule: "require", timeout: 20 });
  trial.take(failed());
  await trial.entry.idle();
  assert.equal(trial.triggers.length, 0);
  const [failure] = trial.failures;
  assert.ok(failure instanceof Failure && failure.status === 75);
  assert.match(failure.message, /^No fence has fenced "10\.77\.0\.100:80" within 0\.02 s/);
  assert.equal(trial.record, undefined);
});

Deno.test("entry: a fence upstream that could not fence ends the takeover at once", async () => {
  const unfenced = failed("primary", { fenced: false });
  for (const rule of ["auto", "require"] as const) {
    await using trial = new Trial({ rule });
    trial.take(failed("primary", { fenced: false, services: [ECHO] }));
    assert.equal(trial.failures.length, 0, "of another service");
    trial.take(unfenced);
    assert.deepEqual(trial.triggers, []);
    const [failure] = trial.failures;
    assert.ok(failure instanceof Failure && failure.status === 75);
    assert.match(
      failure.message,
      /^The fence upstream could not fence "10\.77\.0\.100:80"; nothing/,
    );
    assert.equal(trial.record, undefined);
  }
  await using waiting = new Trial({ rule: "require" });
  waiting.take(failed(), unfenced, fenced(WEB));
  await waiting.entry.idle();
  assert.deepEqual([waiting.triggers.length, waiting.failures.length], [0, 1]);
  assert.equal(waiting.record, undefined);
  await using active = new Trial();
  active.take(failed(), unfenced);
  assert.deepEqual([active.triggers.length, active.failures.length], [2, 0]);
  await using other = new Trial({ rule: "none" });
  other.take(unfenced);
  assert.equal(other.triggers.length, 1, "it was told not to mind");
});

Deno.test("entry: the end of the input ends the waiting", async () => {
  await using trial = new Trial({ rule: "require" });
  trial.entry.endOfInput();
  assert.deepEqual(trial.failures, []);
  trial.take(failed());
  trial.entry.endOfInput();
  assert.match(String(trial.failures[0]), /The input has ended/);
});

Deno.test("entry: events of other types, targets and services do not count", () => {
  const wanted = { on: "failed", targets: ["primary", "db"] };
  assert.ok(asksFor(failed("db"), wanted));
  assert.ok(!asksFor(failed("web"), wanted));
  assert.ok(!asksFor(recovered("db"), wanted));
  assert.ok(!asksFor(event("drill"), { ...wanted, on: "drill" }), "it names no target");
  assert.ok(concerns(failed(), [WEB]));
  assert.ok(concerns(failed("p", { services: [ECHO, WEB] }), [WEB]));
  assert.ok(!concerns(failed("p", { services: [ECHO] }), [WEB]));
  assert.ok(!concerns(failed("p", { server: ECHO }), [WEB]));
  assert.ok(concerns(failed("p", { server: WEB }), [WEB]));
  assert.ok(!concerns(failed("p", { services: "all" }), [WEB]));
  assert.ok(!concerns(failed("p", { services: [null, 7, "x"] }), [WEB]));
});

Deno.test("entry: a fence that is asked fences first", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked });
  trial.take(failed(), failed());
  assert.equal(trial.triggers.length, 0);
  assert.equal(trial.record?.["fence"], asked.path);
  trial.entry.endOfInput();
  await trial.entry.idle();
  assert.equal(trial.triggers.length, 1);
  assert.deepEqual(asked.requests, ["fence"]);
  assert.equal(trial.record, undefined);
});

Deno.test("entry: a fence that refuses or is not there ends the takeover", async () => {
  await using refusing = await fence((request) => {
    if (request === "fence") throw new Failure(69, "No power switch answers");
    return [];
  });
  const nobody = { path: "/nowhere/fence.sock", client: ControlClient.of("/nowhere/fence.sock") };
  for (
    const [asked, said] of [
      [refusing, /^The fence at ".*" refuses: No power switch answers; nothing was taken over/],
      [nobody, /^The fence at "\/nowhere\/fence\.sock" does not answer: .*No such file/],
    ] as const
  ) {
    await using trial = new Trial({ asked });
    trial.take(failed());
    await trial.entry.idle();
    assert.equal(trial.triggers.length, 0);
    assert.match((trial.failures[0] as Failure).message, said);
    assert.equal(trial.record, undefined);
  }
  assert.deepEqual(refusing.requests, ["fence", "release"], "it may have fenced in part");
});

Deno.test("entry: a fence of other services is released, one that was up before is left alone", async () => {
  const answers = { services: [ECHO], already: false };
  await using asked = await fence((name) => name === "fence" ? [{ fenced: answers }] : []);
  await using other = new Trial({ asked });
  other.take(failed());
  await other.entry.idle();
  assert.match(String(other.failures[0]), /does not fence "10\.77\.0\.100:80"; nothing was/);
  assert.deepEqual(asked.requests, ["fence", "release"]);
  answers.already = true;
  await using again = new Trial({ asked });
  again.take(failed());
  await again.entry.idle();
  assert.equal(again.failures.length, 1);
  assert.deepEqual(asked.requests, ["fence", "release", "fence"]);
  assert.equal(again.record, undefined);
});

Deno.test("entry: recovered releases a fence that was asked, and a new failure asks again", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked });
  trial.take(failed(), recovered());
  assert.equal(trial.triggers.length, 0);
  trial.take(failed());
  await trial.entry.idle();
  assert.deepEqual(asked.requests, ["fence", "release", "fence"]);
  assert.equal(trial.triggers.length, 1);
  assert.equal(trial.record, undefined);
});

Deno.test("entry: what fails before active mode releases the fence", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked });
  trial.breaks = new Failure(69, "No shadow was started");
  trial.take(failed());
  await trial.entry.idle();
  assert.deepEqual(trial.failures, [trial.breaks]);
  assert.deepEqual(asked.requests, ["fence", "release"]);
  assert.equal(trial.record, undefined);
});

Deno.test("entry: the next start releases the fence of one that was killed before active mode", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked });
  Pending.begin(trial.runDir, { trigger: "2026-01-31T12:00:00.000000Z", fence: asked.path })
    .leave();
  await trial.entry.undoLeft();
  assert.deepEqual(asked.requests, ["release"]);
  assert.equal(trial.record, undefined);
  assert.match(trial.warnings.join(), /under way since 2026-01-31T12.* is undone/);
});

Deno.test("entry: the next start keeps the record where the fence does not answer", async () => {
  await using trial = new Trial();
  Pending.begin(trial.runDir, { trigger: "", fence: "/nowhere/fence.sock" }).leave();
  await trial.entry.undoLeft();
  assert.ok(trial.record !== undefined);
  assert.match(trial.warnings.join(), /could not be released: .*fence --release/);
});

Deno.test("entry: a living process's record is left alone, and an active host's is removed", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked });
  const other = Pending.begin(trial.runDir, { trigger: "", fence: asked.path });
  await trial.entry.undoLeft();
  assert.ok(trial.record !== undefined);
  other.leave();
  trial.shadow = false;
  await trial.entry.undoLeft();
  assert.equal(trial.record, undefined);
  assert.deepEqual(asked.requests, []);
});

Deno.test("entry: a damaged record is undone as far as it can be read", async () => {
  for (const text of ["", "null", "[]", `{"trigger":7,"fence":{}}`, "{"]) {
    await using trial = new Trial();
    Deno.writeTextFileSync(join(trial.runDir, "takeover.json"), text);
    await trial.entry.undoLeft();
    assert.equal(trial.record, undefined, text);
    assert.equal(trial.warnings.length, 1, text);
  }
});

Deno.test("entry: stopping cancels, and the fence is released", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked });
  trial.take(failed());
  trial.entry.stop("it was told to stop");
  await trial.entry.idle();
  assert.deepEqual(asked.requests, ["fence", "release"]);
  assert.deepEqual([trial.triggers, trial.failures], [[], []]);
});

Deno.test("entry: a fence whose command takes too long is released, past its request and behind it", async () => {
  for (const up of [true, false]) {
    const ended = Promise.withResolvers<void>();
    const requests: string[] = [];
    await using asked = await fence((request) => {
      requests.push(request);
      if (request === "release") {
        if (!up) ended.resolve();
        return [{ released: up ? [WEB] : [] }];
      }
      return (async function* () {
        await ended.promise;
        yield { fenced: { services: [WEB] } };
      })();
    });
    await using trial = new Trial({ asked, timeout: 5000 });
    trial.take(failed());
    await poll("the request", () => requests.length === 1);
    trial.take(recovered());
    await trial.entry.idle();
    // One that was not up yet when it was released may have come up since.
    assert.deepEqual(requests, ["fence", "release", ...(up ? [] : ["release"])]);
    assert.equal(trial.record, undefined);
    assert.deepEqual(trial.triggers, []);
    ended.resolve();
  }
});

Deno.test("entry: a fence that dies while it is asked may stand, and the record is kept", async () => {
  let died: PromiseLike<void> | undefined;
  const asked = await fence(() => {
    died = asked[Symbol.asyncDispose]();
    return [];
  });
  await asked.client.open();
  await using trial = new Trial({ asked });
  trial.take(failed());
  await trial.entry.idle();
  assert.match(String(trial.failures[0]), /does not answer: .*; nothing was taken over/);
  assert.match(trial.warnings.join(), /may stand, and could not be released: .*fence --release/);
  assert.equal(trial.record?.["fence"], asked.path);
  await died;
});

Deno.test("entry: what comes behind the fence does not count as the fence's time", async () => {
  await using asked = await fence(yes);
  await using trial = new Trial({ asked, timeout: 1000 });
  trial.behind = () => new Promise((resolve) => setTimeout(resolve, 1050));
  trial.take(failed());
  await trial.entry.idle();
  assert.deepEqual([trial.triggers.length, trial.failures], [1, []]);
});

Deno.test("a client of a control socket survives the end of its connection", async () => {
  const directory = Deno.makeTempDirSync({ prefix: "t2cp-test-" });
  const path = join(directory, "x.sock");
  const serve = () => serveControl(path, { ask: () => [{ answer: 1 }, { answer: 2 }] });
  const first = await serve();
  using client = ControlClient.of(path);
  await client.open();
  assert.deepEqual(await client.request({ request: "ask" }), [{ answer: 1 }, { answer: 2 }]);
  await assert.rejects(client.request({ request: "other" }), /must be one of "ask"/);
  await first[Symbol.asyncDispose]();
  await assert.rejects(client.request({ request: "ask" }));
  const second = await serve();
  assert.equal((await client.request({ request: "ask" })).length, 2);
  await second[Symbol.asyncDispose]();
  const third = await serve();
  const both = [client.request({ request: "ask" }), client.request({ request: "ask" })];
  assert.equal((await Promise.all(both)).length, 2);
  client[Symbol.dispose]();
  await third[Symbol.asyncDispose]();
  Deno.removeSync(directory, { recursive: true });
});
