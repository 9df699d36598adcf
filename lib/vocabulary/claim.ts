/**
 * What is said of the service's addresses: who claims them, and whether the neighbours heed it.
 *
 * @module
 */
import { choice, flag, millis, text } from "../field.ts";
import { type Descriptions, essential } from "./description.ts";

/** Fields of `claimed`. */
export interface ClaimedFields {
  /** The address. */
  address: string;
  /** From its first announcement to the proof, in milliseconds. */
  after_ms: number;
  /** What the proof is: a router's echo, or a neighbour that asked this host alone for the address. */
  proof: "echo" | "neighbour";
}

/** Fields of `rival`. */
export interface RivalFields {
  /** The address. */
  address: string;
  /** The MAC address that the other host claims it for. */
  mac: string;
  /** Whether it claims the address, or has fallen silent. */
  talks: boolean;
}

/** The events about addresses and the fields of each. */
export interface ClaimEvents {
  /** The neighbours send to this host what is for the address. */
  "claimed": ClaimedFields;
  /** Another host claims the address, too, or has ceased to. */
  "rival": RivalFields;
}

/** The events about addresses and their schemas. */
export const claimEvents: Descriptions<ClaimEvents> = {
  "claimed": essential("The neighbours send to this host what is for the address", {
    address: text("The service's address"),
    after_ms: millis("From its first announcement to the proof"),
    proof: choice(["echo", "neighbour"], "A router's echo, or a neighbour that asked this host"),
  }),
  "rival": essential("Another host claims the service's address too, or has ceased to", {
    address: text("The service's address"),
    mac: text("The MAC address that the other host claims it for"),
    talks: flag("Whether it claims the address, or has fallen silent"),
  }),
};
