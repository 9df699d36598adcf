/**
 * BPF ring buffers, read where they lie: both mappings are made once and drained without a call a record
 * (kernel Documentation/bpf/ringbuf.rst). Poll {@linkcode RingBuffer.fd} to wait for records.
 *
 * @module
 */
import type { BpfMap } from "./bpf_map.ts";
import { Mapping, pageSize } from "./mapping.ts";

/** Bits of a record's header (BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT). */
const BUSY = 0x80000000;
const DISCARDED = 0x40000000;
const HEADER = 8;

/** The consumer's end of a ring buffer map. */
export class RingBuffer implements Disposable {
  /** The map's descriptor; it is readable while records wait. */
  readonly fd: number;
  readonly #size: number;
  readonly #page: number;
  readonly #mappings: Mapping[] = [];
  readonly #consumer: BigInt64Array;
  readonly #producer: BigInt64Array;
  readonly #headers: Int32Array;
  readonly #data: ArrayBuffer;

  /** Maps the ring buffer `map`, which must stay open for as long as this object is used. */
  constructor(map: BpfMap) {
    this.fd = map.fd;
    this.#size = map.info.maxEntries;
    try {
      const page = this.#page = pageSize();
      const consumer = this.#map(page, 0, true);
      // The kernel maps the data twice in a row, so that no record is broken at the end.
      const data = this.#map(page + 2 * this.#size, page, false);
      this.#consumer = new BigInt64Array(consumer, 0, 1);
      this.#producer = new BigInt64Array(data, 0, 1);
      this.#headers = new Int32Array(data, page);
      this.#data = data;
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #map(length: number, offset: number, writable: boolean): ArrayBuffer {
    const mapping = new Mapping(this.fd, length, offset, writable, "map the event ring buffer");
    this.#mappings.push(mapping);
    return mapping.buffer;
  }

  /** Gives each waiting record to `receive`, which must not keep the view, and frees its room. Returns their number. */
  drain(receive: (record: DataView) => void): number {
    let position = Number(Atomics.load(this.#consumer, 0));
    const end = Number(Atomics.load(this.#producer, 0));
    let records = 0;
    while (position < end) {
      const offset = position % this.#size;
      const header = Atomics.load(this.#headers, offset / 4) >>> 0;
      if (header & BUSY) break;
      const length = header & ~(BUSY | DISCARDED);
      if (!(header & DISCARDED)) {
        receive(new DataView(this.#data, this.#page + offset + HEADER, length));
        records += 1;
      }
      position += (length + HEADER + 7) & ~7;
      Atomics.store(this.#consumer, 0, BigInt(position));
    }
    return records;
  }

  /** Unmaps the ring buffer; what waits in it stays for the next consumer. */
  [Symbol.dispose](): void {
    for (const mapping of this.#mappings.splice(0)) mapping[Symbol.dispose]();
  }
}
