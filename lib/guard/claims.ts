/**
 * Asking whether another host has the service's address: after a takeover the backup answers for it.
 *
 * @module
 */
import { PacketSocket, VNET_HEADER } from "../../ffi/packet_socket.ts";
import { familyOf, to16Bytes } from "../address.ts";
import { arpProbe, duplicateSolicitation } from "../claim/frames.ts";
import { macOf } from "../host/links.ts";
import { MARK_RELEASE } from "./layout.ts";

/** Asks on interface `name` who has `addresses`; the answers are for the programs. */
export function askForClaims(name: string, addresses: Iterable<string>): void {
  const mac = macOf(name);
  using socket = new PacketSocket(name, MARK_RELEASE);
  for (const address of addresses) {
    const bytes = to16Bytes(address);
    const frame = familyOf(address) === 4
      ? arpProbe(bytes.subarray(12), mac)
      : duplicateSolicitation(bytes, mac);
    const buffer = new Uint8Array(VNET_HEADER + frame.length);
    buffer.set(frame, VNET_HEADER);
    socket.send(buffer);
  }
}
