/**
 * BPF maps.
 *
 * @module
 */
import { constants } from "node:os";
import { cString, textOf } from "./c_string.ts";
import { unwrap, unwrapNegated } from "./errno.ts";
import { libbpf } from "./libbpf_sys.ts";
import { libc } from "./libc_sys.ts";
import { Mapping, pageSize } from "./mapping.ts";

/** Lengths that the kernel knows of a map. */
export interface MapInfo {
  /** Identifier within this boot. */
  id: number;
  /** The name that the kernel knows, 15 characters at most. */
  name: string;
  /** Bytes. */
  keySize: number;
  /** Bytes, for a per-CPU map those of one CPU. */
  valueSize: number;
  /** Elements; for a ring buffer its bytes. */
  maxEntries: number;
}

/** Elements read in one go: `count` keys and values, one behind the other. */
export interface Batch {
  /** How many elements there are. */
  count: number;
  /** `count` keys, then unused room. */
  keys: Uint8Array<ArrayBuffer>;
  /** `count` values, then unused room. */
  values: Uint8Array<ArrayBuffer>;
}

/** A BPF map: keys and values are bytes as the BPF program lays them out. */
export class BpfMap implements Disposable {
  /** The map's name or path, for messages. */
  readonly name: string;
  /** What the kernel says of it. */
  readonly info: MapInfo;
  #fd: number;

  private constructor(fd: number, name: string) {
    this.#fd = fd;
    this.name = name;
    const info = new Uint8Array(80);
    const view = new DataView(info.buffer);
    try {
      const length = new Uint32Array([info.length]);
      unwrapNegated(libbpf().bpf_obj_get_info_by_fd(fd, info, length), `read about map "${name}"`);
    } catch (error) {
      libc().close(fd);
      throw error;
    }
    this.info = {
      id: view.getUint32(4, true),
      name: textOf(info.subarray(24, 40)),
      keySize: view.getUint32(8, true),
      valueSize: view.getUint32(12, true),
      maxEntries: view.getUint32(16, true),
    };
  }

  /** Takes over file descriptor `fd`. */
  static adopt(fd: number, name: string): BpfMap {
    return new BpfMap(fd, name);
  }

  /**
   * Opens the map that is pinned at `path`.
   *
   * @throws {SystemError} ENOENT where nothing is pinned there
   */
  static openPinned(path: string): BpfMap {
    return new BpfMap(unwrapNegated(libbpf().bpf_obj_get(cString(path)), `open "${path}"`), path);
  }

  /** The file descriptor, owned by this object. */
  get fd(): number {
    return this.#fd;
  }

  /** Pins the map at `path`, which must lie in a BPF file system. */
  pin(path: string): void {
    unwrapNegated(libbpf().bpf_obj_pin(this.#fd, cString(path)), `pin "${path}"`);
  }

  /**
   * Maps the values of an array map (BPF_F_MMAPABLE) into this process, writable. Close the mapping before the map.
   *
   * @throws {SystemError}
   */
  mapValues(): Mapping {
    const stride = (this.info.valueSize + 7) & ~7;
    const page = pageSize();
    const length = Math.ceil(stride * this.info.maxEntries / page) * page;
    return new Mapping(this.#fd, length, 0, true, `map the values of "${this.name}"`);
  }

  /** Reads the value of `key` into `value`; false where there is none. */
  lookup(key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>): boolean {
    const result = libbpf().bpf_map_lookup_elem(this.#fd, key, value);
    if (result === -constants.errno.ENOENT) return false;
    unwrapNegated(result, `look up in map "${this.name}"`);
    return true;
  }

  /** Sets the value of `key`. */
  update(key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>): void {
    const result = libbpf().bpf_map_update_elem(this.#fd, key, value, 0n);
    unwrapNegated(result, `update map "${this.name}"`);
  }

  /** Removes `key`; false where it was not there. */
  delete(key: Uint8Array<ArrayBuffer>): boolean {
    const result = libbpf().bpf_map_delete_elem(this.#fd, key);
    if (result === -constants.errno.ENOENT) return false;
    unwrapNegated(result, `delete from map "${this.name}"`);
    return true;
  }

  /**
   * Reads all elements of a hash map, at most `info.maxEntries`. Elements that come or go meanwhile may or may not be
   * among them. A batch from an earlier call may be given, to be filled again as far as its room goes.
   */
  entries(again?: Batch): Batch {
    const { keySize, valueSize, maxEntries } = this.info;
    let room = again === undefined ? Math.min(maxEntries, 1024) : again.keys.length / keySize;
    let batch: Batch = {
      count: 0,
      keys: again?.keys ?? new Uint8Array(room * keySize),
      values: again?.values ?? new Uint8Array(room * valueSize),
    };
    const token = new Uint8Array(8);
    const count = new Uint32Array(1);
    for (let first = true;; first = false) {
      if (room - batch.count < 512 && room < maxEntries) {
        room = Math.min(maxEntries, room * 4);
        batch = grown(batch, room * keySize, room * valueSize);
      }
      count[0] = room - batch.count;
      const result = libbpf().bpf_map_lookup_batch(
        this.#fd,
        first ? null : token,
        token,
        batch.keys.subarray(batch.count * keySize),
        batch.values.subarray(batch.count * valueSize),
        count,
        null,
      );
      batch.count += count[0];
      if (result === -constants.errno.ENOENT || batch.count >= maxEntries) return batch;
      if (result === -constants.errno.ENOSPC && room < maxEntries) continue;
      unwrapNegated(result, `read map "${this.name}"`);
    }
  }

  /**
   * Reads the elements of a hash map in pieces of a few hundred, each of which is valid until the next is asked for.
   * Elements that come or go meanwhile may or may not be among them.
   */
  *pieces(): Generator<Batch> {
    const { keySize, valueSize, maxEntries } = this.info;
    let room = Math.min(maxEntries, 1024);
    let batch: Batch = {
      count: 0,
      keys: new Uint8Array(room * keySize),
      values: new Uint8Array(room * valueSize),
    };
    const token = new Uint8Array(8);
    const count = new Uint32Array(1);
    for (let first = true;;) {
      count[0] = room;
      const { keys, values } = batch;
      const next = first ? null : token;
      const result = libbpf().bpf_map_lookup_batch(
        this.#fd,
        next,
        token,
        keys,
        values,
        count,
        null,
      );
      if (result === -constants.errno.ENOSPC && room < maxEntries) {
        // One bucket alone has more.
        room = Math.min(maxEntries, room * 4);
        batch = grown(batch, room * keySize, room * valueSize);
        continue;
      }
      first = false;
      batch.count = count[0];
      if (result !== -constants.errno.ENOENT) unwrapNegated(result, `read map "${this.name}"`);
      if (batch.count > 0) yield batch;
      if (result === -constants.errno.ENOENT) return;
    }
  }

  /** Sums up a per-CPU array of 64-bit counters, an element each. */
  sums(): number[] {
    const cpus = unwrapNegated(libbpf().libbpf_num_possible_cpus(), "count the processors");
    const values = new BigUint64Array(cpus);
    const bytes = new Uint8Array(values.buffer);
    const key = new Uint32Array(1);
    const keyBytes = new Uint8Array(key.buffer);
    return Array.from({ length: this.info.maxEntries }, (_, index) => {
      key[0] = index;
      this.lookup(keyBytes, bytes);
      return Number(values.reduce((sum, value) => sum + value, 0n));
    });
  }

  /** Closes the descriptor; a pinned map lives on. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    unwrap(libc().close(this.#fd), `close map "${this.name}"`);
    this.#fd = -1;
  }
}

function grown(batch: Batch, keyBytes: number, valueBytes: number): Batch {
  const keys = new Uint8Array(keyBytes);
  const values = new Uint8Array(valueBytes);
  keys.set(batch.keys);
  values.set(batch.values);
  return { count: batch.count, keys, values };
}
