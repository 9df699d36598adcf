/**
 * A command's BPF programs at an interface: loaded and pinned by the first start, adopted by later ones.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BpfMap } from "../../ffi/bpf_map.ts";
import { type BpfParts, BpfProgram, disposeParts, loadObject } from "../../ffi/bpf_object.ts";
import { attach, attachedProgram, detach, type Direction, interfaceIndex } from "../../ffi/tc.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { makePinDir, names, pinDir, removePinDir } from "./run_dir.ts";

/** Which programs a command has. */
export interface InstanceKind {
  /** The command, and its pins' directory. */
  readonly name: string;
  /** File name of the built object. */
  readonly object: string;
  /** The map sizes that this version of t2cp knows, bytes of a value. */
  readonly valueSizes: Readonly<Record<string, number>>;
}

const directions: readonly Direction[] = ["egress", "ingress"];

/** The programs and maps of a command. Disposing of it leaves what is attached and pinned in place. */
export class Instance implements Disposable {
  /** Whether the pins of an earlier start were found. */
  readonly adopted: boolean;
  /** The interface's index. */
  readonly ifindex: number;
  readonly #parts: BpfParts;
  readonly #kind: InstanceKind;
  readonly #runDir: string;

  private constructor(
    kind: InstanceKind,
    runDir: string,
    ifindex: number,
    parts: BpfParts,
    adopted: boolean,
  ) {
    this.#kind = kind;
    this.#runDir = runDir;
    this.ifindex = ifindex;
    this.#parts = parts;
    this.adopted = adopted;
  }

  /**
   * Adopts the pinned programs of command `kind`, or loads and pins them; then calls `prepare`, which fills the maps,
   * and attaches what is not attached yet. Where anything fails, nothing new stays behind.
   *
   * @throws {Failure} where the interface does not exist, or carries the programs of another run directory
   */
  static open(
    kind: InstanceKind,
    runDir: string,
    interfaceName: string,
    prepare: (instance: Instance) => void,
  ): Instance {
    const ifindex = requireInterface(interfaceName);
    const dir = makePinDir(runDir, kind.name);
    const adopted = names(dir).length > 0;
    let parts: BpfParts = { programs: new Map(), maps: new Map() };
    const attachedNow: Direction[] = [];
    try {
      parts = adopted ? openPins(kind, dir) : loadObject(objectPath(kind));
      const instance = new Instance(kind, runDir, ifindex, parts, adopted);
      for (const direction of directions) instance.#requireOwn(direction, interfaceName);
      prepare(instance);
      if (!adopted) {
        for (const [name, part] of [...parts.programs, ...parts.maps]) part.pin(join(dir, name));
      }
      for (const direction of directions) {
        if (attachedProgram(ifindex, direction) !== undefined) continue;
        attach(ifindex, direction, instance.#program(direction));
        attachedNow.push(direction);
      }
      return instance;
    } catch (error) {
      for (const direction of attachedNow) detach(ifindex, direction);
      disposeParts(parts);
      if (!adopted) removePinDir(runDir, kind.name);
      throw error;
    }
  }

  /** The map `name`. */
  map(name: string): BpfMap {
    const map = this.#parts.maps.get(name);
    if (map === undefined) {
      throw new TypeError(`Object "${this.#kind.object}" has no map "${name}"`);
    }
    return map;
  }

  /** Detaches the programs and removes their pins. */
  clear(): void {
    // Ingress first: without it nothing feeds the replica, while egress keeps it silent to the end.
    for (const direction of directions.toReversed()) {
      if (attachedProgram(this.ifindex, direction) === this.#program(direction).id) {
        detach(this.ifindex, direction);
      }
    }
    removePinDir(this.#runDir, this.#kind.name);
  }

  /** Closes the descriptors. */
  [Symbol.dispose](): void {
    disposeParts(this.#parts);
  }

  #program(direction: Direction): BpfProgram {
    const program = this.#parts.programs.get(`${this.#kind.name}_${direction}`);
    if (program === undefined) {
      throw new TypeError(`Object "${this.#kind.object}" has no ${direction} program`);
    }
    return program;
  }

  #requireOwn(direction: Direction, interfaceName: string): void {
    const id = attachedProgram(this.ifindex, direction);
    if (id === undefined || id === this.#program(direction).id) return;
    throw new Failure(
      ExitStatus.UNAVAILABLE,
      `Interface "${interfaceName}" carries the t2cp programs of another run directory or command`,
      {
        mend: `stop that command (for a shadow: t2cp shadow --clear with its --run-dir), or see ` +
          `tc filter show dev ${interfaceName} ${direction}`,
      },
    );
  }
}

/**
 * The pinned maps of command `kind`; undefined where it has none. The caller disposes of them.
 *
 * @throws {Failure} with status UNAVAILABLE where another version of t2cp made them
 */
export function openPinnedMaps(
  kind: InstanceKind,
  runDir: string,
): Map<string, BpfMap> | undefined {
  const dir = pinDir(runDir, kind.name);
  if (names(dir).length === 0) return undefined;
  return openMaps(kind, dir);
}

/** The index of interface `name`. @throws {Failure} with status NO_INPUT where there is none */
export function requireInterface(name: string): number {
  const ifindex = interfaceIndex(name);
  if (ifindex !== 0) return ifindex;
  throw new Failure(ExitStatus.NO_INPUT, `There is no interface "${name}" on this host`, {
    mend: `"ip link" lists those that are there`,
  });
}

function objectPath(kind: InstanceKind): string {
  return fileURLToPath(new URL(`../../ffi/bpf/built/${kind.object}`, import.meta.url));
}

function openPins(kind: InstanceKind, dir: string): BpfParts {
  const parts: BpfParts = { programs: new Map(), maps: openMaps(kind, dir) };
  try {
    for (const direction of directions) {
      const name = `${kind.name}_${direction}`;
      parts.programs.set(name, BpfProgram.openPinned(join(dir, name)));
    }
    return parts;
  } catch (error) {
    disposeParts(parts);
    throw error;
  }
}

function openMaps(kind: InstanceKind, dir: string): Map<string, BpfMap> {
  const maps = new Map<string, BpfMap>();
  try {
    for (const [name, valueSize] of Object.entries(kind.valueSizes)) {
      const map = BpfMap.openPinned(join(dir, name));
      maps.set(name, map);
      if (map.info.valueSize !== valueSize) {
        throw new Failure(
          ExitStatus.UNAVAILABLE,
          `Map "${map.name}" was pinned by another version of t2cp`,
          { mend: `take it down with that version's t2cp ${kind.name}` },
        );
      }
    }
    return maps;
  } catch (error) {
    for (const map of maps.values()) map[Symbol.dispose]();
    throw error;
  }
}
