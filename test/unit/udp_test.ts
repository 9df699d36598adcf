import assert from "node:assert/strict";
import { SystemError } from "../../ffi/errno.ts";
import { Poller } from "../../ffi/poller.ts";
import { interfaceIndex, UdpSocket } from "../../ffi/udp.ts";
import { PATIENCE, poll } from "../fixture/wait.ts";

const LOOPBACK = { 4: Uint8Array.of(127, 0, 0, 1), 6: new Uint8Array(16) } as const;
LOOPBACK[6][15] = 1;

function hasIpv6(): boolean {
  try {
    UdpSocket.open({ family: 6, address: LOOPBACK[6] }).close();
    return true;
  } catch {
    return false;
  }
}

/** Waits for the next datagram. */
async function next(socket: UdpSocket): Promise<ReturnType<UdpSocket["receive"]>> {
  const poller = new Poller([socket.fd]);
  try {
    for (const end = performance.now() + PATIENCE; performance.now() < end;) {
      const datagram = socket.receive();
      if (datagram !== undefined) return datagram;
      await poller.wait(250_000);
    }
    return undefined;
  } finally {
    await poller.close();
  }
}

function ofSystem(code: string, attempted: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof SystemError && error.code === code && attempted.test(error.message);
}

for (const family of [4, 6] as const) {
  const ignore = family === 6 && !hasIpv6();

  Deno.test({
    name: `udp: IPv${family} datagrams carry source, destination, TTL and interface`,
    ignore,
    async fn() {
      const receiver = UdpSocket.open({ family, address: LOOPBACK[family] });
      const sender = UdpSocket.open({ family, address: LOOPBACK[family], ttl: 255, dscp: 48 });
      const routed = UdpSocket.open({ family, ttl: 7, priority: 6 });
      try {
        const to = receiver.localAddress();
        assert.deepEqual(to.address, LOOPBACK[family]);
        assert.equal(receiver.receive(), undefined, "nothing waits yet");
        assert.equal(sender.send(Uint8Array.of(1, 2, 3), to), true);
        const first = await next(receiver);
        assert.deepEqual(first?.bytes, Uint8Array.of(1, 2, 3));
        assert.equal(first?.ttl, 255);
        assert.equal(first?.truncated, false);
        assert.deepEqual(first?.source, sender.localAddress());
        assert.deepEqual(first?.destination, LOOPBACK[family]);
        assert.equal(first?.interfaceIndex, interfaceIndex("lo"));
        assert.equal(routed.send(new Uint8Array(0), to), true);
        const second = await next(receiver);
        assert.equal(second?.ttl, 7);
        assert.equal(second?.bytes.length, 0);
      } finally {
        for (const socket of [receiver, sender, routed]) socket.close();
      }
    },
  });

  Deno.test({
    name: `udp: an IPv${family} datagram beyond the buffer is cut, and says so`,
    ignore,
    async fn() {
      const receiver = UdpSocket.open({ family, address: LOOPBACK[family] }, 10);
      const sender = UdpSocket.open({ family });
      try {
        sender.send(new Uint8Array(11).fill(5), receiver.localAddress());
        const datagram = await next(receiver);
        assert.deepEqual(datagram?.bytes, new Uint8Array(10).fill(5));
        assert.equal(datagram?.truncated, true);
      } finally {
        receiver.close();
        sender.close();
      }
    },
  });
}

Deno.test("udp: a port in use, a foreign address and an unknown interface are named", () => {
  const family = 4;
  const first = UdpSocket.open({ family, address: LOOPBACK[4] });
  try {
    const { port } = first.localAddress();
    assert.throws(
      () => UdpSocket.open({ family, address: LOOPBACK[4], port }),
      ofSystem("EADDRINUSE", new RegExp(`bind UDP port ${port}`)),
    );
  } finally {
    first.close();
  }
  // TEST-NET-1 of RFC 5737 is nobody's.
  const address = Uint8Array.of(192, 0, 2, 1);
  assert.throws(() => UdpSocket.open({ family, address }), ofSystem("EADDRNOTAVAIL", /bind/));
  assert.throws(
    () => UdpSocket.open({ family, bindToDevice: "none-such0" }),
    ofSystem("ENODEV", /bind to interface "none-such0"/),
  );
  assert.equal(interfaceIndex("none-such0"), 0);
});

Deno.test("udp: options and addresses out of range are refused before any call", () => {
  const family = 4;
  const wrong = [
    { family, address: new Uint8Array(16) },
    { family, port: 65536 },
    { family, port: -1 },
    { family, ttl: 0 },
    { family, ttl: 256 },
    { family, dscp: 64 },
    { family, priority: 7 },
  ] as const;
  for (const options of wrong) assert.throws(() => UdpSocket.open(options), RangeError);
  assert.throws(() => UdpSocket.open({ family }, 0), RangeError);
  const socket = UdpSocket.open({ family });
  try {
    const peer = { address: new Uint8Array(5), port: 1, scopeId: 0 };
    assert.throws(() => socket.send(new Uint8Array(1), peer), RangeError);
  } finally {
    socket.close();
  }
});

Deno.test("udp: a closed socket refuses all but another close", () => {
  const socket = UdpSocket.open({ family: 4 });
  socket.close();
  socket.close();
  assert.throws(() => socket.receive(), TypeError);
  assert.throws(() => socket.localAddress(), TypeError);
});

/** Whatever else the machine does, one of several attempts takes less than 200 ms. */
async function shortly(attempt: () => Promise<number>): Promise<void> {
  const took: number[] = [];
  while (took.length < 20) {
    took.push(await attempt());
    if (took.at(-1)! < 200) return;
  }
  assert.fail(`took ${took} ms`);
}

Deno.test("poller: waits no longer than asked, and hardly shorter", async () => {
  const poller = new Poller([]);
  try {
    await shortly(async () => {
      const start = performance.now();
      await poller.wait(20_000);
      const took = performance.now() - start;
      assert.ok(took >= 19, `took ${took} ms`);
      return took;
    });
  } finally {
    await poller.close();
  }
});

Deno.test("poller: a datagram, a wake and a close end the wait", async () => {
  const receiver = UdpSocket.open({ family: 4, address: LOOPBACK[4] });
  const sender = UdpSocket.open({ family: 4 });
  /** A wait of 240 ms, which `act` is to end. */
  const ended = (act: (poller: Poller) => unknown, before: (poller: Poller) => void = () => {}) =>
    shortly(async () => {
      const poller = new Poller([receiver.fd]);
      try {
        while (receiver.receive() !== undefined);
        before(poller);
        const acting = new Promise((resolve) => setTimeout(resolve, 5)).then(() => act(poller));
        const start = performance.now();
        await poller.wait(240_000);
        const took = performance.now() - start;
        await acting;
        return took;
      } finally {
        await poller.close();
        await assert.rejects(poller.wait(1), TypeError);
      }
    });
  try {
    const to = receiver.localAddress();
    await ended(() => sender.send(Uint8Array.of(1), to));
    await ended((poller) => poller.wake());
    await ended(() => {}, (poller) => poller.wake());
    await ended((poller) => poller.close());
  } finally {
    receiver.close();
    sender.close();
  }
});

Deno.test("poller: refuses two waits at once, and descriptors that are closed", async () => {
  const socket = UdpSocket.open({ family: 4 });
  const poller = new Poller([socket.fd]);
  try {
    const first = poller.wait(1_000);
    await assert.rejects(poller.wait(1_000), TypeError);
    await first;
    socket.close();
    await assert.rejects(poller.wait(1_000), ofSystem("EBADF", /poll/));
  } finally {
    await poller.close();
    socket.close();
  }
});

Deno.test("udp: opening and closing leaks no descriptors", async () => {
  const count = (): number => [...Deno.readDirSync("/proc/self/fd")].length;
  const before = count();
  const turns = 200;
  for (let i = 0; i < turns; i++) {
    const socket = UdpSocket.open({ family: 4 });
    const poller = new Poller([socket.fd]);
    await poller.wait(0);
    await poller.close();
    socket.close();
    assert.throws(() => UdpSocket.open({ family: 4, bindToDevice: "none-such0" }), SystemError);
  }
  // Tests of other files open and close some in this same process.
  await poll("as few descriptors as before", () => count() < before + turns / 2);
});
