import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fc from "fast-check";
import {
  AUTH_TYPES,
  Authenticator,
  AuthType,
  type AuthTypeName,
  longestKey,
} from "../../lib/bfd/authentication.ts";
import { emptyPacket, encode, State } from "../../lib/bfd/packet.ts";
import { seeded, VirtualLink } from "./bfd_link.ts";

const SECOND = 1_000_000;
const KEY = new TextEncoder().encode("secret");
const CRYPTOGRAPHIC = AUTH_TYPES.filter((type) => type !== "simple");

function made(
  type: AuthTypeName,
  options: { key?: Uint8Array; keyId?: number; from?: number } = {},
) {
  const { key = KEY, keyId = 5, from = 0 } = options;
  return new Authenticator({ type, keyId, key }, () => from / 0x100000000);
}

/** A packet without authentication, in a buffer of its length. */
function plain(): [Uint8Array, number] {
  const buffer = new Uint8Array(64);
  const packet = { ...emptyPacket(), state: State.Up, detectMult: 3, myDiscriminator: 1 };
  return [buffer, encode({ ...packet, yourDiscriminator: 2 }, buffer)];
}

function signed(authenticator: Authenticator): Uint8Array {
  const [buffer, length] = plain();
  return buffer.subarray(0, authenticator.sign(buffer, length));
}

/** Two authenticated ends. */
function pair(type: AuthTypeName, keys: { a?: Uint8Array; b?: Uint8Array } = {}): VirtualLink {
  return new VirtualLink(
    { authenticator: made(type, { key: keys.a, from: 0xfffffff0 }) },
    { authenticator: made(type, { key: keys.b, from: 77 }) },
  );
}

Deno.test("authentication: the sections have the bytes of RFC 5880 sections 4.2 to 4.4", () => {
  const simple = signed(made("simple"));
  assert.equal(simple[1]! & 0x04, 0x04);
  assert.equal(simple[3], 24 + 9);
  assert.deepEqual([...simple.subarray(24)], [1, 9, 5, ...KEY]);
  for (const type of CRYPTOGRAPHIC) {
    const number = AuthType[type];
    const algorithm = number <= 3 ? "md5" : "sha1";
    const length = number <= 3 ? 24 : 28;
    const bytes = signed(made(type, { from: 0x01020304 }));
    assert.equal(bytes.length, 24 + length);
    assert.equal(bytes[3], bytes.length);
    assert.deepEqual([...bytes.subarray(24, 32)], [number, length, 5, 0, 1, 2, 3, 4]);
    // The digest is over the whole packet with the secret, padded with zeros, in its place.
    const whole = bytes.slice();
    whole.fill(0, 32);
    whole.set(KEY, 32);
    const digest = createHash(algorithm).update(whole).digest();
    assert.equal(bytes.subarray(32).toHex(), new Uint8Array(digest).toHex());
  }
});

for (const type of AUTH_TYPES) {
  Deno.test(`authentication: ${type} sessions come up, stay up, and count on beyond 2^32`, () => {
    const link = pair(type);
    link.bringUp();
    link.run(10 * SECOND);
    assert.ok(link.bothUp);
    assert.deepEqual(link.discarded, []);
    link.fate = () => undefined;
    link.run(10 * SECOND);
    link.fate = () => 100;
    link.run(10 * SECOND);
    assert.ok(link.bothUp, "and come up again after a cut");
  });

  Deno.test(`authentication: ${type} with different keys never comes up`, () => {
    const link = pair(type, { b: new TextEncoder().encode("Secret") });
    link.run(10 * SECOND);
    assert.ok(!link.bothUp);
    assert.deepEqual([...new Set(link.discarded)], ["b: authentication-mismatch"]);
  });

  Deno.test(`authentication: ${type} accepts no packet of which any bit was changed`, () => {
    const packet = signed(made(type));
    for (let bit = 0; bit < 8 * packet.length; bit++) {
      const changed = packet.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      // A password protects itself only.
      if (type === "simple" && bit < 8 * 24) continue;
      if (bit >> 3 === 25) continue; // Auth Len is decode's.
      assert.notEqual(made(type).verify(changed, true, 0, 1), undefined, `bit ${bit}`);
    }
    assert.equal(made(type).verify(packet, true, 0, 1), undefined);
  });
}

Deno.test("authentication: type, key number and absence are told apart", () => {
  const { verify } = Authenticator.prototype;
  const ours = made("keyed-sha1");
  const judge = (bytes: Uint8Array, authenticated = true) =>
    verify.call(ours, bytes, authenticated, 0, 1);
  const [buffer, length] = plain();
  assert.equal(judge(buffer.subarray(0, length), false), "missing-authentication");
  assert.equal(judge(signed(made("keyed-md5"))), "wrong-authentication-type");
  assert.equal(judge(signed(made("keyed-sha1", { keyId: 6 }))), "wrong-authentication-key-id");
});

Deno.test("authentication: the window is that of section 6.7.3, circular", () => {
  const first = fc.integer({ min: 0, max: 0xffffffff });
  const step = fc.oneof(fc.integer({ min: -12, max: 12 }), fc.integer());
  const types = fc.constantFrom(...CRYPTOGRAPHIC);
  fc.assert(fc.property(types, first, step, (type, from, ahead) => {
    const judge = made(type);
    assert.equal(judge.verify(signed(made(type, { from })), true, 0, 100), undefined);
    const next = signed(made(type, { from: (from + ahead) >>> 0 }));
    const least = type.startsWith("meticulous") ? 1 : 0;
    const inside = ahead >= least && ahead <= 9;
    const expected = inside ? undefined : "authentication-sequence";
    assert.equal(judge.verify(next, true, 50, 100), expected);
  }));
});

Deno.test("authentication: a replayed packet is refused, until the peer was silent for long", () => {
  const judge = made("meticulous-keyed-sha1");
  const packet = signed(made("meticulous-keyed-sha1", { from: 1000 }));
  assert.equal(judge.verify(packet, true, 0, 300), undefined);
  assert.equal(judge.verify(packet, true, 299, 300), "authentication-sequence");
  // A peer that restarted begins anywhere.
  const restarted = signed(made("meticulous-keyed-sha1", { from: 5 }));
  assert.equal(judge.verify(restarted, true, 299, 300), "authentication-sequence");
  assert.equal(judge.verify(restarted, true, 300, 300), undefined);
});

Deno.test("authentication: a forged packet moves no window", () => {
  const judge = made("keyed-sha1");
  const forger = { key: new TextEncoder().encode("guess"), from: 2 ** 31 };
  assert.equal(
    judge.verify(signed(made("keyed-sha1", forger)), true, 0, 300),
    "authentication-mismatch",
  );
  assert.equal(judge.authSeqKnown, false);
  assert.equal(judge.verify(signed(made("keyed-sha1", { from: 9 })), true, 1, 300), undefined);
  assert.equal(judge.rcvAuthSeq, 9);
});

Deno.test("authentication: replays of a whole session change nothing", () => {
  const link = pair("meticulous-keyed-sha1");
  link.bringUp();
  const recorded = link.sent.a.map(({ wire }) => wire.slice());
  link.changes.length = 0;
  for (let i = 0; i < 200; i++) {
    link.run(10_000);
    link.replay("b", recorded[i % recorded.length]!);
  }
  assert.ok(link.bothUp);
  assert.deepEqual(link.changes, []);
  assert.equal(link.discarded.length, 200);
  assert.deepEqual([...new Set(link.discarded)], ["b: authentication-sequence"]);
});

Deno.test("authentication: a peer that restarts comes up again within its Detection Times", () => {
  const link = pair("meticulous-keyed-sha1");
  link.bringUp();
  const authenticator = new Authenticator(
    { type: "meticulous-keyed-sha1", keyId: 5, key: KEY },
    seeded(9),
  );
  link.b = link.make("b", { localDiscr: 99, role: "active", authenticator });
  link.run(10 * SECOND);
  assert.ok(link.bothUp);
  assert.equal(link.a.remoteDiscr, 99);
});

Deno.test("authentication: an end without a key and one with a key refuse each other", () => {
  const link = new VirtualLink({ authenticator: made("keyed-md5") }, { role: "active" });
  link.run(5 * SECOND);
  assert.deepEqual([...new Set(link.discarded)].sort(), [
    "a: missing-authentication",
    "b: unexpected-authentication",
  ]);
  assert.equal(link.a.sessionState, State.Down);
});

Deno.test("authentication: keys that are empty or too long are refused", () => {
  for (const type of AUTH_TYPES) {
    const longest = longestKey(type);
    made(type, { key: new Uint8Array(longest).fill(1) });
    assert.throws(() => made(type, { key: new Uint8Array(longest + 1) }), RangeError);
    assert.throws(() => made(type, { key: new Uint8Array(0) }), RangeError);
    assert.throws(() => made(type, { keyId: 256 }), RangeError);
  }
});
