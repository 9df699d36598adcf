import assert from "node:assert/strict";
import { join } from "node:path";
import { BpfMap } from "../../ffi/bpf_map.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { libbpf } from "../../ffi/libbpf_sys.ts";
import { FLOW, FLOW_KEY, JOINING, STRANGER_REPORTED } from "../../lib/flow/layout.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";
import { isRoot } from "./lab.ts";
import { onStage } from "./stage.ts";
import { PORT, TWINS, Twins } from "./twins.ts";

// It stays open for good, which the sanitizer would hold against the test.
if (isRoot) libbpf();

/** The time `seconds` ago, on the programs' clock. */
const ago = (seconds: number): bigint =>
  BigInt(Math.round((monotonicMicros() - seconds * 1e6) * 1e3));

onStage("sweep: what is over is removed, with its socket, and nothing else", async (stage) => {
  using twins = new Twins(stage);
  const shadow = await stage.shadow("--service", TWINS);
  await stage.mirror("--service", TWINS);
  const opened = (name: string) => BpfMap.openPinned(join(stage.runDir, "bpf", "shadow", name));
  using flows = opened("flows");
  using handshakes = opened("handshakes");
  using strangers = opened("strangers");
  const key = (port: number): Uint8Array<ArrayBuffer> => {
    const bytes = new Uint8Array(FLOW_KEY.size);
    new DataView(bytes.buffer).setUint16(FLOW_KEY.client_port, port);
    return bytes;
  };
  /** Makes `map` have a flow that was last heard of so long ago. */
  const remember = (map: BpfMap, port: number, seconds: number, synackSeen = 0) => {
    const value = new Uint8Array(FLOW.size);
    const view = new DataView(value.buffer);
    view.setBigUint64(FLOW.seen_ns, ago(seconds), true);
    view.setUint8(FLOW.synack_seen, synackSeen);
    map.update(key(port), value);
  };
  /** Makes the programs believe that a flow was closed by some sides, and silent for so long. */
  const age = (port: number, seconds: number, sides: readonly ("client" | "primary")[]) => {
    const { keys, values, count } = flows.entries();
    for (let i = 0; i < count; i++) {
      const at = i * FLOW_KEY.size;
      if (new DataView(keys.buffer).getUint16(at + FLOW_KEY.client_port) !== port) continue;
      const value = values.slice(i * FLOW.size, (i + 1) * FLOW.size);
      const view = new DataView(value.buffer);
      view.setBigUint64(FLOW.seen_ns, ago(seconds), true);
      for (const side of sides) view.setUint8(FLOW[`${side}_fin`], 1);
      flows.update(keys.slice(at, at + FLOW_KEY.size), value);
      return;
    }
    assert.fail(`no flow of port ${port}`);
  };
  const over = [await twins.open("both closed"), await twins.open("half closed for long")];
  const living = [await twins.open("half closed"), await twins.open("idle")];
  age(over[0]!.port, 70, ["client", "primary"]);
  age(over[1]!.port, 700, ["primary"]);
  age(living[0]!.port, 70, ["client"]);
  age(living[1]!.port, 9000, []);
  remember(flows, 1, 70);
  remember(flows, 2, 10);
  remember(handshakes, 1, 130, 1);
  remember(handshakes, 2, 50, 1);
  remember(handshakes, 3, 7000, JOINING);
  remember(handshakes, 4, 7300, JOINING);
  const stamp = (seconds: number) => Number(ago(seconds) / (1n << 30n));
  const stamps = [
    stamp(70),
    stamp(10),
    stamp(7000) | STRANGER_REPORTED,
    stamp(7300) | STRANGER_REPORTED,
  ];
  for (const [i, value] of stamps.entries()) {
    strangers.update(key(i + 1), new Uint8Array(Uint32Array.of(value, 0).buffer));
  }

  const portsIn = (map: BpfMap): number[] => {
    const { keys, count } = map.entries();
    const view = new DataView(keys.buffer);
    return Array.from(
      { length: count },
      (_, i) => view.getUint16(i * FLOW_KEY.size + FLOW_KEY.client_port),
    ).toSorted((a, b) => a - b);
  };
  const left = living.map(({ port }) => port);
  // A sweep may have begun before all was in its place.
  await poll("the flows", () => portsIn(flows).length <= 1 + left.length, PATIENCE, 100);
  await poll("the handshakes", () => portsIn(handshakes).length <= 2, PATIENCE, 100);
  const marked = () => portsIn(strangers).filter((port) => port < 10);
  await poll("the strangers", () => marked().length <= 2, PATIENCE, 100);
  assert.deepEqual(portsIn(flows), [2, ...left]);
  assert.deepEqual(portsIn(handshakes), [2, 3]);
  assert.deepEqual(marked(), [2, 3]);
  const sockets = await stage.sockets("backup", PORT);
  assert.equal(sockets.length, left.length, sockets.join("\n"));
  const { swept_sockets } = await stage.stats();
  assert.equal(swept_sockets, over.length);
  assert.deepEqual(shadow.events.filter(({ type }) => type === "warning"), []);
});
