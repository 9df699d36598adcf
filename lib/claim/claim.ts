/**
 * A host's claim to addresses: it tells the neighbours, looks whether they heed it, and whether somebody else claims
 * the addresses too.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { type Injector, PcapError } from "../../ffi/libpcap.ts";
import { PacketReceiver } from "../../ffi/packet_receiver.ts";
import { Poller } from "../../ffi/poller.ts";
import { type Datagram, UdpSocket } from "../../ffi/udp.ts";
import { formatMac, from16Bytes, parseMac } from "../address.ts";
import type { Emitter } from "../event.ts";
import type { Failure } from "../failure.ts";
import { macOf } from "../host/links.ts";
import { ECHO_PROTOCOL } from "../probe/icmp.ts";
import { Agenda, ANNOUNCE, type AnnounceOptions } from "./agenda.ts";
import { ClaimedAddress, type Proof, sourceOfQuestions } from "./claimed_address.ts";
import { ArpOperation, Discovery, EtherType, readArp, readDiscovery } from "./frames.ts";
import { placeRefusal, stateRefusal, theseInterfaces } from "./place.ts";
import { type Rival, Rivals, SILENCE } from "./rivals.ts";

/** How often the surroundings are looked at before the claim, in milliseconds. */
const LOOK = 1000;
/** How often a rival is asked whether it is there still, in milliseconds. */
const ASK = SILENCE / 3;
/** Frames and messages that are read at once, from each socket. */
const BATCH = 256;
/** Frames and messages that may have waited since before the claim, at most. */
const PAST = 4096;
/** After the takeover, before anything is asked, in milliseconds. */
const CALM = 10;
/** At least so long neighbours and rivals are listened to, in milliseconds after the first announcement. */
const LISTEN = 1000;
/** Rest after each wait, in milliseconds, so that a flood costs few wake-ups. */
const REST = 2;
/** Longest wait, in microseconds. */
const WAIT = 250_000;
const ARP_FRAME = 42;
const ICMP_CAPACITY = 512;

/** See the module. */
export class Claim implements Disposable {
  /** The interface that the addresses are claimed on. */
  readonly interface: string;
  /** Announcements that could not be sent, so far. */
  unsent = 0;
  readonly #wire: Injector;
  readonly #agenda: Agenda;
  readonly #refreshed: boolean;
  readonly #rivals = new Rivals();
  readonly #addresses: ClaimedAddress[];
  readonly #opened = new DisposableStack();
  readonly #arp: PacketReceiver | undefined;
  readonly #discovery: UdpSocket | undefined;
  readonly #timer: ReturnType<typeof setInterval>;
  #mac: string;
  #misplaced: Failure | undefined;
  /** Whether it was said that there is no proof. */
  #doubted = false;
  /** When the addresses were announced first. */
  #began: number | undefined;
  #ask = Infinity;
  /** What is to be told, and was not yet. */
  readonly #news: ((emitter: Emitter) => void)[] = [];

  /**
   * Gets ready to claim `addresses` on interface `name`, which must be claimable; `wire` sends there.
   *
   * @throws {SystemError} without permission (CAP_NET_RAW)
   */
  constructor(
    name: string,
    addresses: readonly string[],
    wire: Injector,
    options: AnnounceOptions,
  ) {
    this.interface = name;
    this.#wire = wire;
    this.#agenda = new Agenda(options);
    this.#refreshed = options.refresh > 0;
    this.#mac = formatMac(macOf(name));
    this.#addresses = addresses.map((text) => this.#opened.use(new ClaimedAddress(text)));
    const has = (family: 4 | 6) => this.#addresses.some((address) => address.family === family);
    try {
      this.#describe();
      this.#arp = has(4) ? this.#opened.use(this.#openArp()) : undefined;
      this.#discovery = has(6) ? openDiscovery() : undefined;
      this.#opened.defer(() => this.#discovery?.close());
    } catch (error) {
      this.#opened.dispose();
      throw error;
    }
    this.#timer = setInterval(() => this.#look(), LOOK);
    Deno.unrefTimer(this.#timer);
    this.#opened.defer(() => clearInterval(this.#timer));
  }

  #openArp(): PacketReceiver {
    const about = this.#addresses.filter(({ family }) => family === 4).map(({ text }) =>
      `arp src host ${text} or arp dst host ${text}`
    );
    return new PacketReceiver(this.interface, EtherType.ARP, about.join(" or "), ARP_FRAME);
  }

  /**
   * To be asked right before the takeover: why nothing can be claimed as things are; undefined where it can. The
   * interface's state is that of now; where the addresses are, that of a second ago at most.
   */
  get refusal(): Failure | undefined {
    return stateRefusal(this.interface, theseInterfaces) ?? this.#misplaced;
  }

  /** Announces the addresses, for the first time or once more. */
  announce(): void {
    const now = performance.now();
    if (this.#began === undefined) {
      this.#began = now;
      this.#wire.forgetError();
    }
    this.#agenda.begin(now);
    this.#ask = now;
    this.#announceNow((frame) => this.#send(frame));
  }

  /** Runs the code of the event, so that it is compiled when the event comes; sends nothing. */
  rehearse(): void {
    if (this.refusal === undefined) this.#wire.forgetError();
    new Agenda(ANNOUNCE).begin(0);
    this.#announceNow(() => {});
  }

  /** The addresses of which something showed that a neighbour sends to this host. */
  get proven(): string[] {
    return this.#addresses.filter(({ proof }) => proof !== undefined).map(({ text }) => text);
  }

  /**
   * Goes on announcing, and asks and tells what it hears: `claimed` for an address that a neighbour is seen to send to here,
   * `rival` where another host claims one. Begins a moment later, since the flows need the processors first. Ends when
   * `stop` is aborted, or once all is announced and `keep` says no.
   */
  async watch(emitter: Emitter, keep: () => boolean, stop: AbortSignal): Promise<void> {
    const { unsent } = this;
    await new Promise((resolve) => setTimeout(resolve, CALM));
    clearInterval(this.#timer);
    this.#forgetPast();
    this.#askForEchoes();
    try {
      await this.#listen(emitter, keep, stop);
    } catch (error) {
      // The flows need this process for a while yet.
      if (!(error instanceof SystemError)) throw error;
      const message = `Neighbours and rivals are not listened to any more: ${error.message}`;
      emitter.emit("warning", { message });
    }
    if (this.unsent > unsent) {
      const message = `${this.unsent - unsent} announcements and questions could not be sent`;
      emitter.emit("warning", { message });
    }
    if (this.#rivals.uncounted > 0) {
      const message = `${this.#rivals.uncounted} claims of further hosts were not looked at`;
      emitter.emit("warning", { message });
    }
  }

  async #listen(emitter: Emitter, keep: () => boolean, stop: AbortSignal): Promise<void> {
    let polled: number[] = [];
    let poller: Poller | undefined;
    const wake = (): void => poller?.wake();
    stop.addEventListener("abort", wake);
    try {
      while (!stop.aborted) {
        this.#hear();
        this.#act();
        for (const tell of this.#news.splice(0)) tell(emitter);
        if (this.#agenda.over && performance.now() >= this.#began! + LISTEN) {
          this.#doubt(emitter);
          if (!this.#refreshed && !keep()) break;
        }
        const fds = this.#fds();
        if (poller === undefined || fds.join() !== polled.join()) {
          await poller?.close();
          poller = new Poller(fds);
          polled = fds;
        }
        await poller.wait(Math.min(WAIT, (this.#due() - performance.now()) * 1000));
        await new Promise((resolve) => setTimeout(resolve, REST));
      }
    } finally {
      stop.removeEventListener("abort", wake);
      await poller?.close();
    }
  }

  /** Closes the sockets; what was announced stands. */
  [Symbol.dispose](): void {
    this.#opened.dispose();
  }

  /** Looks at what may change while nothing is claimed: addresses come and go, and so does a bond's MAC address. */
  #look(): void {
    const addresses = this.#addresses.map(({ text }) => text);
    this.#misplaced = placeRefusal(this.interface, addresses, theseInterfaces);
    try {
      this.#mac = formatMac(macOf(this.interface));
    } catch {
      // While it is down it may have no address; it has none other then.
      return;
    }
    this.#describe();
  }

  #describe(): void {
    const mac = parseMac(this.#mac);
    const claimed = this.#addresses.map(({ text }) => text);
    const source = sourceOfQuestions(this.interface, claimed, theseInterfaces);
    for (const address of this.#addresses) address.describe(this.interface, mac, source);
  }

  /** What came before the claim was said to the former owner, or by it. */
  #forgetPast(): void {
    for (let count = 0; count < PAST && this.#arp?.receive() !== undefined; count++);
    for (let count = 0; count < PAST && this.#discovery?.receive() !== undefined; count++);
  }

  #announceNow(send: (frame: Uint8Array<ArrayBuffer>) => void): void {
    for (const { announcements } of this.#addresses) announcements.forEach(send);
  }

  /** One frame that cannot be sent must not keep the others from being sent. */
  #send(frame: Uint8Array<ArrayBuffer>): void {
    try {
      this.#wire.send(frame);
    } catch (error) {
      if (!(error instanceof PcapError)) throw error;
      this.unsent += 1;
    }
  }

  #askForEchoes(): void {
    for (const { echo } of this.#addresses) echo?.ask();
  }

  #askForRivals(): void {
    for (const { question } of this.#addresses) if (question !== undefined) this.#send(question);
  }

  /** Does what is due. */
  #act(): void {
    const now = performance.now();
    for (const rival of this.#rivals.silenced(now)) {
      this.#news.push((emitter) => emitter.emit("rival", { ...rival, talks: false }));
      this.#agenda.repeat(now);
    }
    const announces = this.#agenda.take(now);
    if (announces) {
      this.#announceNow((frame) => this.#send(frame));
      this.#askForEchoes();
    }
    if (announces || now >= this.#ask) {
      this.#askForRivals();
      this.#ask = this.#rivals.count > 0 ? now + ASK : Infinity;
    }
  }

  /** When there is something to do. */
  #due(): number {
    return Math.min(this.#agenda.next, this.#ask, this.#rivals.next);
  }

  #fds(): number[] {
    const echoes = this.#addresses.map(({ echo }) => echo?.fd);
    return [this.#arp?.fd, this.#discovery?.fd, ...echoes].filter((fd) => fd !== undefined);
  }

  /** Reads what has arrived. */
  #hear(): void {
    for (let count = 0; count < BATCH; count++) {
      const frame = this.#arp?.receive();
      if (frame === undefined) break;
      this.#hearArp(frame);
    }
    for (let count = 0; count < BATCH; count++) {
      const message = this.#discovery?.receive();
      if (message === undefined) break;
      this.#hearDiscovery(message);
    }
    for (const address of this.#addresses) {
      if (address.echo?.answered()) this.#prove(address, "echo");
    }
  }

  #hearArp(frame: Uint8Array): void {
    const packet = readArp(frame);
    if (packet === undefined) return;
    const mac = formatMac(packet.mac);
    if (mac === this.#mac) return;
    const sender = this.#find(packet.sender.join("."));
    if (sender !== undefined) this.#hearRival({ address: sender.text, mac });
    const here = formatMac(frame.subarray(0, 6)) === this.#mac;
    const target = this.#find(packet.target.join("."));
    if (here && packet.operation === ArpOperation.REQUEST && target !== undefined) {
      this.#prove(target, "neighbour");
    }
  }

  #hearDiscovery({ bytes, ttl, destination }: Datagram): void {
    // RFC 4861 section 7.1: what has passed a router is forged.
    const message = ttl === 255 ? readDiscovery(bytes) : undefined;
    const address = message && this.#find(from16Bytes(message.target));
    if (message === undefined || address === undefined) return;
    const mac = message.mac && formatMac(message.mac);
    if (message.type === Discovery.SOLICITATION) {
      const here = destination.length === 16 && from16Bytes(destination) === address.text;
      if (here && mac !== this.#mac) this.#prove(address, "neighbour");
    } else if (mac !== undefined && mac !== this.#mac) {
      this.#hearRival({ address: address.text, mac });
    }
  }

  /** Says once of which addresses there is no proof yet. */
  #doubt(emitter: Emitter): void {
    if (this.#doubted) return;
    this.#doubted = true;
    for (const { text, proof } of this.#addresses) {
      if (proof !== undefined) continue;
      const message = `Nothing shows yet that the neighbours send to this host for "${text}": ` +
        `no router on interface "${this.interface}" has answered an echo request`;
      emitter.emit("warning", { message });
    }
  }

  #find(text: string): ClaimedAddress | undefined {
    return this.#addresses.find((address) => address.text === text);
  }

  #hearRival(rival: Rival): void {
    const now = performance.now();
    if (this.#rivals.hear(rival, now)) {
      this.#news.push((emitter) => emitter.emit("rival", { ...rival, talks: true }));
      this.#ask = Math.min(this.#ask, now + ASK);
    }
    this.#agenda.defend(now);
  }

  #prove(address: ClaimedAddress, proof: Proof): void {
    if (address.proof !== undefined || this.#began === undefined) return;
    address.prove(proof);
    const after_ms = Math.round((performance.now() - this.#began) * 1000) / 1000;
    this.#news.push((emitter) =>
      emitter.emit("claimed", { address: address.text, after_ms, proof })
    );
  }
}

/** ICMPv6 of all of this host's addresses: a rival's answers come to another than the claimed one. */
function openDiscovery(): UdpSocket {
  return UdpSocket.open({ family: 6, rawProtocol: ECHO_PROTOCOL[6] }, ICMP_CAPACITY);
}
