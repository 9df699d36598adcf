/**
 * Injection and live capture, on a pair of interfaces of its own.
 */
import assert from "node:assert/strict";
import { Capture } from "../../ffi/capture.ts";
import { Injector, PcapError } from "../../ffi/libpcap.ts";
import { libc } from "../../ffi/libc_sys.ts";
import { libpcap } from "../../ffi/libpcap_sys.ts";
import { Poller } from "../../ffi/poller.ts";
import { unique } from "../fixture/unique.ts";

const root = Deno.uid() === 0;
// Libraries stay open for the process: opened inside a test, they would count as its leak.
libc();
if (root) libpcap();
const left = unique("t2cpl");
const right = unique("t2cpr");

function ip(...args: string[]): void {
  const { success, stderr } = new Deno.Command("ip", { args }).outputSync();
  assert.ok(success, new TextDecoder().decode(stderr));
}

function frame(tag: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(100).fill(tag);
  bytes.fill(0xff, 0, 6);
  new DataView(bytes.buffer).setUint16(12, 0x88b6);
  return bytes;
}

Deno.test({
  name: "libpcap: what is injected on one end is captured on the other, cut to the snap length",
  ignore: !root,
  async fn() {
    ip("link", "add", left, "type", "veth", "peer", "name", right);
    try {
      for (const name of [left, right]) ip("link", "set", name, "up");
      using capture = new Capture(right, {
        filters: () => [{ filter: "ether proto 0x88b6", snaplen: 64 }],
        bufferSize: 1 << 20,
        largest: 1514,
        delay: 10,
      });
      using injector = new Injector(left);
      const before = Date.now() / 1000;
      for (let tag = 1; tag <= 200; tag++) injector.send(frame(tag));
      const tags: number[] = [];
      const poller = new Poller([capture.fd]);
      try {
        for (let turn = 0; tags.length < 200 && turn < 200; turn++) {
          await poller.wait(50_000);
          capture.drain((view, at, captured, length, seconds, nanos) => {
            assert.equal(captured, 64);
            assert.equal(length, 100);
            assert.ok(Math.abs(seconds + nanos / 1e9 - before) < 60);
            assert.ok(nanos < 1e9);
            tags.push(view.getUint8(at + 20));
          }, 64);
        }
      } finally {
        await poller.close();
      }
      assert.deepEqual(tags, Array.from({ length: 200 }, (_, i) => i + 1));
      assert.deepEqual(capture.stats(), { received: 200, dropped: 0, interfaceDropped: 0 });
    } finally {
      ip("link", "del", left);
    }
  },
});

Deno.test({
  name: "libpcap: an unknown interface and a wrong filter are named in the error",
  ignore: !root,
  fn() {
    const options = {
      filters: () => [{ filter: "", snaplen: 64 }],
      bufferSize: 1 << 20,
      largest: 1514,
      delay: 10,
    };
    assert.throws(() => new Injector("nosuch0"), (error) => {
      return error instanceof PcapError && /"nosuch0".*(No such device|exist)/i.test(error.message);
    });
    assert.throws(
      () =>
        new Capture("lo", { ...options, filters: () => [{ filter: "no filter", snaplen: 64 }] }),
      (error) => {
        return error instanceof PcapError && /filter "no filter"/.test(error.message);
      },
    );
  },
});
