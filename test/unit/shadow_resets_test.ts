import assert from "node:assert/strict";
import { type FlowEvent, REPLICA_RESET } from "../../lib/flow/event.ts";
import { FLOW, FLOW_KEY } from "../../lib/flow/layout.ts";
import { ResetWatch } from "../../lib/shadow/resets.ts";

function eventOf(id: number, reason: number = REPLICA_RESET): FlowEvent {
  const key = new Uint8Array(FLOW_KEY.size);
  new DataView(key.buffer).setUint32(0, id);
  const ends = { client: `10.0.0.1:${id}`, server: "10.0.0.2:80" };
  return { type: "flow.unprotected", reason, key, ns: 0, detail: 0, from: 0, to: 0, ...ends };
}

/** A watch over a flow map in which flow `id` stands if `flows` has it: true where it was reset by its replica. */
function watched(flows: Map<number, boolean>): { watch: ResetWatch; reported: string[] } {
  const reported: string[] = [];
  const map = {
    lookup(key: Uint8Array, value: Uint8Array): boolean {
      const reset = flows.get(new DataView(key.buffer).getUint32(0));
      value[FLOW.replica_reset] = reset ? 1 : 0;
      return reset !== undefined;
    },
  };
  return { watch: new ResetWatch(map, ({ client }) => reported.push(client)), reported };
}

Deno.test("resets: what the primary goes on with for three seconds is reported, once", () => {
  const flows = new Map([[1, true], [2, true], [3, false]]);
  const { watch, reported } = watched(flows);
  for (const id of [1, 2, 3, 4]) assert.ok(watch.take(eventOf(id), 100 * id));
  watch.look(3000);
  assert.deepEqual(reported, [], "the primary may be about to reset it");
  flows.delete(2);
  watch.look(3150);
  assert.deepEqual(reported, ["10.0.0.1:1"]);
  watch.look(9000);
  watch.end();
  assert.deepEqual(reported, ["10.0.0.1:1"]);
});

Deno.test("resets: the last ones are judged at the end", () => {
  const { watch, reported } = watched(new Map([[1, true]]));
  for (const id of [1, 2]) watch.take(eventOf(id));
  watch.end();
  assert.deepEqual(reported, ["10.0.0.1:1"]);
});

Deno.test("resets: a flood of them is judged before its time, from the oldest on", () => {
  const { watch, reported } = watched(new Map(Array.from({ length: 5000 }, (_, id) => [id, true])));
  for (let id = 0; id < 4100; id++) watch.take(eventOf(id), 0);
  assert.deepEqual(reported, [0, 1, 2, 3].map((id) => `10.0.0.1:${id}`));
});

Deno.test("resets: other events are none of its business", () => {
  const { watch, reported } = watched(new Map([[1, true]]));
  assert.ok(!watch.take(eventOf(1, 5)));
  assert.ok(!watch.take({ ...eventOf(1), type: "lag" }));
  watch.end();
  assert.deepEqual(reported, []);
});
