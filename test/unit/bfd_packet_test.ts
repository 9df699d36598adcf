import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type ControlPacket,
  decode,
  Diag,
  diagName,
  emptyPacket,
  encode,
  MAX_LENGTH,
  State,
  stateName,
} from "../../lib/bfd/packet.ts";

const uint32 = fc.integer({ min: 0, max: 0xffffffff });

/** Authentication sections of the lengths that RFC 5880 sections 4.2 to 4.4 define. */
const authentication = fc.constantFrom([1, 4], [1, 19], [2, 24], [3, 24], [4, 28], [5, 28]).map(
  ([type, length]) => {
    const section = new Uint8Array(length!).fill(7);
    section[0] = type!;
    section[1] = length!;
    return section;
  },
);

const packets: fc.Arbitrary<ControlPacket> = fc.record({
  diag: fc.integer({ min: 0, max: 31 }),
  state: fc.constantFrom(State.AdminDown, State.Down, State.Init, State.Up),
  poll: fc.boolean(),
  final: fc.boolean(),
  controlPlaneIndependent: fc.boolean(),
  demand: fc.boolean(),
  detectMult: fc.integer({ min: 1, max: 255 }),
  myDiscriminator: fc.integer({ min: 1, max: 0xffffffff }),
  yourDiscriminator: fc.integer({ min: 1, max: 0xffffffff }),
  desiredMinTxInterval: uint32,
  requiredMinRxInterval: uint32,
  requiredMinEchoRxInterval: uint32,
  authentication: fc.option(authentication, { nil: undefined }),
}, { noNullPrototype: true });

function encoded(packet: ControlPacket): Uint8Array {
  const buffer = new Uint8Array(MAX_LENGTH);
  return buffer.subarray(0, encode(packet, buffer));
}

function valid(): ControlPacket {
  return {
    ...emptyPacket(),
    state: State.Up,
    detectMult: 3,
    myDiscriminator: 0x01020304,
    yourDiscriminator: 0x05060708,
    desiredMinTxInterval: 50_000,
    requiredMinRxInterval: 60_000,
  };
}

Deno.test("packet: decode gives back what encode was given", () => {
  fc.assert(fc.property(packets, (packet) => {
    const into = emptyPacket();
    assert.equal(decode(encoded(packet), into), undefined);
    assert.deepEqual(into, packet);
  }));
});

Deno.test("packet: a known packet has the bytes of RFC 5880 section 4.1", () => {
  const bytes = encoded({ ...valid(), diag: Diag.NeighborSignaledSessionDown, poll: true });
  const expected = "23e00318" + "01020304" + "05060708" + "0000c350" + "0000ea60" + "00000000";
  assert.equal(bytes.toHex(), expected);
});

Deno.test("packet: every flag has its bit", () => {
  const second = (fields: Partial<ControlPacket>): number =>
    encoded({ ...valid(), state: State.AdminDown, ...fields })[1]!;
  assert.equal(second({}), 0);
  assert.equal(second({ poll: true }), 0x20);
  assert.equal(second({ final: true }), 0x10);
  assert.equal(second({ controlPlaneIndependent: true }), 0x08);
  assert.equal(second({ authentication: Uint8Array.of(1, 4, 1, 65) }), 0x04);
  assert.equal(second({ demand: true }), 0x02);
  assert.equal(second({ state: State.Up }), 0xc0);
});

Deno.test("packet: decode reads a view at any offset, and ignores what follows Length", () => {
  const padded = new Uint8Array(64).fill(0xff);
  padded.set(encoded(valid()), 5);
  const into = emptyPacket();
  assert.equal(decode(padded.subarray(5), into), undefined);
  assert.deepEqual(into, valid());
});

const broken: Record<string, [string, (bytes: Uint8Array) => Uint8Array | void]> = {
  "shorter than 24 bytes": ["truncated", (bytes) => bytes.subarray(0, 23)],
  "empty": ["truncated", () => new Uint8Array(0)],
  "version 0": ["bad-version", (bytes) => void (bytes[0]! &= 0x1f)],
  "version 2": ["bad-version", (bytes) => void (bytes[0] = 0x40)],
  "Length 23": ["bad-length", (bytes) => void (bytes[3] = 23)],
  "Length 25 with the A bit": ["bad-length", (bytes) => {
    bytes[1]! |= 0x04;
    bytes[3] = 25;
  }],
  "Length beyond the payload": ["length-beyond-payload", (bytes) => void (bytes[3] = 25)],
  "Detect Mult 0": ["zero-detect-mult", (bytes) => void (bytes[2] = 0)],
  "the Multipoint bit": ["multipoint", (bytes) => void (bytes[1]! |= 0x01)],
  "My Discriminator 0": ["zero-my-discriminator", (bytes) => void bytes.fill(0, 4, 8)],
  "Your Discriminator 0 in state Up": [
    "zero-your-discriminator",
    (bytes) => void bytes.fill(0, 8, 12),
  ],
  "Your Discriminator 0 in state Init": ["zero-your-discriminator", (bytes) => {
    bytes.fill(0, 8, 12);
    bytes[1] = State.Init << 6;
  }],
};

for (const [what, [reason, damage]] of Object.entries(broken)) {
  Deno.test(`packet: ${what} is discarded as ${reason}, and nothing is read`, () => {
    const bytes = encoded(valid());
    const into = emptyPacket();
    assert.equal(decode(damage(bytes) ?? bytes, into), reason);
    assert.deepEqual(into, emptyPacket());
  });
}

Deno.test("packet: Your Discriminator 0 is sound in states Down and AdminDown", () => {
  for (const state of [State.Down, State.AdminDown]) {
    const bytes = encoded({ ...valid(), state, yourDiscriminator: 0 });
    assert.equal(decode(bytes, emptyPacket()), undefined);
  }
});

Deno.test("packet: an authentication section must have its type's length and fit", () => {
  const withSection = (section: number[], length = 24 + section.length): Uint8Array => {
    const bytes = new Uint8Array(24 + section.length);
    bytes.set(encoded(valid()));
    bytes[1]! |= 0x04;
    bytes[3] = length;
    bytes.set(section, 24);
    return bytes;
  };
  const reason = (...args: Parameters<typeof withSection>) =>
    decode(withSection(...args), emptyPacket());
  assert.equal(reason([1, 4, 1, 65]), undefined);
  assert.equal(reason([1, 3, 1]), "bad-authentication-length");
  assert.equal(reason([1, 0, 1, 65]), "bad-authentication-length");
  assert.equal(reason([1, 20, ...new Array(18).fill(65)]), "bad-authentication-length");
  assert.equal(reason([4, 28, ...new Array(26).fill(0)]), undefined);
  assert.equal(reason([4, 24, ...new Array(26).fill(0)]), "bad-authentication-length");
  assert.equal(reason([2, 24, ...new Array(22).fill(0)], 30), "bad-authentication-length");
  assert.equal(reason([9, 2]), undefined);
  assert.equal(reason([9, 1]), "bad-authentication-length");
});

Deno.test("packet: no input makes decode throw, and what it accepts is sound", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, plausible) => {
      // Random bytes rarely pass the first two rules.
      if (plausible && bytes.length >= 24) {
        bytes[0] = 0x20 | bytes[0]! & 0x1f;
        bytes[3] = 24 + bytes[3]! % (bytes.length - 23);
      }
      const into = emptyPacket();
      if (decode(bytes, into) !== undefined) return;
      assert.ok(into.detectMult > 0 && into.myDiscriminator > 0);
      assert.ok((into.authentication?.length ?? 0) + 24 <= bytes[3]!);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("packet: encode refuses fields out of range and buffers that are too short", () => {
  const buffer = new Uint8Array(MAX_LENGTH);
  const wrong: Partial<ControlPacket>[] = [
    { diag: 32 },
    { detectMult: 0 },
    { detectMult: 256 },
    { myDiscriminator: 0 },
    { yourDiscriminator: 2 ** 32 },
    { desiredMinTxInterval: -1 },
    { requiredMinRxInterval: 1.5 },
    { requiredMinEchoRxInterval: NaN },
    { authentication: new Uint8Array(232) },
  ];
  for (const fields of wrong) {
    assert.throws(() => encode({ ...valid(), ...fields }, buffer), RangeError);
  }
  assert.throws(() => encode(valid(), new Uint8Array(23)), RangeError);
});

Deno.test("packet: states and diagnostics have the RFC's names", () => {
  assert.equal(stateName(State.AdminDown), "AdminDown");
  assert.equal(stateName(State.Up), "Up");
  assert.equal(diagName(Diag.ControlDetectionTimeExpired), "Control Detection Time Expired");
  assert.equal(diagName(31), "Reserved 31");
});
