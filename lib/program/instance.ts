/**
 * A command's BPF programs at an interface: loaded and pinned by the first start, adopted by later ones.
 *
 * @module
 */
import { basename, join } from "node:path";
import { BpfMap } from "../../ffi/bpf_map.ts";
import { type BpfParts, BpfProgram, disposeParts, openAttached } from "../../ffi/bpf_object.ts";
import { SystemError } from "../../ffi/errno.ts";
import { attach, attachedProgram, detach, type Direction, interfaceIndex } from "../../ffi/tc.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { etherInterfaces, hasIngressQdisc, removeEmptyClsact } from "../host/links.ts";
import { loadPrograms } from "./load.ts";
import { detachByName } from "./lost.ts";
import { clearPins, makePinDir, names, pinDir, removePinDir } from "./run_dir.ts";

/** Which programs a command has. */
export interface InstanceKind {
  /** The command, and its pins' directory. */
  readonly name: string;
  /** File name of the built object. */
  readonly object: string;
  /** The map sizes that this version of t2cp knows, bytes of a value. */
  readonly valueSizes: Readonly<Record<string, number>>;
  /** Whether the egress program goes to every other Ethernet interface, too. */
  readonly everywhere: boolean;
  /** Further programs, which the command attaches itself; none unless given. */
  readonly programs?: readonly string[];
}

/** Where a program is to be. */
interface Place {
  ifindex: number;
  interface: string;
  direction: Direction;
}

/** Egress first: it keeps the host silent before anything feeds the replica. */
const directions: readonly Direction[] = ["egress", "ingress"];

/** The programs and maps of a command. Disposing of it leaves what is attached and pinned in place. */
export class Instance implements Disposable {
  /** Whether the programs of an earlier start were found. */
  readonly adopted: boolean;
  /** The interface that has both programs. */
  readonly interface: string;
  readonly #parts: BpfParts;
  readonly #kind: InstanceKind;
  readonly #runDir: string;

  private constructor(
    kind: InstanceKind,
    runDir: string,
    interfaceName: string,
    parts: BpfParts,
    adopted: boolean,
  ) {
    this.#kind = kind;
    this.#runDir = runDir;
    this.interface = interfaceName;
    this.#parts = parts;
    this.adopted = adopted;
  }

  /**
   * Adopts the programs of command `kind` that are pinned, or with `reclaim` those that are attached and lost their
   * pins, or loads and pins them; then calls `prepare`, which fills the maps, and attaches what is not attached yet.
   * Where anything fails, nothing new stays behind.
   *
   * @throws {Failure} where the interface is none that can carry them, or carries those of another run directory
   */
  static open(
    kind: InstanceKind,
    runDir: string,
    interfaceName: string,
    reclaim: boolean,
    prepare: (instance: Instance) => void,
  ): Instance {
    requireClsact(interfaceName);
    let parts: BpfParts | undefined;
    let adopted = false;
    const attachedNow: Place[] = [];
    try {
      const dir = makePinDir(runDir, kind.name);
      parts = findParts(kind, dir, interfaceName, reclaim);
      adopted = parts !== undefined;
      if (parts === undefined) {
        // A start that was killed while it pinned has attached nothing yet.
        clearPins(dir);
        // Of what lost its pins, the further programs are at no interface to be found.
        if (reclaim && kind.programs !== undefined) {
          for (const direction of directions) detachByName(direction, programName(kind, direction));
        }
        parts = loadPrograms(kind);
      }
      requireSizes(kind, parts.maps);
      const instance = new Instance(kind, runDir, interfaceName, parts, adopted);
      for (const place of instance.#places()) instance.#requireOwn(place);
      prepare(instance);
      instance.#pin(dir);
      for (const place of instance.#places()) {
        if (attachedProgram(place.ifindex, place.direction) !== undefined) continue;
        instance.#attach(place);
        attachedNow.push(place);
      }
      return instance;
    } catch (error) {
      for (const place of attachedNow) {
        detach(place.ifindex, place.direction);
        removeEmptyClsact(place.interface);
      }
      if (parts !== undefined) disposeParts(parts);
      if (!adopted) removePinDir(runDir, kind.name);
      throw error;
    }
  }

  /**
   * What an earlier start of command `kind` left, of whatever version and wherever it is attached; undefined where it
   * left nothing.
   */
  static find(kind: InstanceKind, runDir: string, interfaceName: string): Instance | undefined {
    const parts = findParts(kind, pinDir(runDir, kind.name), interfaceName, true);
    return parts === undefined ? undefined : new Instance(kind, runDir, interfaceName, parts, true);
  }

  /** The further program `name` of the kind. */
  program(name: string): BpfProgram {
    const program = this.#parts.programs.get(name);
    if (program !== undefined) return program;
    throw new TypeError(`Object "${this.#kind.object}" has no program "${name}"`);
  }

  /** Pins `part` beside the programs and maps, in the place of what has that name. */
  pinBeside(name: string, part: { pin(path: string): void }): void {
    const dir = pinDir(this.#runDir, this.#kind.name);
    if (names(dir).includes(name)) Deno.removeSync(join(dir, name));
    part.pin(join(dir, name));
  }

  /** The map `name`. */
  map(name: string): BpfMap {
    const map = this.#parts.maps.get(name);
    if (map === undefined) {
      throw new TypeError(`Object "${this.#kind.object}" has no map "${name}"`);
    }
    return map;
  }

  /**
   * Attaches again what someone has detached, or what new interfaces need. Returns the names of their interfaces.
   *
   * @throws {Failure} where a place is taken
   */
  repair(): string[] {
    const repaired: string[] = [];
    for (const place of this.#places()) {
      if (attachedProgram(place.ifindex, place.direction) !== undefined) continue;
      this.#attach(place);
      repaired.push(`${place.direction} of ${place.interface}`);
    }
    return repaired;
  }

  /** Detaches the programs and removes their pins; ingress first, so that egress keeps silence to the end. */
  clear(): void {
    // An interface may have got another name since.
    const interfaces = etherInterfaces();
    for (const direction of directions.toReversed()) {
      const { id } = this.#program(direction);
      for (const name of interfaces) {
        const ifindex = interfaceIndex(name);
        if (ifindex === 0 || attachedProgram(ifindex, direction) !== id) continue;
        detach(ifindex, direction);
        if (direction === "egress") removeEmptyClsact(name);
      }
    }
    removePinDir(this.#runDir, this.#kind.name);
  }

  /** Closes the descriptors. */
  [Symbol.dispose](): void {
    disposeParts(this.#parts);
  }

  /** The places of the programs as the interfaces are now; those that have gone are left out. */
  #places(): Place[] {
    const places: Place[] = [];
    const ifindex = interfaceIndex(this.interface);
    for (const direction of ifindex === 0 ? [] : directions) {
      places.push({ ifindex, interface: this.interface, direction });
    }
    if (!this.#kind.everywhere) return places;
    const others = etherInterfaces().filter((name) => name !== this.interface).flatMap((name) => {
      const ifindex = interfaceIndex(name);
      return ifindex === 0 ? [] : [{ ifindex, interface: name, direction: "egress" as const }];
    });
    return [...others, ...places];
  }

  #program(direction: Direction): BpfProgram {
    return this.#parts.programs.get(programName(this.#kind, direction))!;
  }

  #attach({ ifindex, interface: name, direction }: Place): void {
    try {
      attach(ifindex, direction, this.#program(direction));
    } catch (error) {
      // EINVAL where the other filter is of one protocol alone.
      const taken = error instanceof SystemError && ["EEXIST", "EINVAL"].includes(error.code);
      if (!taken) throw error;
      throw new Failure(
        ExitStatus.UNAVAILABLE,
        `Another filter has priority 1 at ${direction} of interface "${name}", which t2cp needs`,
        {
          mend: `give it another priority, or remove it: tc filter del dev ${name} ${direction} ` +
            `pref 1`,
          cause: error,
        },
      );
    }
  }

  /** Pins what is not pinned yet; the last pin makes the set complete. */
  #pin(dir: string): void {
    const pinned = new Set(names(dir));
    for (const [name, part] of [...this.#parts.maps, ...this.#parts.programs]) {
      if (!pinned.has(name)) part.pin(join(dir, name));
    }
  }

  #requireOwn({ ifindex, interface: name, direction }: Place): void {
    const id = attachedProgram(ifindex, direction);
    if (id === undefined || id === this.#program(direction).id) return;
    throw new Failure(
      ExitStatus.UNAVAILABLE,
      `Interface "${name}" carries the t2cp programs of another run directory or command`,
      {
        mend: `stop that command (for a shadow: t2cp shadow --clear with its --run-dir), or see ` +
          `tc filter show dev ${name} ${direction}`,
      },
    );
  }
}

/**
 * The maps of command `kind` that are pinned; undefined where they are not all there. The caller disposes of them.
 *
 * @throws {Failure} with status UNAVAILABLE where another version of t2cp made them
 */
export function openPinnedMaps(
  kind: InstanceKind,
  runDir: string,
): Map<string, BpfMap> | undefined {
  const dir = pinDir(runDir, kind.name);
  if (!isComplete(kind, dir)) return undefined;
  const maps = new Map<string, BpfMap>();
  try {
    for (const name of Object.keys(kind.valueSizes)) {
      maps.set(name, BpfMap.openPinned(join(dir, name)));
    }
    requireSizes(kind, maps);
    return maps;
  } catch (error) {
    for (const map of maps.values()) map[Symbol.dispose]();
    throw error;
  }
}

/** Whether `map` of command `kind` is the one that is pinned under `runDir`, rather than one of an earlier start. */
export function isPinned(kind: InstanceKind, runDir: string, map: BpfMap): boolean {
  try {
    using pinned = BpfMap.openPinned(join(pinDir(runDir, kind.name), basename(map.name)));
    return pinned.info.id === map.info.id;
  } catch {
    return false;
  }
}

/** The index of interface `name`. @throws {Failure} with status NO_INPUT where there is none */
export function requireInterface(name: string): number {
  const ifindex = interfaceIndex(name);
  if (ifindex !== 0) return ifindex;
  throw new Failure(ExitStatus.NO_INPUT, `There is no interface "${name}" on this host`, {
    mend: `"ip link" lists those that are there`,
  });
}

/**
 * Refuses an interface that does not carry Ethernet frames, which the programs read.
 *
 * @throws {Failure} with status NO_INPUT where there is no interface `name`, UNAVAILABLE where it is another kind
 */
export function requireEthernet(name: string): void {
  requireInterface(name);
  if (etherInterfaces().includes(name)) return;
  throw new Failure(ExitStatus.UNAVAILABLE, `Interface "${name}" is no Ethernet interface`, {
    mend: "name one that carries Ethernet frames",
  });
}

/** Besides Ethernet frames, the programs need clsact. */
function requireClsact(name: string): void {
  requireEthernet(name);
  if (hasIngressQdisc(name)) {
    throw new Failure(
      ExitStatus.UNAVAILABLE,
      `Interface "${name}" has an ingress qdisc, which leaves no room for clsact`,
      { mend: `tc qdisc del dev ${name} ingress` },
    );
  }
}

function programName(kind: InstanceKind, direction: Direction): string {
  return `${kind.name}_${direction}`;
}

/** All programs of `kind`. */
function programNames(kind: InstanceKind): string[] {
  const atInterfaces = directions.map((direction) => programName(kind, direction));
  return [...atInterfaces, ...kind.programs ?? []];
}

function isComplete(kind: InstanceKind, dir: string): boolean {
  const pinned = new Set(names(dir));
  return [...Object.keys(kind.valueSizes), ...programNames(kind)].every((name) => pinned.has(name));
}

/**
 * What an earlier start left: its pins, or where those are lost, as with the mount namespace that `ip netns exec`
 * makes, the programs that the interface carries.
 */
function findParts(
  kind: InstanceKind,
  dir: string,
  interfaceName: string,
  reclaim: boolean,
): BpfParts | undefined {
  if (isComplete(kind, dir)) return openPins(kind, dir);
  return reclaim ? openLost(kind, interfaceName) : undefined;
}

function openPins(kind: InstanceKind, dir: string): BpfParts {
  const parts: BpfParts = { programs: new Map(), maps: new Map() };
  try {
    for (const name of programNames(kind)) {
      parts.programs.set(name, BpfProgram.openPinned(join(dir, name)));
    }
    for (const name of Object.keys(kind.valueSizes)) {
      parts.maps.set(name, BpfMap.openPinned(join(dir, name)));
    }
    return parts;
  } catch (error) {
    disposeParts(parts);
    throw error;
  }
}

function openLost(kind: InstanceKind, interfaceName: string): BpfParts | undefined {
  const ifindex = interfaceIndex(interfaceName);
  const ids = directions.map((direction) => attachedProgram(ifindex, direction));
  if (ids.some((id) => id === undefined)) return undefined;
  const parts = openAttached(ids as number[]);
  const complete = programNames(kind).every((name) => parts.programs.has(name)) &&
    Object.keys(kind.valueSizes).every((name) => parts.maps.has(name));
  if (complete) return parts;
  disposeParts(parts);
  return undefined;
}

function requireSizes(kind: InstanceKind, maps: ReadonlyMap<string, BpfMap>): void {
  for (const [name, valueSize] of Object.entries(kind.valueSizes)) {
    const map = maps.get(name);
    if (map === undefined || map.info.valueSize === valueSize) continue;
    throw new Failure(
      ExitStatus.UNAVAILABLE,
      `Map "${name}" of t2cp ${kind.name} was made by another version of t2cp`,
      { mend: `take it down with that version's t2cp ${kind.name}` },
    );
  }
}
