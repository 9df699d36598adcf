import assert from "node:assert/strict";
import { monotonicMicros } from "../../ffi/clock.ts";
import { Emitter, type Event } from "../../lib/event.ts";
import type { GuardEvent } from "../../lib/guard/layout.ts";
import { type OnWorker, Verdict } from "../../lib/guard/verdict.ts";
import { NdjsonWriter } from "../../lib/ndjson.ts";

// Libraries that a test opens count as its leaks; this one stays.
monotonicMicros();

const KILLED = 9;
const STOPPED = 15;
const MAIN = 100;
const WORKER = 101;

/** A verdict about main process 100, and what it emits. */
class Bench {
  readonly pids = [MAIN];
  readonly verdict: Verdict;
  readonly #chunks: Uint8Array[] = [];
  readonly #writer: NdjsonWriter;

  constructor(onWorker: OnWorker, named = true) {
    if (!named) this.pids.length = 0;
    this.#writer = new NdjsonWriter({
      write: (bytes: Uint8Array) => {
        this.#chunks.push(bytes.slice());
        return Promise.resolve(bytes.length);
      },
    });
    const { pids } = this;
    const mains = {
      named,
      pids,
      get complete(): boolean {
        return !named || pids.length > 0;
      },
      remove(pid: number): boolean {
        const at = pids.indexOf(pid);
        if (at >= 0) pids.splice(at, 1);
        return at >= 0;
      },
    };
    this.verdict = new Verdict(
      { target: "primary", onWorker },
      mains,
      new Emitter("guard", this.#writer, "host"),
    );
  }

  async events(): Promise<Event[]> {
    await this.#writer.flush();
    const text = this.#chunks.map((chunk) => new TextDecoder().decode(chunk)).join("");
    return text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  }

  async types(): Promise<string[]> {
    return (await this.events()).map(({ type }) => type);
  }
}

function event(type: GuardEvent["type"], pid: number, exitCode = KILLED): GuardEvent {
  return { type, pid, ns: 1e9, exitCode, name: "server" };
}

Deno.test("guard verdict: the crash of the main process is a failure, told once", async () => {
  for (const policy of ["fail", "release"] as const) {
    const bench = new Bench(policy);
    bench.verdict.take(event("crash", MAIN));
    bench.verdict.take(event("exit", MAIN));
    bench.verdict.lost(MAIN);
    const [failed, exit, ...more] = await bench.events();
    assert.deepEqual(more, []);
    assert.equal(failed?.type, "failed");
    assert.equal(failed?.target, "primary");
    assert.deepEqual([failed?.level, failed?.cause], ["application", "unplanned"]);
    const [evidence] = failed?.evidence as Record<string, unknown>[];
    assert.deepEqual(
      [evidence?.signal, evidence?.pid, evidence?.ended, evidence?.last],
      ["socket", MAIN, "signal 9", failed?.last_seen],
    );
    assert.deepEqual(
      [exit?.type, exit?.pid, exit?.main, exit?.crashed],
      ["process.exit", MAIN, true, true],
    );
  }
});

Deno.test("guard verdict: a main process that ends in order has not failed", async () => {
  const bench = new Bench("fail");
  bench.verdict.take(event("exit", MAIN, STOPPED));
  bench.verdict.lost(MAIN);
  const [exit, ...more] = await bench.events();
  assert.deepEqual(more, []);
  assert.deepEqual([exit?.type, exit?.ended, exit?.crashed], ["process.exit", "signal 15", false]);
  assert.equal(bench.verdict.failed, false);
});

Deno.test("guard verdict: a main process whose end the programs did not tell has failed", async () => {
  const bench = new Bench("fail");
  bench.verdict.lost(MAIN);
  const [failed, exit] = await bench.events();
  assert.deepEqual([failed?.type, exit?.type, exit?.ended], ["failed", "process.exit", "unknown"]);
});

Deno.test("guard verdict: a worker's crash is a failure, by the policy fail", async () => {
  const bench = new Bench("fail");
  bench.verdict.take(event("crash", WORKER));
  bench.verdict.take(event("crash", WORKER + 1));
  assert.deepEqual(await bench.types(), ["failed", "process.exit", "process.exit"]);
  assert.equal((await bench.events())[1]?.main, false);
});

Deno.test("guard verdict: where nothing is named, every crash is a failure", async () => {
  const bench = new Bench("fail", false);
  bench.verdict.take(event("crash", WORKER));
  assert.deepEqual(await bench.types(), ["failed", "process.exit"]);
});

Deno.test("guard verdict: a worker that dies alone is let go after a moment, by the policy release", async () => {
  const bench = new Bench("release");
  bench.verdict.take(event("crash", WORKER), 1000);
  assert.equal(bench.verdict.due(1000), 50);
  assert.deepEqual(bench.verdict.tick(1049), []);
  assert.deepEqual(await bench.types(), []);
  assert.deepEqual(bench.verdict.tick(1050), [WORKER]);
  assert.deepEqual(await bench.types(), ["process.exit"]);
  assert.equal(bench.verdict.due(1050), Infinity);
});

Deno.test("guard verdict: workers that die with their main process have failed, in any order", async () => {
  const first = new Bench("release");
  first.verdict.take(event("crash", WORKER), 1000);
  first.verdict.take(event("exit", MAIN), 1010);
  assert.deepEqual(first.verdict.tick(1010), []);
  first.verdict.take(event("crash", WORKER + 1), 1020);
  const types = ["failed", "process.exit", "process.exit", "process.exit"];
  assert.deepEqual(await first.types(), types);

  const last = new Bench("release");
  last.verdict.take(event("exit", MAIN), 1000);
  last.verdict.take(event("crash", WORKER), 1010);
  assert.deepEqual(last.verdict.tick(1010), []);
  assert.deepEqual(await last.types(), ["failed", "process.exit", "process.exit"]);
});

Deno.test("guard verdict: after recovery the next crash is a failure again", async () => {
  const bench = new Bench("fail");
  bench.verdict.recover();
  bench.verdict.take(event("crash", WORKER));
  bench.verdict.recover();
  bench.verdict.recover();
  bench.verdict.take(event("crash", WORKER + 1));
  assert.deepEqual(
    await bench.types(),
    ["failed", "process.exit", "recovered", "failed", "process.exit"],
  );
});
