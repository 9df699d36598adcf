/**
 * One address that is claimed: the frames that tell of it and ask for it, and what is known of its neighbours.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { type Family, familyOf, to16Bytes } from "../address.ts";
import { Echo, plainBytes } from "./echo.ts";
import {
  arpAnnouncement,
  arpProbe,
  neighbourAdvertisement,
  neighbourSolicitation,
} from "./frames.ts";
import { nextHops } from "./next_hops.ts";
import type { Interfaces } from "./place.ts";

/** What showed that a neighbour sends to this host: a router's echo, or that it asked this host alone for the address. */
export type Proof = "echo" | "neighbour";

/** See the module. */
export class ClaimedAddress implements Disposable {
  /** The address in its usual form. */
  readonly text: string;
  /** Its IP version. */
  readonly family: Family;
  /** Tell the neighbours where it is. */
  announcements: Uint8Array<ArrayBuffer>[] = [];
  /** Asks who else has it; undefined where this host has no address to ask from. */
  question: Uint8Array<ArrayBuffer> | undefined;
  /** Asks the routers on the way to the clients; undefined once there is a proof, or where nothing can be asked. */
  echo: Echo | undefined;
  /** Undefined where there is none yet. */
  proof: Proof | undefined;

  /** Nothing is known before {@linkcode ClaimedAddress.describe}. */
  constructor(text: string) {
    this.text = text;
    this.family = familyOf(text)!;
  }

  /**
   * Makes the frames for `mac` on interface `name`, and notes the routers. `source` is another IPv6 address of this host,
   * see {@linkcode sourceOfQuestions}.
   */
  describe(name: string, mac: Uint8Array, source: Uint8Array | undefined): void {
    const bytes = plainBytes(this.text);
    if (this.family === 4) {
      const forms = ["request", "reply"] as const;
      this.announcements = forms.map((form) => arpAnnouncement(form, bytes, mac));
      this.question = arpProbe(bytes, mac);
    } else {
      this.announcements = [neighbourAdvertisement(bytes, mac)];
      this.question = source && neighbourSolicitation(bytes, mac, source);
    }
    try {
      this.echo ??= new Echo(name, this.text);
      this.echo.hops = nextHops(name, this.family);
    } catch (error) {
      // Without it another proof will do; the address may come back to this host, too.
      if (!(error instanceof SystemError)) throw error;
    }
  }

  /** There is a proof; nobody need be asked any more. */
  prove(proof: Proof): void {
    this.proof = proof;
    this[Symbol.dispose]();
  }

  /** Closes the socket of the echo. */
  [Symbol.dispose](): void {
    this.echo?.[Symbol.dispose]();
    this.echo = undefined;
  }
}

/**
 * The 16 bytes of an IPv6 address that interface `name` has beside the `claimed` ones; undefined where it has none. A rival
 * that were asked without would tell all, and the neighbours would heed it.
 */
export function sourceOfQuestions(
  name: string,
  claimed: readonly string[],
  interfaces: Interfaces,
): Uint8Array | undefined {
  const own = interfaces.addresses().filter((one) =>
    one.name === name && familyOf(one.address) === 6 && !claimed.includes(one.address)
  ).map(({ address }) => address);
  const chosen = own.find((address) => address.startsWith("fe80:")) ?? own[0];
  return chosen === undefined ? undefined : to16Bytes(chosen);
}
