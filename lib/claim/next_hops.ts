/**
 * The routers that an interface's routes go through: they send to this host what clients send to the service.
 *
 * @module
 */
import { type Family, from16Bytes } from "../address.ts";

/** RTF_GATEWAY of `linux/route.h`: the route goes through a router. */
const GATEWAY = 0x2;
/** So many routers are asked, at most. */
const MAX_HOPS = 8;

/** The routers that the routes of interface `name` go through, of IP version `family`. */
export function nextHops(name: string, family: Family): string[] {
  const file = family === 4 ? "/proc/net/route" : "/proc/net/ipv6_route";
  let text: string;
  try {
    text = Deno.readTextFileSync(file);
  } catch {
    // A kernel without IPv6 has none.
    return [];
  }
  return family === 4 ? parseRoutes4(text, name) : parseRoutes6(text, name);
}

/** Reads /proc/net/route: proc_pid_net(5). */
export function parseRoutes4(text: string, name: string): string[] {
  const hops = text.split("\n").slice(1).flatMap((line) => {
    const [own, , gateway = "", flags = "0"] = line.trim().split(/\s+/);
    if (own !== name || !(parseInt(flags, 16) & GATEWAY)) return [];
    // A number in the host's byte order, which is little-endian, of an address in that of the network.
    const bytes = gateway.match(/../g) ?? [];
    return bytes.length === 4 ? [bytes.reverse().map((byte) => parseInt(byte, 16)).join(".")] : [];
  });
  return [...new Set(hops)].slice(0, MAX_HOPS);
}

/** Reads /proc/net/ipv6_route. */
export function parseRoutes6(text: string, name: string): string[] {
  const hops = text.split("\n").flatMap((line) => {
    const [, , , , gateway = "", , , , flags = "0", own] = line.trim().split(/\s+/);
    if (own !== name || !(parseInt(flags, 16) & GATEWAY)) return [];
    const bytes = gateway.match(/../g) ?? [];
    if (bytes.length !== 16) return [];
    return [from16Bytes(Uint8Array.from(bytes, (byte) => parseInt(byte, 16)))];
  });
  return [...new Set(hops)].slice(0, MAX_HOPS);
}
