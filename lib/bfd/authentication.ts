/**
 * Authentication of BFD Control packets: RFC 5880 section 6.7.
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { FLAG_A, MANDATORY_LENGTH } from "./packet.ts";

/** The Auth Types of RFC 5880 section 4.1 by name. */
export const AuthType = {
  "simple": 1,
  "keyed-md5": 2,
  "meticulous-keyed-md5": 3,
  "keyed-sha1": 4,
  "meticulous-keyed-sha1": 5,
} as const;

/** The name of an Auth Type. */
export type AuthTypeName = keyof typeof AuthType;

/** The names, in the order of their numbers. */
export const AUTH_TYPES = Object.keys(AuthType) as readonly AuthTypeName[];

/** What both ends of an authenticated session know. */
export interface AuthKey {
  /** How packets are authenticated. */
  readonly type: AuthTypeName;
  /** Auth Key ID, 0 to 255. */
  readonly keyId: number;
  /** The password or secret: 1 to {@linkcode longestKey} bytes. */
  readonly key: Uint8Array;
}

/** Why a packet is discarded by its authentication: section 6.7. */
export type AuthReason =
  /** The A bit is set and this side uses no authentication. */
  | "unexpected-authentication"
  /** The A bit is clear and this side uses authentication. */
  | "missing-authentication"
  /** Another Auth Type than this side's. */
  | "wrong-authentication-type"
  /** Another Auth Key ID than this side's. */
  | "wrong-authentication-key-id"
  /** The sequence number is outside the window: replayed, or too far ahead. */
  | "authentication-sequence"
  /** The password or the digest is another one. */
  | "authentication-mismatch";

/** Bytes of a digest, and so of the longest secret, by Auth Type: sections 4.3 and 4.4. */
function digestLength(type: number): number {
  return type <= AuthType["meticulous-keyed-md5"] ? 16 : 20;
}

/** The most bytes of a key of type `type`: 16, with SHA1 20. */
export function longestKey(type: AuthTypeName): number {
  return digestLength(AuthType[type]);
}

/** Where Sequence Number and Auth Key/Digest are, from the start of the packet. */
const AT_SEQUENCE = MANDATORY_LENGTH + 4;
const AT_DIGEST = MANDATORY_LENGTH + 8;

/**
 * Signs the packets of one session and judges those of its peer. The variables are named as in
 * section 6.8.1.
 */
export class Authenticator {
  /** bfd.AuthType. */
  readonly authType: number;
  /** bfd.RcvAuthSeq: the last sequence number that was received. */
  rcvAuthSeq = 0;
  /** bfd.XmitAuthSeq: the next sequence number to send. */
  xmitAuthSeq: number;
  /** bfd.AuthSeqKnown. */
  authSeqKnown = false;
  readonly #keyId: number;
  /** The secret, padded with zeros; a password as it is. */
  readonly #secret: Uint8Array;
  readonly #meticulous: boolean;
  #lastAccepted = 0;

  /**
   * Begins with a sequence number from `random`, uniform in 0 <= r < 1.
   *
   * @throws {RangeError} where the key or its number is out of range
   */
  constructor({ type, keyId, key }: AuthKey, random: () => number) {
    const longest = longestKey(type);
    if (key.length < 1 || key.length > longest) {
      throw new RangeError(`A key of ${key.length} bytes is not one of 1 to ${longest}`);
    }
    if (!Number.isInteger(keyId) || keyId < 0 || keyId > 255) {
      throw new RangeError(`Auth Key ID ${keyId} is not a whole number from 0 to 255`);
    }
    this.authType = AuthType[type];
    this.#keyId = keyId;
    this.#secret = new Uint8Array(type === "simple" ? key.length : longest);
    this.#secret.set(key);
    this.#meticulous = type.startsWith("meticulous");
    this.xmitAuthSeq = Math.floor(random() * 0x100000000);
  }

  /**
   * Appends the Authentication Section to the packet of `length` bytes in `buffer`, and returns the
   * new length. `buffer` has 28 bytes more.
   */
  sign(buffer: Uint8Array, length: number): number {
    const simple = this.authType === AuthType.simple;
    const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    const authLength = (simple ? 3 : 8) + this.#secret.length;
    const total = length + authLength;
    view.setUint8(1, view.getUint8(1) | FLAG_A);
    view.setUint8(3, total);
    view.setUint8(length, this.authType);
    view.setUint8(length + 1, authLength);
    view.setUint8(length + 2, this.#keyId);
    if (simple) {
      buffer.set(this.#secret, length + 3);
      return total;
    }
    view.setUint8(length + 3, 0);
    view.setUint32(length + 4, this.xmitAuthSeq);
    // Both kinds count every packet: keyed ones may, meticulous ones must.
    this.xmitAuthSeq = (this.xmitAuthSeq + 1) >>> 0;
    buffer.set(this.#digest(buffer.subarray(0, total)), length + 8);
    return total;
  }

  /**
   * Judges the Authentication Section of a packet that {@linkcode decode} accepted. Returns why the
   * packet is discarded, or `undefined` where it is authentic; its sequence number is used then.
   *
   * @param bytes the packet, as many bytes as its Length says
   * @param authenticated whether it has the A bit
   * @param forgetAfter twice the Detection Time, after which a silent peer may begin anew
   */
  verify(
    bytes: Uint8Array,
    authenticated: boolean,
    now: number,
    forgetAfter: number,
  ): AuthReason | undefined {
    if (!authenticated) return "missing-authentication";
    if (bytes[MANDATORY_LENGTH] !== this.authType) return "wrong-authentication-type";
    if (bytes[MANDATORY_LENGTH + 2] !== this.#keyId) return "wrong-authentication-key-id";
    if (this.authType === AuthType.simple) {
      const end = MANDATORY_LENGTH + bytes[MANDATORY_LENGTH + 1]!;
      const password = bytes.subarray(MANDATORY_LENGTH + 3, end);
      return sameBytes(password, this.#secret) ? undefined : "authentication-mismatch";
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const sequence = view.getUint32(AT_SEQUENCE);
    const known = this.authSeqKnown && now - this.#lastAccepted < forgetAfter;
    if (known) {
      const ahead = (sequence - this.rcvAuthSeq) >>> 0;
      const detectMult = bytes[2]!;
      if (ahead < (this.#meticulous ? 1 : 0) || ahead > 3 * detectMult) {
        return "authentication-sequence";
      }
    }
    const digest = bytes.subarray(AT_DIGEST, AT_DIGEST + this.#secret.length);
    if (!sameBytes(digest, this.#digest(bytes))) return "authentication-mismatch";
    // Only now, or a forged packet could choose the window.
    this.authSeqKnown = true;
    this.rcvAuthSeq = sequence;
    this.#lastAccepted = now;
    return undefined;
  }

  /** The digest over the packet with the secret in the digest's place. */
  #digest(bytes: Uint8Array): Uint8Array {
    const copy = Uint8Array.from(bytes);
    copy.set(this.#secret, AT_DIGEST);
    const algorithm = this.authType <= AuthType["meticulous-keyed-md5"] ? "md5" : "sha1";
    return createHash(algorithm).update(copy).digest();
  }
}

/** In a time that does not tell where they differ. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
