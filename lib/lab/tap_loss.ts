/**
 * Losses of the copied traffic alone: frames of the service that leave the gateway towards the backup.
 *
 * @module
 */

import { type Family, familyOf } from "../address.ts";
import type { Lab } from "./lab.ts";
import { run } from "./system.ts";
import { SERVICE_ADDRESSES } from "./topology.ts";

const TABLE = "t2cp_tap";

/** What was dropped. */
export interface TapDrops {
  /** Frames; one may be a large segment of segmentation offload. */
  packets: number;
  /** Their bytes. */
  bytes: number;
}

/**
 * Drops copies at random by nftables, at the port of the gateway's bridge that leads to the backup. Copies of SYNs are
 * spared: a flow whose handshake is not seen has no replica, whatever heals it. End it at the takeover, from when on
 * the same frames are no copies.
 */
export class TapLoss {
  readonly #lab: Lab;
  readonly #family: Family;
  readonly #port: number;

  /** For the service at `port`. */
  constructor(lab: Lab, family: Family, port: number) {
    this.#lab = lab;
    this.#family = family;
    this.#port = port;
  }

  /** Begins to lose `share`, 0 to 1, of the copies. */
  async begin(share: number): Promise<void> {
    // Steps of one in a million.
    const chance = share >= 1 ? "" : `numgen random mod 1000000 < ${Math.round(share * 1e6)}`;
    const chain = 'type filter hook egress device "backup" priority 0;';
    await this.#nft(
      `add table netdev ${TABLE}`,
      `add counter netdev ${TABLE} dropped`,
      `add chain netdev ${TABLE} copies { ${chain} }`,
      ...this.#rules(chance),
    );
  }

  /** Loses every copy from now on. */
  async loseAll(): Promise<void> {
    await this.#nft(...this.#rules(""));
  }

  /** Ends it; a second call does nothing more. Returns what was dropped. */
  async end(): Promise<TapDrops> {
    await this.#nft(`flush chain netdev ${TABLE} copies`);
    const text = await run(
      this.#lab.inRole("gateway", ["nft", "list", "counter", "netdev", TABLE, "dropped"]),
    );
    const [, packets, bytes] = /packets (\d+) bytes (\d+)/.exec(text) ?? [];
    return { packets: Number(packets ?? 0), bytes: Number(bytes ?? 0) };
  }

  #rules(chance: string): string[] {
    const address = SERVICE_ADDRESSES[this.#family];
    const ip = familyOf(address) === 4 ? "ip" : "ip6";
    return [["daddr", "dport"], ["saddr", "sport"]].map(([end, port]) =>
      `add rule netdev ${TABLE} copies ${ip} ${end} ${address} tcp ${port} ${this.#port} ` +
      `tcp flags & syn == 0 ${chance} counter name dropped drop`
    );
  }

  async #nft(...commands: string[]): Promise<void> {
    await run(this.#lab.inRole("gateway", ["nft", commands.join("; ")]));
  }
}
