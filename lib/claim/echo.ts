/**
 * Asking the routers for an echo in the name of the claimed address: the answer goes where the router believes the
 * address to be.
 *
 * @module
 */
import { interfaceIndex, UdpSocket } from "../../ffi/udp.ts";
import { SystemError } from "../../ffi/errno.ts";
import { type Family, familyOf, to16Bytes } from "../address.ts";
import { ECHO_PROTOCOL, echoRequest, isEchoReply } from "../probe/icmp.ts";

const CAPACITY = 256;
/** Messages that are read at once. */
const BATCH = 64;

/** The 4 or 16 bytes of an address, as sockets take them. */
export function plainBytes(address: string): Uint8Array<ArrayBuffer> {
  const bytes = to16Bytes(address);
  return familyOf(address) === 4 ? bytes.slice(12) : bytes;
}

/** Echo requests from one address to some routers, and their answers. */
export class Echo implements Disposable {
  readonly #socket: UdpSocket;
  readonly #family: Family;
  #hops: Uint8Array<ArrayBuffer>[] = [];
  readonly #request: Uint8Array<ArrayBuffer>;
  readonly #scopeId: number;

  /**
   * Opens a socket with `address`, which this host must have, for routers on interface `name`.
   *
   * @throws {SystemError} EADDRNOTAVAIL where the host lacks it, EPERM
   */
  constructor(name: string, address: string) {
    this.#family = familyOf(address)!;
    this.#request = echoRequest(this.#family);
    this.#scopeId = interfaceIndex(name);
    const options = { rawProtocol: ECHO_PROTOCOL[this.#family], address: plainBytes(address) };
    this.#socket = UdpSocket.open({ family: this.#family, ...options }, CAPACITY);
  }

  /** The routers that are asked. */
  set hops(hops: readonly string[]) {
    this.#hops = hops.map(plainBytes);
  }

  /** The descriptor that is readable while messages wait. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** Asks every router. One that cannot be asked does not answer. */
  ask(): void {
    for (const hop of this.#hops) {
      // fe80::/10; any other address has no scope.
      const local = hop.length === 16 && hop[0] === 0xfe && (hop[1]! & 0xc0) === 0x80;
      try {
        const scopeId = local ? this.#scopeId : 0;
        this.#socket.send(this.#request, { address: hop, port: 0, scopeId });
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
      }
    }
  }

  /** Whether an answer is among the messages that wait. */
  answered(): boolean {
    for (let count = 0; count < BATCH; count++) {
      const message = this.#socket.receive();
      if (message === undefined) return false;
      const from = this.#hops.find((hop) => isEchoReply(message, this.#request, hop, this.#family));
      if (from !== undefined) return true;
    }
    return false;
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
