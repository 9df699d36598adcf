import assert from "node:assert/strict";
import { FLOW_KEY } from "../../lib/flow/layout.ts";
import { MAX_WAITING, WAITING } from "../../lib/mirror/layout.ts";
import { ResetBursts, type Suspicion, Unanswered } from "../../lib/mirror/suspicion.ts";
import { flowKey } from "../fixture/bpf.ts";

const SECOND = 1_000_000;
const LIMIT = 300_000;

/** The map `waiting`, as the programs write it. */
class Slots {
  readonly buffer = new ArrayBuffer(MAX_WAITING * WAITING.size);
  readonly #view = new DataView(this.buffer);

  /** A client waits since `micros`, 0 for none, for the service that ends in `last`. */
  set(slot: number, micros: number, last = 100): void {
    const server = `10.77.0.${last}`;
    const key = flowKey({ client: "10.77.1.2", clientPort: 40_000 + slot, server, serverPort: 80 });
    const at = slot * WAITING.size;
    this.#view.setBigUint64(at + WAITING.since_ns, BigInt(micros * 1000), true);
    new Uint8Array(this.buffer, at + WAITING.key, FLOW_KEY.size).set(key);
  }

  since(slot: number): bigint {
    return this.#view.getBigUint64(slot * WAITING.size, true);
  }
}

/** What was said, without the reason that all share. */
const said = (suspicions: Iterable<Suspicion>): string[] =>
  [...suspicions].map((one) =>
    one.reason === "resets"
      ? `${one.server} ${one.count}`
      : `${one.server} ${one.count} since ${one.since}`
  );

Deno.test("suspicion: clients that wait for longer than the limit are told once a service", () => {
  const slots = new Slots();
  const watch = new Unanswered(slots.buffer, LIMIT);
  const at = (now: number) => said(watch.look(now));
  const start = 7 * SECOND;
  assert.deepEqual(at(start), []);
  slots.set(3, start);
  slots.set(MAX_WAITING - 1, start + 10);
  slots.set(9, start + 20, 101);
  assert.deepEqual(at(start + LIMIT - 1), []);
  assert.deepEqual(at(start + LIMIT + 15), [`10.77.0.100:80 2 since ${start}`]);
  assert.deepEqual(at(start + LIMIT + 25), [`10.77.0.101:80 1 since ${start + 20}`]);
  assert.deepEqual(at(start + LIMIT + 2 * SECOND), []);
});

Deno.test("suspicion: an answer ends it, and the next one is told anew, but not at once", () => {
  const slots = new Slots();
  const watch = new Unanswered(slots.buffer, LIMIT);
  const at = (now: number) => said(watch.look(now));
  slots.set(0, SECOND);
  assert.equal(at(SECOND + LIMIT).length, 1);
  slots.set(0, 0);
  assert.deepEqual(at(SECOND + LIMIT + 1000), []);
  slots.set(0, SECOND + 2000);
  assert.deepEqual(at(SECOND + 2000 + LIMIT), [], "within the rest");
  slots.set(0, 0);
  assert.deepEqual(at(3 * SECOND), []);
  slots.set(0, 4 * SECOND);
  assert.deepEqual(at(4 * SECOND + LIMIT), [`10.77.0.100:80 1 since ${4 * SECOND}`]);
});

Deno.test("suspicion: a client that has waited for very long gives its slot back", () => {
  const slots = new Slots();
  const watch = new Unanswered(slots.buffer, LIMIT);
  slots.set(5, SECOND);
  assert.equal([...watch.look(2 * SECOND)].length, 1);
  assert.notEqual(slots.since(5), 0n);
  assert.deepEqual([...watch.look(SECOND + LIMIT + 5 * SECOND)], []);
  assert.equal(slots.since(5), 0n);
});

Deno.test("suspicion: resets are too many within a second, not in all", () => {
  const counts = new BigUint64Array(2).fill(1000n);
  const watch = new ResetBursts(counts, ["10.77.0.100:80", "10.77.0.100:81"], 5);
  const at = (now: number, ...more: number[]) => {
    more.forEach((count, place) => counts[place]! += BigInt(count));
    return said(watch.look(now));
  };
  assert.deepEqual(at(0), [], "those from before the start do not count");
  assert.deepEqual(at(0.1 * SECOND, 4), []);
  assert.deepEqual(at(1.1 * SECOND, 4), [], "the first four are a second old");
  assert.deepEqual(at(1.2 * SECOND, 1, 7), ["10.77.0.100:80 5", "10.77.0.100:81 7"]);
  assert.deepEqual(at(1.3 * SECOND, 100, 100), []);
  assert.deepEqual(at(2.5 * SECOND), []);
  assert.deepEqual(at(9 * SECOND, 0, 5), ["10.77.0.100:81 5"]);
});
