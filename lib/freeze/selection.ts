/**
 * Which flows are meant: all, or those of some patterns.
 *
 * @module
 */
import { familyOf, parsePort, to16Bytes } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { FLOW_KEY, flowKey } from "../flow/layout.ts";

/** Clients of an address or prefix, and of a port. */
export interface ClientPattern {
  /** The prefix, 16 bytes, IPv4 as mapped; bits behind it count for nothing. */
  readonly prefix: Uint8Array;
  /** Its length in bits, 0 to 128; of an IPv4 prefix 96 more. */
  readonly bits: number;
  /** The client's port; any unless given. */
  readonly port?: number;
}

/** Flows that are chosen one by one, or by their clients. */
export interface Selection {
  /** Flows, each as a `struct flow_key`. */
  readonly flows: readonly Uint8Array[];
  /** Patterns of clients. */
  readonly clients: readonly ClientPattern[];
}

/** Every flow: nothing is chosen. */
export const EVERY_FLOW: Selection = { flows: [], clients: [] };

/**
 * Parses a flow, `CLIENT=SERVICE`, both as `address:port`; returns its `struct flow_key`.
 *
 * @throws {Failure} with status USAGE
 */
export function parseFlow(text: string): Uint8Array<ArrayBuffer> {
  const [client = "", server, ...more] = text.split("=");
  const key = server === undefined || more.length > 0 ? undefined : flowKey({ client, server });
  if (key !== undefined) return key;
  throw new Failure(ExitStatus.USAGE, `"${text}" is not a flow`, {
    mend:
      `write one such as "10.1.1.1:40000=10.0.0.1:80" or "[2001:db8::5]:40000=[2001:db8::1]:80"`,
  });
}

/**
 * Parses a pattern of clients: `address`, `address/bits` or `address:port`, IPv6 with a port in brackets.
 *
 * @throws {Failure} with status USAGE
 */
export function parseClientPattern(text: string): ClientPattern {
  const [, address = "", bits] = /^([^/]*)\/([0-9]{1,3})$/.exec(text) ?? [];
  if (bits !== undefined) {
    const family = familyOf(address);
    if (family !== undefined && Number(bits) <= (family === 4 ? 32 : 128)) {
      return { prefix: to16Bytes(address), bits: Number(bits) + (family === 4 ? 96 : 0) };
    }
  } else if (familyOf(text) !== undefined) {
    return { prefix: to16Bytes(text), bits: 128 };
  } else {
    const [, bracketed, plain, port = ""] = /^(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/.exec(text) ?? [];
    const family = familyOf(bracketed ?? plain ?? "");
    if (family === (bracketed === undefined ? 4 : 6)) {
      return { prefix: to16Bytes(bracketed ?? plain!), bits: 128, port: parsePort(port) };
    }
  }
  throw new Failure(ExitStatus.USAGE, `"${text}" does not name clients`, {
    mend: `write "10.1.1.1", "10.1.0.0/16", "10.1.1.1:40000" or "[2001:db8::5]:40000"`,
  });
}

/** Whether the flow whose `struct flow_key` stands in `keys` at `at` is one of `selection`. */
export function isSelected(selection: Selection, keys: Uint8Array, at: number): boolean {
  const { flows, clients } = selection;
  if (flows.length === 0 && clients.length === 0) return true;
  return flows.some((key) => key.every((byte, i) => byte === keys[at + i])) ||
    clients.some((pattern) => isOf(pattern, keys, at));
}

function isOf({ prefix, bits, port }: ClientPattern, keys: Uint8Array, at: number): boolean {
  const portAt = at + FLOW_KEY.client_port;
  if (port !== undefined && (keys[portAt]! << 8 | keys[portAt + 1]!) !== port) return false;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) {
    if (keys[at + FLOW_KEY.client + i] !== prefix[i]) return false;
  }
  if (whole === 16) return true;
  const differing = keys[at + FLOW_KEY.client + whole]! ^ prefix[whole]!;
  return differing >> (8 - (bits & 7)) === 0;
}
