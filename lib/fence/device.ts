/**
 * The fence at an interface: a program that drops the primary's frames for the services, and the value that switches it.
 *
 * The program stays with the interface and needs no pin: a fence that is up stays up whatever becomes of the process,
 * of its run directory and of its mount namespace.
 *
 * @module
 */
import type { BpfMap } from "../../ffi/bpf_map.ts";
import { type BpfParts, BpfProgram, disposeParts, openAttached } from "../../ffi/bpf_object.ts";
import { monotonicMicros } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import type { Mapping } from "../../ffi/mapping.ts";
import { interfaceIndex } from "../../ffi/tc.ts";
import { attachIngress, detachIngress, ingressPrograms } from "../../ffi/tcx.ts";
import { formatEndpoint, formatMac, from16Bytes, type Service } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { SERVICE_KEY, serviceKeys } from "../flow/layout.ts";
import { loadPrograms } from "../program/load.ts";
import { writeServices } from "../shadow/programs.ts";
import { FENCE_CONTROL, fenceCounters } from "./layout.ts";

const PROGRAM = "fence_ingress";

/** What a fence is for. */
export interface FenceSetup {
  /** The gateway's interface to the primary. */
  interface: string;
  /** The primary's MAC address. */
  primary: Uint8Array;
  /** What is dropped of it; TCP only. */
  services: readonly Service[];
}

/** See the module. Disposing of it leaves the program in place. */
export class Fence implements Disposable {
  /** The interface. */
  readonly interface: string;
  /** Whether the program of an earlier start was found. */
  readonly adopted: boolean;
  readonly #parts: BpfParts;
  readonly #mapping: Mapping;
  readonly #since: BigUint64Array;

  private constructor(interfaceName: string, parts: BpfParts, adopted: boolean) {
    this.interface = interfaceName;
    this.adopted = adopted;
    this.#parts = parts;
    this.#mapping = this.#map("control").mapValues();
    this.#since = new BigUint64Array(this.#mapping.buffer, FENCE_CONTROL.since_ns, 1);
  }

  /**
   * Adopts program `earlier` where it is still there, or loads and attaches one, whose number `note` is told before it is
   * attached. One that is up must be for the same primary and services.
   *
   * @throws {Failure} with status UNAVAILABLE where one is up for others, or the kernel has no tcx
   */
  static open(
    setup: FenceSetup,
    earlier: number | undefined,
    note: (program: number) => void,
  ): Fence {
    const found = earlier === undefined ? undefined : Fence.find(setup.interface, earlier);
    if (found?.up) {
      if (found.#isFor(setup)) return found;
      found[Symbol.dispose]();
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `A fence is up at interface "${setup.interface}" for another primary, or other services`,
        { mend: "t2cp fence --release takes it down" },
      );
    }
    // Down it does nothing, and may be of another version.
    found?.remove();
    found?.[Symbol.dispose]();
    const fence = Fence.#load(setup);
    try {
      note(fence.program);
      fence.#attach();
      return fence;
    } catch (error) {
      fence[Symbol.dispose]();
      throw error;
    }
  }

  static #load(setup: FenceSetup): Fence {
    const parts = loadPrograms({ name: "fence", object: "fence.bpf.o" });
    try {
      writeServices(parts.maps.get("services")!, setup.services);
      const value = new Uint8Array(FENCE_CONTROL.size);
      value.set(setup.primary, FENCE_CONTROL.primary_mac);
      parts.maps.get("control")!.update(new Uint8Array(4), value);
      return new Fence(setup.interface, parts, false);
    } catch (error) {
      disposeParts(parts);
      throw error;
    }
  }

  /** The fence with program number `program`; undefined where the interface has none of that number. */
  static find(interfaceName: string, program: number): Fence | undefined {
    const ifindex = interfaceIndex(interfaceName);
    if (ifindex === 0 || !ingressPrograms(ifindex).includes(program)) return undefined;
    const parts = openAttached([program]);
    // Later versions may know more; what this one knows stays where it is.
    const size = parts.maps.get("control")?.info.valueSize ?? 0;
    if (parts.programs.has(PROGRAM) && size >= FENCE_CONTROL.size) {
      return new Fence(interfaceName, parts, true);
    }
    disposeParts(parts);
    return undefined;
  }

  /** All fences at an interface. The caller disposes of them. */
  static at(interfaceName: string): Fence[] {
    const ifindex = interfaceIndex(interfaceName);
    const ids = ifindex === 0 ? [] : ingressPrograms(ifindex);
    return ids.flatMap((id) => Fence.find(interfaceName, id) ?? []);
  }

  /** The program's number within this boot. */
  get program(): number {
    return this.#program.id;
  }

  /** The services that it is for, as `address:port`, in alphabetical order. */
  get services(): string[] {
    return this.#keys().flatMap((key) => {
      const port = new DataView(key.buffer).getUint16(SERVICE_KEY.port);
      return port === 0 ? [] : formatEndpoint(from16Bytes(key.subarray(0, 16)), port);
    }).sort();
  }

  /** The MAC address that it silences. */
  get primary(): Uint8Array {
    const value = new Uint8Array(this.#map("control").info.valueSize);
    this.#map("control").lookup(new Uint8Array(4), value);
    return value.subarray(FENCE_CONTROL.primary_mac, FENCE_CONTROL.primary_mac + 6);
  }

  /** Whether the primary is silenced. */
  get up(): boolean {
    return Atomics.load(this.#since, 0) !== 0n;
  }

  /** For how long it has been up, in milliseconds; 0 while it is down. */
  get age(): number {
    const since = Number(Atomics.load(this.#since, 0));
    return since === 0 ? 0 : monotonicMicros() / 1000 - since / 1e6;
  }

  /** Silences the primary from its next frame on; false where it was silenced before. */
  raise(): boolean {
    if (this.up) return false;
    Atomics.store(this.#since, 0, BigInt(Math.round(monotonicMicros() * 1000)));
    return true;
  }

  /** Lets the primary speak again; false where it may already. */
  lower(): boolean {
    if (!this.up) return false;
    Atomics.store(this.#since, 0, 0n);
    return true;
  }

  /** The counters by name. */
  get counters(): Record<string, number> {
    const sums = this.#map("counters").sums();
    return Object.fromEntries(fenceCounters.map((name, index) => [name, sums[index] ?? 0]));
  }

  /**
   * Attaches the program again where it is missing: the interface was made anew, or someone has detached it. Returns
   * whether it was; where there is no such interface, nothing happens.
   *
   * @throws {SystemError}
   */
  repair(): boolean {
    const ifindex = interfaceIndex(this.interface);
    if (ifindex === 0 || ingressPrograms(ifindex).includes(this.program)) return false;
    attachIngress(ifindex, this.#program);
    return true;
  }

  /** Detaches the program. */
  remove(): void {
    const ifindex = interfaceIndex(this.interface);
    if (ifindex !== 0) detachIngress(ifindex, this.#program);
  }

  /** Closes the descriptors. */
  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    disposeParts(this.#parts);
  }

  get #program(): BpfProgram {
    return this.#parts.programs.get(PROGRAM)!;
  }

  #map(name: string): BpfMap {
    return this.#parts.maps.get(name)!;
  }

  #attach(): void {
    try {
      attachIngress(interfaceIndex(this.interface), this.#program);
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== "EINVAL") throw error;
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `The kernel takes no program at interface "${this.interface}"`,
        { mend: "run Linux 6.6 or newer", cause: error },
      );
    }
  }

  /** The keys of the services, each in a buffer of its own. */
  #keys(): Uint8Array<ArrayBuffer>[] {
    const { keys, count } = this.#map("services").entries();
    const { size } = SERVICE_KEY;
    return Array.from({ length: count }, (_, i) => keys.slice(i * size, (i + 1) * size));
  }

  #isFor({ primary, services }: FenceSetup): boolean {
    if (formatMac(this.primary) !== formatMac(primary)) return false;
    const wanted = serviceKeys(services).map(String);
    const known = this.#keys().map(String);
    return wanted.length === known.length && wanted.every((key) => known.includes(key));
  }
}
