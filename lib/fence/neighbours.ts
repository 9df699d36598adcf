/**
 * The gateway's own neighbour entries of the services: where it sends what the clients say.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { NeighbourTable } from "../../ffi/netlink.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import { familyOf, to16Bytes } from "../address.ts";

/** Points the services' addresses at a host, before that announces them. */
export class ServiceNeighbours implements Disposable {
  readonly #table = new NeighbourTable();
  readonly #interface: string;
  readonly #addresses: readonly Uint8Array[];

  /** `addresses` are those of the services, on interface `interfaceName`. */
  constructor(interfaceName: string, addresses: Iterable<string>) {
    this.#interface = interfaceName;
    this.#addresses = Array.from(new Set(addresses), (address) => {
      const bytes = to16Bytes(address);
      return familyOf(address) === 4 ? bytes.subarray(12) : bytes;
    });
  }

  /** Sends what is for the services to `mac` from now on. @throws {SystemError} */
  point(mac: Uint8Array): void {
    const ifindex = interfaceIndex(this.#interface);
    for (const address of this.#addresses) this.#table.set(ifindex, address, mac);
  }

  /** Forgets where the addresses are, so that the next packet asks for them. */
  forget(): void {
    const ifindex = interfaceIndex(this.#interface);
    for (const address of this.#addresses) {
      try {
        this.#table.forget(ifindex, address);
      } catch (error) {
        // With its interface the entry has gone, too.
        if (!(error instanceof SystemError)) throw error;
      }
    }
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
  }
}
