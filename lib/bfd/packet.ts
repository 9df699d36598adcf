/**
 * The BFD Control packet: RFC 5880 section 4, and the discard rules of section 6.8.6 that concern
 * its format.
 *
 * @module
 */

/** The protocol version of RFC 5880. */
export const VERSION = 1;

/** Bytes of the mandatory section. */
export const MANDATORY_LENGTH = 24;

/** The longest packet that its one-byte Length field can express. */
export const MAX_LENGTH = 255;

/** The values of the State (Sta) field. */
export const State = { AdminDown: 0, Down: 1, Init: 2, Up: 3 } as const;

/** One of the values of {@linkcode State}. */
export type State = typeof State[keyof typeof State];

/** The name of a session state, as the RFC spells it. */
export type StateName = keyof typeof State;

const stateNames = ["AdminDown", "Down", "Init", "Up"] as const satisfies StateName[];

/** The name of `state`. */
export function stateName(state: State): StateName {
  return stateNames[state];
}

/** The values of the Diagnostic (Diag) field that the RFC defines; 9 to 31 are reserved. */
export const Diag = {
  None: 0,
  ControlDetectionTimeExpired: 1,
  EchoFunctionFailed: 2,
  NeighborSignaledSessionDown: 3,
  ForwardingPlaneReset: 4,
  PathDown: 5,
  ConcatenatedPathDown: 6,
  AdministrativelyDown: 7,
  ReverseConcatenatedPathDown: 8,
} as const;

const diagNames = [
  "No Diagnostic",
  "Control Detection Time Expired",
  "Echo Function Failed",
  "Neighbor Signaled Session Down",
  "Forwarding Plane Reset",
  "Path Down",
  "Concatenated Path Down",
  "Administratively Down",
  "Reverse Concatenated Path Down",
] as const;

/** The name of diagnostic code `diag`, 0 to 31, as the RFC spells it. */
export function diagName(diag: number): string {
  return diagNames[diag] ?? `Reserved ${diag}`;
}

/** The fields of a BFD Control packet, named as in RFC 5880 section 4.1. */
export interface ControlPacket {
  /** Why the sender's session last changed its state: one of {@linkcode Diag}, 0 to 31. */
  diag: number;
  /** The sender's session state. */
  state: State;
  /** P: the sender asks for a packet with the Final bit. */
  poll: boolean;
  /** F: answers a packet with the Poll bit. */
  final: boolean;
  /** C: the sender's BFD does not share fate with its control plane. */
  controlPlaneIndependent: boolean;
  /** D: the sender wants no periodic packets while both sessions are up. */
  demand: boolean;
  /** Missed packets that make a failure, 1 to 255. */
  detectMult: number;
  /** The sender's name for the session, never 0. 32 bits, unsigned, as all that follow. */
  myDiscriminator: number;
  /** The receiver's name for the session, 0 where it is not known yet. */
  yourDiscriminator: number;
  /** The shortest interval, without jitter, in which the sender wants to transmit: microseconds. */
  desiredMinTxInterval: number;
  /** The shortest interval in which the sender can receive: microseconds, 0 asks for silence. */
  requiredMinRxInterval: number;
  /** The shortest interval of Echo packets that the sender returns: microseconds, 0 for none. */
  requiredMinEchoRxInterval: number;
  /**
   * The Authentication Section from its Auth Type on, or `undefined` where the A bit is clear. In a
   * decoded packet it is a view into the buffer that was decoded.
   */
  authentication: Uint8Array | undefined;
}

/** A packet with every field zero, to decode into. Not one that may be sent. */
export function emptyPacket(): ControlPacket {
  return {
    diag: Diag.None,
    state: State.AdminDown,
    poll: false,
    final: false,
    controlPlaneIndependent: false,
    demand: false,
    detectMult: 0,
    myDiscriminator: 0,
    yourDiscriminator: 0,
    desiredMinTxInterval: 0,
    requiredMinRxInterval: 0,
    requiredMinEchoRxInterval: 0,
    authentication: undefined,
  };
}

/** Why {@linkcode decode} refuses a packet: the format rules of RFC 5880 section 6.8.6. */
export type FormatReason =
  /** Shorter than the mandatory section. */
  | "truncated"
  | "bad-version"
  /** The Length field is below 24, or below 26 with the A bit. */
  | "bad-length"
  /** The Length field exceeds what arrived. */
  | "length-beyond-payload"
  | "zero-detect-mult"
  | "multipoint"
  | "zero-my-discriminator"
  /** Your Discriminator is 0 in a state that knows it: Init or Up. */
  | "zero-your-discriminator"
  /** The Authentication Section's own length does not fit its type or the packet. */
  | "bad-authentication-length";

/** The A bit in the packet's second byte: it has an Authentication Section. */
export const FLAG_A = 0x04;

const BIT = { P: 0x20, F: 0x10, C: 0x08, A: FLAG_A, D: 0x02, M: 0x01 } as const;

/** Byte lengths of the Authentication Section by Auth Type: RFC 5880 sections 4.2 to 4.4. */
const authenticationLengths: ReadonlyMap<number, readonly [min: number, max: number]> = new Map([
  [1, [4, 19]], // Simple Password of 1 to 16 bytes
  [2, [24, 24]], // Keyed MD5
  [3, [24, 24]], // Meticulous Keyed MD5
  [4, [28, 28]], // Keyed SHA1
  [5, [28, 28]], // Meticulous Keyed SHA1
]);

/**
 * Writes `packet` to the start of `buffer` and returns its length in bytes.
 *
 * @throws {RangeError} where `buffer` is too short or a field is out of its range
 */
export function encode(packet: ControlPacket, buffer: Uint8Array): number {
  const authentication = packet.authentication;
  const length = MANDATORY_LENGTH + (authentication?.length ?? 0);
  if (length > MAX_LENGTH || length > buffer.length) {
    throw new RangeError(`Packet of ${length} bytes does not fit`);
  }
  inRange("Diag", packet.diag, 0, 31);
  inRange("Detect Mult", packet.detectMult, 1, 255);
  inRange("My Discriminator", packet.myDiscriminator, 1, 0xffffffff);
  inRange("Your Discriminator", packet.yourDiscriminator, 0, 0xffffffff);
  inRange("Desired Min TX Interval", packet.desiredMinTxInterval, 0, 0xffffffff);
  inRange("Required Min RX Interval", packet.requiredMinRxInterval, 0, 0xffffffff);
  inRange("Required Min Echo RX Interval", packet.requiredMinEchoRxInterval, 0, 0xffffffff);
  buffer[0] = VERSION << 5 | packet.diag;
  buffer[1] = packet.state << 6 |
    (packet.poll ? BIT.P : 0) |
    (packet.final ? BIT.F : 0) |
    (packet.controlPlaneIndependent ? BIT.C : 0) |
    (authentication === undefined ? 0 : BIT.A) |
    (packet.demand ? BIT.D : 0);
  buffer[2] = packet.detectMult;
  buffer[3] = length;
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  view.setUint32(4, packet.myDiscriminator);
  view.setUint32(8, packet.yourDiscriminator);
  view.setUint32(12, packet.desiredMinTxInterval);
  view.setUint32(16, packet.requiredMinRxInterval);
  view.setUint32(20, packet.requiredMinEchoRxInterval);
  if (authentication !== undefined) buffer.set(authentication, MANDATORY_LENGTH);
  return length;
}

function inRange(field: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${field} ${value} is not a whole number from ${min} to ${max}`);
  }
}

/**
 * Reads the UDP payload `bytes` into `packet`. Returns why the packet must be discarded, checked in
 * the RFC's order, or `undefined` where it is sound; `packet` is then set, else it is untouched.
 */
export function decode(bytes: Uint8Array, packet: ControlPacket): FormatReason | undefined {
  if (bytes.length < MANDATORY_LENGTH) return "truncated";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint8(1);
  const length = view.getUint8(3);
  const authenticated = (flags & BIT.A) !== 0;
  if (view.getUint8(0) >> 5 !== VERSION) return "bad-version";
  if (length < MANDATORY_LENGTH + (authenticated ? 2 : 0)) return "bad-length";
  if (length > bytes.length) return "length-beyond-payload";
  if (view.getUint8(2) === 0) return "zero-detect-mult";
  if (flags & BIT.M) return "multipoint";
  const state = flags >> 6 as State;
  const myDiscriminator = view.getUint32(4);
  const yourDiscriminator = view.getUint32(8);
  if (myDiscriminator === 0) return "zero-my-discriminator";
  if (yourDiscriminator === 0 && (state === State.Init || state === State.Up)) {
    return "zero-your-discriminator";
  }
  let authentication: Uint8Array | undefined;
  if (authenticated) {
    const authLength = view.getUint8(MANDATORY_LENGTH + 1);
    const [min, max] = authenticationLengths.get(view.getUint8(MANDATORY_LENGTH)) ?? [2, 255];
    if (authLength < min || authLength > max || MANDATORY_LENGTH + authLength > length) {
      return "bad-authentication-length";
    }
    authentication = bytes.subarray(MANDATORY_LENGTH, MANDATORY_LENGTH + authLength);
  }
  packet.diag = view.getUint8(0) & 0x1f;
  packet.state = state;
  packet.poll = (flags & BIT.P) !== 0;
  packet.final = (flags & BIT.F) !== 0;
  packet.controlPlaneIndependent = (flags & BIT.C) !== 0;
  packet.demand = (flags & BIT.D) !== 0;
  packet.detectMult = view.getUint8(2);
  packet.myDiscriminator = myDiscriminator;
  packet.yourDiscriminator = yourDiscriminator;
  packet.desiredMinTxInterval = view.getUint32(12);
  packet.requiredMinRxInterval = view.getUint32(16);
  packet.requiredMinEchoRxInterval = view.getUint32(20);
  packet.authentication = authentication;
  return undefined;
}
