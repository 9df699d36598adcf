/**
 * A capture file of mixed TCP flows, the same each time: short exchanges, downloads and uploads over IPv4 and IPv6, many
 * open at once, some segments reordered or sent again.
 *
 * @module
 */
import { pcapHeader } from "../fixture/capture_file.ts";
import { Bit } from "../fixture/segment.ts";

const { SYN, ACK, PSH, FIN } = Bit;

/** Flows that are open at once. */
export const OPEN_FLOWS = 1000;
const MSS = 1448;
const LINK = 14;
const TCP_HEADER = 32;
const RECORD_HEADER = 16;
const BUFFER = 1 << 20;
/** More than a record takes. */
const MAX_RECORD = 2048;

/** A segment; `fromClient` says whose. Numbers are of 32 bits. */
interface Segment {
  fromClient: boolean;
  flags: number;
  seq: number;
  ack: number;
  length: number;
}

/** What has been written. */
export interface TrafficTotals {
  bytes: number;
  frames: number;
  flows: number;
}

/** Writes at least so many bytes, and tells `progress` now and then how many there are. */
export function writeTraffic(
  path: string,
  bytes: number,
  progress: (written: number) => void,
): TrafficTotals {
  using file = Deno.openSync(path, { write: true, createNew: true });
  const random = randomNumbers(20_260_131);
  const writer = new Writer(file);
  const flows: Generator<Segment>[] = [];
  let begun = 0;
  const begin = (): Generator<Segment> => {
    begun++;
    return flow(random);
  };
  for (let i = 0; i < OPEN_FLOWS; i++) flows.push(begin());
  const numbers = flows.map((_, i) => i);
  while (writer.bytes < bytes) {
    const i = Math.floor(random() * OPEN_FLOWS);
    // Packets come in trains.
    for (let burst = 0; burst < 4; burst++) {
      const { value, done } = flows[i]!.next();
      if (done) {
        numbers[i] = begun;
        flows[i] = begin();
        break;
      }
      writer.add(numbers[i]!, value);
    }
    if (writer.frames % 4096 === 0) progress(writer.bytes);
  }
  writer.flush();
  return { bytes: writer.bytes, frames: writer.frames, flows: begun };
}

/** One flow from its SYN to its end. */
function* flow(random: () => number): Generator<Segment, undefined> {
  const seqs = { client: random() * 2 ** 32 >>> 0, server: random() * 2 ** 32 >>> 0 };
  const next = (fromClient: boolean, flags: number, length: number): Segment => {
    const seq = fromClient ? seqs.client : seqs.server;
    const ack = flags === SYN ? 0 : fromClient ? seqs.server : seqs.client;
    const taken = length + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
    if (fromClient) seqs.client = seq + taken >>> 0;
    else seqs.server = seq + taken >>> 0;
    return { fromClient, flags, seq, ack, length };
  };
  yield next(true, SYN, 0);
  yield next(false, SYN | ACK, 0);
  yield next(true, ACK, 0);
  const kind = random();
  const exchanges = kind < 0.6 ? 1 + Math.floor(random() * 8) : 1;
  for (let i = 0; i < exchanges; i++) {
    if (kind < 0.6) {
      yield next(true, ACK | PSH, 80 + Math.floor(random() * 400));
      yield next(false, ACK | PSH, 100 + Math.floor(random() * (MSS - 100)));
      yield next(true, ACK, 0);
      continue;
    }
    const isUpload = kind > 0.9;
    yield next(true, ACK | PSH, 200);
    const count = 10 + Math.floor(random() * 200);
    for (let j = 0; j < count; j++) {
      const luck = random();
      const segment = next(isUpload, ACK, MSS);
      if (luck < 0.003) yield next(isUpload, ACK, MSS);
      yield segment;
      if (luck > 0.998) yield segment;
      if (j % 2 === 1) yield next(!isUpload, ACK, 0);
    }
    yield next(!isUpload, ACK | PSH, 300);
  }
  yield next(true, FIN | ACK, 0);
  yield next(false, FIN | ACK, 0);
  yield next(true, ACK, 0);
}

/** Numbers from 0 to below 1, the same each time: xorshift. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Writes records of a pcap. The reader checks no checksum, and they have none. */
class Writer {
  bytes = 0;
  frames = 0;
  readonly #file: Deno.FsFile;
  readonly #buffer = new Uint8Array(BUFFER);
  readonly #view = new DataView(this.#buffer.buffer);
  #at = 0;
  /** Microseconds since the beginning. */
  #time = 0;

  constructor(file: Deno.FsFile) {
    this.#file = file;
    const header = pcapHeader(true);
    // All payload is the same noise.
    for (let i = 0; i < BUFFER; i++) this.#buffer[i] = i * 31 + (i >> 8);
    this.#buffer.set(header);
    this.#at = this.bytes = header.length;
  }

  /** Adds a segment of flow `number`; every fourth flow uses IPv6. */
  add(number: number, { fromClient, flags, seq, ack, length }: Segment): void {
    const view = this.#view;
    const isIpv6 = number % 4 === 3;
    const size = LINK + (isIpv6 ? 40 : 20) + TCP_HEADER + length;
    const at = this.#at;
    this.#time += 5;
    view.setUint32(at, 1_700_000_000 + Math.floor(this.#time / 1e6), true);
    view.setUint32(at + 4, this.#time % 1e6, true);
    view.setUint32(at + 8, size, true);
    view.setUint32(at + 12, size, true);
    const ip = at + RECORD_HEADER + LINK;
    view.setUint16(ip - 2, isIpv6 ? 0x86dd : 0x0800);
    const client = 0x0a000000 + (number >>> 12);
    const [source, destination] = fromClient ? [client, 0x0affffff] : [0x0affffff, client];
    if (isIpv6) {
      view.setUint32(ip, 0x6000_0000);
      view.setUint16(ip + 4, TCP_HEADER + length);
      view.setUint16(ip + 6, 6 << 8 | 64);
      for (let i = 8; i < 40; i += 4) view.setUint32(ip + i, i % 16 === 8 ? 0xfd000000 : 0);
      view.setUint32(ip + 20, source);
      view.setUint32(ip + 36, destination);
    } else {
      view.setUint32(ip, 0x4500_0000 | size - LINK);
      view.setUint32(ip + 4, 0x4000);
      view.setUint32(ip + 8, 64 << 24 | 6 << 16);
      view.setUint32(ip + 12, source);
      view.setUint32(ip + 16, destination);
    }
    const tcp = ip + (isIpv6 ? 40 : 20);
    const port = 32_768 + number % 4096;
    view.setUint16(tcp, fromClient ? port : 80);
    view.setUint16(tcp + 2, fromClient ? 80 : port);
    view.setUint32(tcp + 4, seq);
    view.setUint32(tcp + 8, ack);
    view.setUint32(tcp + 12, TCP_HEADER / 4 << 28 | flags << 16 | 0xffff);
    view.setUint32(tcp + 16, 0);
    // Time stamps, all the same.
    view.setUint32(tcp + 20, 0x0101080a);
    view.setBigUint64(tcp + 24, 1n);
    this.#at += RECORD_HEADER + size;
    this.bytes += RECORD_HEADER + size;
    this.frames++;
    if (this.#at + MAX_RECORD > BUFFER) this.flush();
  }

  /** Writes what is in memory. */
  flush(): void {
    for (let at = 0; at < this.#at;) {
      at += this.#file.writeSync(this.#buffer.subarray(at, this.#at));
    }
    this.#at = 0;
  }
}
