/**
 * Recognition of encrypted conversations: what a server says in them is never the same twice.
 *
 * @module
 */

/** A protocol whose bytes cannot be compared. */
export type OpaqueProtocol = "tls" | "ssh";

/** TLS's content types, RFC 8446 section 5.1. */
const ALERT = 21;
const HANDSHAKE = 22;
/** Handshake type, section 4. */
const CLIENT_HELLO = 1;
/** The first byte of the version in every record. */
const MAJOR = 3;
/** The greatest second one. */
const MAX_MINOR = 4;
const RECORD_HEADER = 5;
/** The longest fragment of a plain record. */
const MAX_FRAGMENT = 1 << 14;

const SSH = new TextEncoder().encode("SSH-");

/** What the client begins to speak with `bytes`, if that is a protocol that encrypts: RFC 8446, RFC 4253 section 4.2. */
export function clientBegins(bytes: Uint8Array): OpaqueProtocol | undefined {
  // Every message is looked at: most have another first byte.
  const first = bytes[0];
  if (first !== SSH[0] && first !== HANDSHAKE) return undefined;
  if (startsWith(bytes, SSH)) return "ssh";
  const hello = isRecord(bytes, HANDSHAKE) && bytes.length > RECORD_HEADER &&
    bytes[RECORD_HEADER] === CLIENT_HELLO;
  return hello ? "tls" : undefined;
}

/** Whether a server that begins with `bytes` speaks `protocol`. A fatal alert is an answer of TLS, too. */
export function serverAgrees(bytes: Uint8Array, protocol: OpaqueProtocol): boolean {
  if (protocol === "ssh") return startsWith(bytes, SSH.subarray(0, bytes.length));
  return isRecord(bytes, HANDSHAKE) || isRecord(bytes, ALERT);
}

/** Whether `bytes` begin with a record of TLS, as far as they go. */
function isRecord(bytes: Uint8Array, type: number): boolean {
  const [first, major = MAJOR, minor = MAX_MINOR] = bytes;
  const length = bytes.length < RECORD_HEADER ? 1 : bytes[3]! << 8 | bytes[4]!;
  return first === type && major === MAJOR && minor <= MAX_MINOR && length > 0 &&
    length <= MAX_FRAGMENT;
}

function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  return bytes.length >= start.length && start.every((byte, i) => bytes[i] === byte);
}
