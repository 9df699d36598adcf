/**
 * Rates of the lab's links.
 *
 * @module
 */

import type { Lab } from "./lab.ts";
import { run } from "./system.ts";
import { hostEnd, LINKS, type Role } from "./topology.ts";

/** What a full-size Ethernet frame takes on the link for each byte of TCP payload in it. */
const FRAME_SHARE = 1514 / 1448;

/**
 * Shapes both directions between gateway and client so that `bytesPerSecond` of payload pass, with
 * a short queue, so that a pause of the sender is a pause for the client too.
 */
export async function shapeClientLink(lab: Lab, bytesPerSecond: number): Promise<void> {
  const bits = Math.round(bytesPerSecond * 8 * FRAME_SHARE);
  const [client, gateway] = LINKS.find(([host]) => host.role === "client")!;
  await shape(lab, gateway.role, gateway.name, bits);
  await shape(lab, client.role, client.name, bits);
}

/** Shapes what the primary sends to `bits` a second. */
export async function shapeServerLink(lab: Lab, bits: number): Promise<void> {
  await shape(lab, "primary", hostEnd("primary").name, bits);
}

async function shape(lab: Lab, role: Role, name: string, bits: number): Promise<void> {
  // A burst takes one 64 KiB segment whole and a millisecond of traffic; the queue, three.
  const burst = Math.max(128 * 1024, Math.ceil(bits / 8 / 1000));
  const limit = burst + Math.max(128 * 1024, Math.ceil(bits / 8 * 0.003));
  await run(
    lab.inRole(role, [
      ...["tc", "qdisc", "replace", "dev", name, "root", "tbf"],
      ...["rate", `${bits}bit`, "burst", String(burst), "limit", String(limit)],
    ]),
  );
}
