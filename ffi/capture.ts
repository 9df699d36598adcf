/**
 * Live captures: the kernel's ring of frames, packet(7) with TPACKET_V3, read in place.
 *
 * @module
 */
import { constants } from "node:os";
import { joinPrograms, writeProgram } from "./bpf_program.ts";
import { SystemError, unwrap } from "./errno.ts";
import { libc } from "./libc_sys.ts";
import { FilterCompiler } from "./libpcap.ts";
import { Mapping } from "./mapping.ts";
import { AF_PACKET, bindToInterface, SOCK_CLOEXEC, SOCK_RAW, SOL_PACKET } from "./packet_family.ts";

const SOCK_NONBLOCK = 0x800;
const ETH_P_ALL = 3;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_ATTACH_FILTER = 26;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const TPACKET_V3 = 2;
/** Set in a block's status while it is user space's. */
const TP_STATUS_USER = 1;

/** Bytes of a block of the ring, at least; two frames of 64 KiB fit, as offload makes them. */
const MIN_BLOCK = 1 << 17;
/** What a block has beside its frames, at the most. */
const BLOCK_OVERHEAD = 1 << 10;
/** `struct tpacket_block_desc`. */
const DESCRIPTOR = { status: 8, packets: 12, first: 16 } as const;
/** `struct tpacket3_hdr`. */
const HEADER = { next: 0, seconds: 4, nanos: 8, captured: 12, length: 16, mac: 24 } as const;

/** A part of what is captured. */
export interface CaptureFilter {
  /** Which frames, in pcap-filter(7)'s language; all of them where it is empty. */
  filter: string;
  /** Bytes kept of each of them. */
  snaplen: number;
}

/** Settings of {@linkcode Capture}. */
export interface CaptureOptions {
  /** What to capture: the first filter that takes a frame says how much is kept of it. Gets the link type. */
  filters: (link: number) => readonly CaptureFilter[];
  /** Bytes of the kernel's ring. */
  bufferSize: number;
  /** Bytes of the largest frame; what is larger gets cut. */
  largest: number;
  /** How long the kernel may gather frames before they can be read, in milliseconds, at least 1. */
  delay: number;
}

/** What was captured and lost, counted by the kernel since the start. */
export interface CaptureStats {
  /** Frames that the filter took, those that were lost included. */
  received: number;
  /** Frames lost because the ring was full. */
  dropped: number;
  /** Frames that the interface or its driver lost. */
  interfaceDropped: number;
}

/**
 * Takes one frame: `captured` of its bytes stand in `view` from `at` on, the kernel's own memory, valid until the
 * return. On the wire it had `length` bytes. `seconds` since the epoch and `nanos` below a second are its time.
 */
export type FrameReceiver = (
  view: DataView,
  at: number,
  captured: number,
  length: number,
  seconds: number,
  nanos: number,
) => void;

/**
 * A live capture; it never blocks. Poll {@linkcode Capture.fd} to wait for frames.
 *
 * The ring is read in place, without a call a frame: a foreign call and libpcap's copy would cost more than all else
 * that is done with a small frame. The filters are libpcap's.
 */
export class Capture implements Disposable {
  /** Link type of the frames, as pcap-linktype(7) numbers them. */
  readonly link: number;
  /** The descriptor that is readable while frames wait, or when the interface went down. */
  readonly fd: number;
  readonly #mapping: Mapping;
  readonly #view: DataView;
  /** The same memory: a block's status is read and written in order with its frames. */
  readonly #words: Int32Array;
  readonly #blocks: number;
  readonly #blockSize: number;
  readonly #interface: string;
  readonly #delay: number;
  /** What the interface had lost before the start. */
  readonly #lostBefore: number;
  #received = 0;
  #dropped = 0;
  /** The block that is read: its offset; frames that are left in it, and the offset of the next one. */
  #block = 0;
  #taken = 0;
  #left = 0;
  #at = 0;

  /**
   * Starts capturing on interface `name`, not promiscuously.
   *
   * @throws {PcapError} for an interface or filter that is none, or without permission (CAP_NET_RAW)
   * @throws {SystemError} where the kernel refuses the ring
   */
  constructor(name: string, options: CaptureOptions) {
    this.#interface = name;
    this.#delay = options.delay;
    this.#lostBefore = lostByInterface(name);
    using compiler = new FilterCompiler(name);
    this.link = compiler.link;
    const parts = options.filters(this.link).map(({ filter, snaplen }) => {
      return { code: compiler.compile(filter), snaplen };
    });
    // Without a protocol nothing is captured until the filter is there.
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    this.fd = unwrap(libc().socket(AF_PACKET, type, 0), "open a packet socket");
    let mapping: Mapping | undefined;
    try {
      const program = writeProgram(joinPrograms(parts));
      const attached = libc().setsockopt(this.fd, SOL_SOCKET, SO_ATTACH_FILTER, program, 16);
      unwrap(attached, "attach the filter");
      const version = Uint32Array.of(TPACKET_V3);
      setOption(this.fd, PACKET_VERSION, version, "choose the ring's version");
      const block = Math.max(MIN_BLOCK, powerOfTwo(options.largest + BLOCK_OVERHEAD));
      this.#blockSize = block;
      this.#blocks = Math.max(2, Math.ceil(options.bufferSize / block));
      // struct tpacket_req3
      const request = Uint32Array.of(block, this.#blocks, block, this.#blocks, options.delay, 0, 0);
      const ring = `make a ring of ${this.#blocks * block} bytes`;
      setOption(this.fd, PACKET_RX_RING, request, ring);
      mapping = new Mapping(this.fd, this.#blocks * block, 0, true, ring);
      bindToInterface(this.fd, name, ETH_P_ALL, `capture on interface "${name}"`);
    } catch (error) {
      mapping?.[Symbol.dispose]();
      libc().close(this.fd);
      throw error;
    }
    this.#mapping = mapping;
    this.#view = new DataView(mapping.buffer);
    this.#words = new Int32Array(mapping.buffer);
  }

  /** Gives at most `limit` waiting frames to `receive`, and returns their number. */
  drain(receive: FrameReceiver, limit: number): number {
    const view = this.#view;
    let frames = 0;
    while (frames < limit) {
      if (this.#left === 0 && !this.#open()) break;
      let at = this.#at;
      let count = Math.min(this.#left, limit - frames);
      frames += count;
      this.#left -= count;
      for (; count > 0; count--) {
        receive(
          view,
          at + view.getUint16(at + HEADER.mac, true),
          view.getUint32(at + HEADER.captured, true),
          view.getUint32(at + HEADER.length, true),
          view.getUint32(at + HEADER.seconds, true),
          view.getUint32(at + HEADER.nanos, true),
        );
        at += view.getUint32(at + HEADER.next, true);
      }
      this.#at = at;
      if (this.#left === 0) this.#giveBack();
    }
    return frames;
  }

  /** How long the ring lasts where few frames come, in milliseconds: each delay takes a block. */
  get patience(): number {
    return this.#blocks * this.#delay;
  }

  /** How often the ring has been read through so far, a fraction of it included. */
  get position(): number {
    return this.#taken / this.#blocks;
  }

  /** Frames lost so far because the ring was full. */
  get dropped(): number {
    this.#count();
    return this.#dropped;
  }

  /** What was captured and lost so far. */
  stats(): CaptureStats {
    this.#count();
    return {
      received: this.#received,
      dropped: this.#dropped,
      interfaceDropped: lostByInterface(this.#interface) - this.#lostBefore,
    };
  }

  /** Whether the interface went down since the last call; the capture goes on once it is up again. */
  wentDown(): boolean {
    const error = new Uint32Array(1);
    const size = new Uint8Array(Uint32Array.of(4).buffer);
    const bytes = new Uint8Array(error.buffer);
    const result = libc().getsockopt(this.fd, SOL_SOCKET, SO_ERROR, bytes, size);
    unwrap(result, "read the state of the capture");
    if (error[0] === 0) return false;
    if (error[0] === constants.errno.ENETDOWN) return true;
    throw new SystemError("capture", error[0]!);
  }

  /** Ends the capture. No frame may be looked at any more. */
  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    libc().close(this.fd);
  }

  #count(): void {
    // struct tpacket_stats_v3; the kernel begins anew each time.
    const counters = new Uint32Array(3);
    const size = new Uint8Array(Uint32Array.of(12).buffer);
    const bytes = new Uint8Array(counters.buffer);
    const result = libc().getsockopt(this.fd, SOL_PACKET, PACKET_STATISTICS, bytes, size);
    unwrap(result, "read the statistics of the capture");
    this.#received += counters[0]!;
    this.#dropped += counters[1]!;
  }

  /** Begins to read the next block, if the kernel has filled it. */
  #open(): boolean {
    const status = Atomics.load(this.#words, (this.#block + DESCRIPTOR.status) / 4);
    if ((status & TP_STATUS_USER) === 0) return false;
    this.#left = this.#view.getUint32(this.#block + DESCRIPTOR.packets, true);
    this.#at = this.#block + this.#view.getUint32(this.#block + DESCRIPTOR.first, true);
    if (this.#left === 0) this.#giveBack();
    return this.#left > 0;
  }

  #giveBack(): void {
    Atomics.store(this.#words, (this.#block + DESCRIPTOR.status) / 4, 0);
    this.#taken += 1;
    this.#block = (this.#block + this.#blockSize) % (this.#blocks * this.#blockSize);
  }
}

function setOption(
  fd: number,
  option: number,
  value: Uint32Array<ArrayBuffer>,
  attempted: string,
): void {
  const bytes = new Uint8Array(value.buffer);
  unwrap(libc().setsockopt(fd, SOL_PACKET, option, bytes, bytes.length), attempted);
}

/**
 * Frames that interface `name` or its driver has lost so far: the columns drop and fifo of proc_net(5), which shows
 * this process's network namespace whatever is mounted on /sys.
 */
function lostByInterface(name: string): number {
  const lines = Deno.readTextFileSync("/proc/net/dev").split("\n");
  const line = lines.find((text) => text.trimStart().startsWith(`${name}:`)) ?? "";
  const [, , , drop = 0, fifo = 0] = line.slice(line.lastIndexOf(":") + 1).trim().split(/\s+/);
  return Number(drop) + Number(fifo);
}

/** The smallest power of two that is not below `value`. */
function powerOfTwo(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}
