import assert from "node:assert/strict";
import { Authenticator, type AuthKey } from "../../lib/bfd/authentication.ts";
import { type ControlPacket, emptyPacket, encode, State } from "../../lib/bfd/packet.ts";
import { MEANINGS } from "../../lib/detect/discard.ts";
import { readKey } from "../../lib/detect/key_file.ts";
import { addressBytes, MULTIHOP } from "../../lib/detect/network.ts";
import type { Event } from "../../lib/event.ts";
import { Failure } from "../../lib/failure.ts";
import { readPage, section } from "../fixture/man.ts";
import { seeded } from "./bfd_link.ts";
import { PEER, run, VirtualNetwork } from "./detect_network.ts";

const SECOND = 1_000_000;
const answering = { allowed: [], limit: 4 };
const authKey: AuthKey = {
  type: "meticulous-keyed-sha1",
  keyId: 7,
  key: new TextEncoder().encode("a key"),
};

function stats(events: readonly Event[]) {
  const last = events.findLast(({ type }) => type === "stats")!;
  return last as unknown as { discarded: Record<string, number>; sessions: { state: string }[] };
}

function fromPeer(fields: Partial<ControlPacket> = {}): ControlPacket {
  return {
    ...emptyPacket(),
    state: State.Down,
    detectMult: 3,
    myDiscriminator: 5,
    desiredMinTxInterval: SECOND,
    requiredMinRxInterval: 50_000,
    ...fields,
  };
}

function wire(fields: Partial<ControlPacket> = {}): Uint8Array {
  const bytes = new Uint8Array(64);
  return bytes.subarray(0, encode(fromPeer(fields), bytes));
}

/** A sound packet with one byte changed. */
function broken(at: number, change: (byte: number) => number): Uint8Array {
  const bytes = wire({ yourDiscriminator: 0 }).slice();
  bytes[at] = change(bytes[at]!);
  return bytes;
}

Deno.test("refuse: every rule of RFC 5880 section 6.8.6 is counted, and told of once", async () => {
  const network = new VirtualNetwork();
  const { received } = network.host(PEER);
  const section = new Uint8Array([9, 2]);
  const wrong: Record<string, () => Uint8Array> = {
    "truncated": () => wire().subarray(0, 23),
    "bad-version": () => broken(0, (byte) => byte | 0x40),
    "bad-length": () => broken(3, () => 23),
    "length-beyond-payload": () => broken(3, () => 25),
    "zero-detect-mult": () => broken(2, () => 0),
    "multipoint": () => broken(1, (byte) => byte | 1),
    "zero-my-discriminator": () => wire().fill(0, 4, 8),
    "zero-your-discriminator": () => broken(1, () => State.Up << 6),
    "bad-authentication-length": () => wire({ authentication: section.with(1, 1) }),
    "unexpected-authentication": () => wire({ authentication: section }),
    "unknown-discriminator": () =>
      wire({ yourDiscriminator: received.at(-1)!.myDiscriminator % 1000 + 1 }),
  };
  for (let i = 0; i < 3; i++) {
    for (const make of Object.values(wrong)) {
      network.at(SECOND + i * 50_000, () => network.inject(make(), PEER));
    }
  }
  const events = await run(network, 3 * SECOND, { statsInterval: 2 * SECOND });
  const expected = Object.fromEntries(Object.keys(wrong).map((reason) => [reason, 3]));
  assert.deepEqual(stats(events).discarded, expected);
  const warnings = events.filter(({ type }) => type === "warning");
  assert.equal(warnings.length, Object.keys(wrong).length);
  assert.equal(events.filter(({ type }) => type === "failed").length, 0);
});

Deno.test("refuse: authenticated sessions come up, and nothing else counts", async () => {
  const network = new VirtualNetwork();
  const host = { authenticator: new Authenticator(authKey, seeded(8)) };
  const { session } = network.host(PEER, host);
  const other = new Authenticator({ ...authKey, key: Uint8Array.of(1) }, seeded(1));
  const signed = (authenticator: Authenticator): Uint8Array => {
    const bytes = new Uint8Array(64);
    const length = encode(fromPeer({ state: State.AdminDown }), bytes);
    return bytes.subarray(0, authenticator.sign(bytes, length));
  };
  network.at(SECOND, () => network.inject(wire({ state: State.AdminDown }), PEER));
  network.at(SECOND, () => network.inject(signed(other), PEER));
  const options = { authKey, statsInterval: 2 * SECOND };
  const events = await run(network, 3 * SECOND, options);
  assert.equal(session.remoteSessionState, State.AdminDown, "the end is authenticated too");
  assert.deepEqual(stats(events).discarded, {
    "missing-authentication": 1,
    "authentication-sequence": 1,
  });
  assert.equal(events.filter(({ type }) => type === "failed").length, 0);
});

Deno.test("refuse: who cannot authenticate costs the responder no session", async () => {
  const network = new VirtualNetwork();
  const host = { role: "active" as const, authenticator: new Authenticator(authKey, seeded(8)) };
  const { session } = network.host(PEER, host);
  let most = 0;
  for (let i = 0; i < 1000; i++) {
    network.at(SECOND + i * 500, () => {
      network.inject(wire({ myDiscriminator: i + 1 }), `198.51.100.${i % 250 + 1}`);
      most = Math.max(most, network.senders);
    });
  }
  const options = { answering, authKey, statsInterval: 2 * SECOND };
  const events = await run(network, 2 * SECOND + 1000, options, () => {});
  assert.equal(most, 1);
  assert.deepEqual(stats(events).discarded, { "missing-authentication": 1000 });
  assert.deepEqual(stats(events).sessions.map(({ state }) => state), ["Up"]);
  assert.equal(session.remoteSessionState, State.AdminDown);
});

Deno.test("refuse: multihop takes packets down to the least TTL", async () => {
  const network = new VirtualNetwork();
  network.at(SECOND, () => network.inject(wire(), "192.0.2.1", { ttl: 240 }));
  network.at(SECOND, () => network.inject(wire(), "192.0.2.2", { ttl: 239 }));
  const options = {
    answering,
    kind: { ...MULTIHOP, minTtl: 240 },
    statsInterval: 2 * SECOND,
  };
  const events = await run(network, 3 * SECOND, options, () => {});
  assert.equal(stats(events).sessions.length, 1);
  assert.deepEqual(stats(events).discarded, { ttl: 1 });
  const warning = events.find(({ type }) => type === "warning");
  assert.match(String(warning?.message), /its TTL is 239 and not 240 or more$/);
});

Deno.test("refuse: one host has a session for each local address that it asks", async () => {
  const network = new VirtualNetwork();
  for (const last of [1, 2, 1]) {
    const destination = addressBytes(`192.0.2.10${last}`);
    network.at(SECOND, () => network.inject(wire(), PEER, { destination }));
  }
  let count = 0;
  network.at(SECOND + 1000, () => count = network.senders);
  await run(network, 2 * SECOND, { answering }, () => {});
  assert.equal(count, 2);
});

Deno.test("refuse: a link-local peer is another one on another link", async () => {
  const network = new VirtualNetwork();
  const address = addressBytes("fe80::2");
  const destination = addressBytes("fe80::1");
  const allowed = [{ address, port: 0, scopeId: 3 }];
  for (const scopeId of [3, 4]) {
    const source = { address, port: 50_000, scopeId };
    network.at(SECOND, () => network.inject(wire(), PEER, { source, destination }));
  }
  let count = 0;
  network.at(SECOND + 1000, () => count = network.senders);
  const options = { answering: { allowed, limit: 4 }, statsInterval: SECOND + 500_000 };
  const events = await run(network, 2 * SECOND, options, () => {});
  assert.equal(count, 1);
  assert.deepEqual(stats(events).discarded, { "unknown-peer": 1 });
});

Deno.test("refuse: packets in AdminDown are counted, and no news", async () => {
  const network = new VirtualNetwork();
  const { session } = network.host(PEER);
  // It does not confirm, so that the detector lingers.
  network.at(2 * SECOND - 1000, () => session.receive = () => undefined);
  const events = await run(network, 2 * SECOND, { statsInterval: SECOND / 10 });
  assert.ok(stats(events).discarded["admin-down"]! > 0);
  assert.equal(events.filter(({ type }) => type === "warning").length, 0);
});

Deno.test("refuse: strangers begin 256 sessions at once and 200 a second at most", async () => {
  const network = new VirtualNetwork();
  network.at(SECOND, () => {
    for (let i = 0; i < 1000; i++) network.inject(wire(), `198.51.${i >> 8}.${i & 255}`);
  });
  network.at(2 * SECOND, () => {
    for (let i = 0; i < 1000; i++) network.inject(wire(), `203.0.${i >> 8}.${i & 255}`);
  });
  const options = { answering: { allowed: [], limit: 4000 }, statsInterval: 3 * SECOND };
  const events = await run(network, 4 * SECOND, options, () => {});
  assert.equal(stats(events).sessions.length, 456);
  assert.deepEqual(stats(events).discarded, { "too-many-newcomers": 2000 - 456 });
});

Deno.test("key file: only its owner may open it, and the key must fit", async () => {
  const path = await Deno.makeTempFile({ prefix: "t2cp-test-" });
  const write = async (text: string, mode = 0o600) => {
    await Deno.writeTextFile(path, text);
    await Deno.chmod(path, mode);
  };
  const refused = (status: number, message: RegExp, type: AuthKey["type"] = "keyed-sha1") =>
    assert.throws(() => readKey(path, type), (error) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.status, status);
      assert.match(error.message, message);
      assert.ok(!error.line.includes("secret"), "no message shows the key");
      return true;
    });
  try {
    await write("my secret\n");
    assert.equal(new TextDecoder().decode(readKey(path, "simple")), "my secret");
    await write("12345678901234567890\n");
    assert.equal(readKey(path, "keyed-sha1").length, 20);
    refused(65, /has more than 16 bytes$/, "keyed-md5");
    await write("123456789012345678901");
    refused(65, /has more than 20 bytes$/);
    await write("\n");
    refused(65, /is empty$/);
    for (const mode of [0o640, 0o604, 0o620, 0o602]) {
      await write("my secret\n", mode);
      refused(77, /is open to others, its mode is 06/);
    }
    await write("my secret\n");
    if (Deno.uid() === 0) {
      await Deno.chown(path, 65534, 65534);
      refused(77, /belongs to another user$/);
    }
    await Deno.remove(path);
    refused(66, /does not exist$/);
    await Deno.mkdir(path);
    refused(65, /is not a regular file$/);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("t2cp-detect(8) names every reason to discard a packet", () => {
  const text = section(readPage("t2cp-detect.8"), "EVENTS").join("\n");
  for (const reason of Object.keys(MEANINGS)) {
    assert.ok(text.includes(`.Dq ${reason}\n`) || text.includes(`.Dq ${reason} ,`), reason);
  }
});
