/**
 * The IPv4 flows that were met last, one for each of some places: most segments are of them, and need no look-up.
 *
 * @module
 */

/** A power of two. */
const PLACES = 512;

/** See the module. The addresses are as a big-endian read gives them, signed. */
export class KnownFlows {
  /** The flow's slot by place; -1 where there is none. */
  readonly slots: Int32Array = new Int32Array(PLACES).fill(-1);
  /** The client's address. */
  readonly clients: Int32Array = new Int32Array(PLACES);
  /** The server's address. */
  readonly servers: Int32Array = new Int32Array(PLACES);
  /** Both ports, the client's in the upper half. */
  readonly ports: Int32Array = new Int32Array(PLACES);

  /** The place of a flow between two ports, the same for both directions. */
  static place(one: number, other: number): number {
    return one + other & PLACES - 1;
  }

  /** Puts the flow of `slot` in its place. */
  put(slot: number, client: number, server: number, ports: number): void {
    const place = KnownFlows.place(ports >>> 16, ports & 0xffff);
    this.slots[place] = slot;
    this.clients[place] = client;
    this.servers[place] = server;
    this.ports[place] = ports;
  }

  /** Forgets the flow of `slot`, whose ports are `ports`. */
  forget(slot: number, ports: number): void {
    const place = KnownFlows.place(ports >>> 16, ports & 0xffff);
    if (this.slots[place] === slot) this.slots[place] = -1;
  }
}
