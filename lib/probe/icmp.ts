/**
 * Probes that send an ICMP echo request: RFC 792, RFC 4443 section 4.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { Poller } from "../../ffi/poller.ts";
import { type Datagram, UdpSocket } from "../../ffi/udp.ts";
import { addressBytes, deviceIndex } from "../detect/network.ts";
import { checksum, sum } from "../packet/checksum.ts";
import type { Attempt } from "./attempt.ts";
import type { IcmpProbe } from "./spec.ts";

/** The protocols of echoes, by IP version: ICMP and ICMPv6. */
export const ECHO_PROTOCOL = { 4: 1, 6: 58 } as const;

/** Message types. */
const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;
const HEADER = 8;
const PAYLOAD = 16;
const CAPACITY = 256;
const WAIT = 250_000;

/** Whether the host answers an echo request. */
export function icmpAttempt({ address }: IcmpProbe): Attempt {
  const [plain = "", zone] = address.split("%");
  const bytes = addressBytes(plain);
  const family = bytes.length === 4 ? 4 : 6;
  return async (signal) => {
    let socket: UdpSocket | undefined;
    let poller: Poller | undefined;
    const wake = (): void => poller?.wake();
    try {
      const scopeId = zone === undefined ? 0 : deviceIndex(zone);
      socket = UdpSocket.open({ family, rawProtocol: ECHO_PROTOCOL[family] }, CAPACITY);
      poller = new Poller([socket.fd]);
      signal.addEventListener("abort", wake, { once: true });
      const request = echoRequest(family);
      if (!socket.send(request, { address: bytes, port: 0, scopeId })) return "It cannot be sent";
      while (!signal.aborted) {
        for (let one = socket.receive(); one !== undefined; one = socket.receive()) {
          if (isEchoReply(one, request, bytes, family)) return undefined;
        }
        await poller.wait(WAIT);
      }
      return "No answer";
    } catch (error) {
      if (error instanceof SystemError) return error.message;
      return error instanceof Error ? error.message : String(error);
    } finally {
      signal.removeEventListener("abort", wake);
      await poller?.close();
      socket?.close();
    }
  };
}

/** A request with a random identifier and payload, so that no other's answer is taken for its own. */
export function echoRequest(family: 4 | 6): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER + PAYLOAD);
  crypto.getRandomValues(bytes.subarray(4));
  bytes[0] = ECHO[family].request;
  // Of IPv6, the kernel writes the checksum.
  if (family === 4) {
    const view = new DataView(bytes.buffer);
    view.setUint16(2, checksum(sum(view, 0, bytes.length, 0)));
  }
  return bytes;
}

/** Whether a datagram from `address` answers `request`; IPv4 headers come with it. */
export function isEchoReply(
  { bytes, source }: Datagram,
  request: Uint8Array,
  address: Uint8Array,
  family: 4 | 6,
): boolean {
  const header = family === 4 ? ((bytes[0] ?? 0) & 15) * 4 : 0;
  const reply = bytes.subarray(header);
  if (reply.length !== request.length || reply[0] !== ECHO[family].reply || reply[1] !== 0) {
    return false;
  }
  if (!source.address.every((byte, i) => byte === address[i])) return false;
  return request.subarray(4).every((byte, i) => byte === reply[4 + i]);
}
