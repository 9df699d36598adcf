/**
 * Whom conversations are played to.
 *
 * @module
 */
import { type SocketAddress, socketAddress } from "../../ffi/tcp_client.ts";
import { familyOf, formatEndpoint, parseAddress, parsePort, to16Bytes } from "../address.ts";
import type { KnownServer } from "../conversation/roles.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** A host and a port, of which one may be left open. */
export interface PartialEndpoint {
  /** A name or an address, IPv6 without brackets. */
  readonly host?: string;
  /** 1 to 65535. */
  readonly port?: number;
}

/** `--map FROM=TO`. */
export interface Mapping {
  /** The captured server; its host is an address. */
  readonly from: PartialEndpoint;
  /** The live one. */
  readonly to: PartialEndpoint;
}

/** A live server. */
export interface Target {
  /** `address:port`. */
  readonly text: string;
  /** For the kernel. */
  readonly address: SocketAddress;
}

/** The addresses of a host's name. */
export type Lookup = (name: string) => Promise<readonly string[]>;

function refuse(text: string): never {
  throw new Failure(ExitStatus.USAGE, `"${text}" is not a host and a port`, {
    mend: `write one such as "10.0.0.1:80", "[2001:db8::1]:80", "staging:80", "10.0.0.1" or ":80"`,
  });
}

/**
 * Parses a host, a port after a colon, or both: `staging:80`, `[2001:db8::1]`, `:8080`.
 *
 * @throws {Failure} with status USAGE
 */
export function parsePartialEndpoint(text: string): PartialEndpoint {
  if (familyOf(text) === 6) return { host: parseAddress(text) };
  const parts = /^(\[[^\]]*\]|[^:[\]\s=]*)(?::([^:]*))?$/.exec(text);
  const [, name = "", portText] = parts ?? [];
  if (parts === null || name === "" && portText === undefined) refuse(text);
  const port = portText === undefined ? undefined : parsePort(portText);
  if (name === "") return { port };
  const host = name.startsWith("[") || familyOf(name) !== undefined ? parseAddress(name) : name;
  return port === undefined ? { host } : { host, port };
}

/**
 * Parses an address, a port after a colon, or both.
 *
 * @throws {Failure} with status USAGE, also where there is a name
 */
export function parseCapturedEndpoint(text: string): PartialEndpoint {
  const parsed = parsePartialEndpoint(text);
  if (parsed.host !== undefined && familyOf(parsed.host) === undefined) parseAddress(parsed.host);
  return parsed;
}

/**
 * Parses `FROM=TO`.
 *
 * @throws {Failure} with status USAGE
 */
export function parseMapping(text: string): Mapping {
  const at = text.indexOf("=");
  if (at < 0) {
    throw new Failure(ExitStatus.USAGE, `"${text}" is not a mapping`, {
      mend: `write one such as "10.0.0.1:80=staging:8080"`,
    });
  }
  const from = parseCapturedEndpoint(text.slice(0, at));
  return { from, to: parsePartialEndpoint(text.slice(at + 1)) };
}

/** Whether an end of a conversation is the one that is meant. */
export function isEndpoint(wanted: PartialEndpoint, address: string, port: number): boolean {
  return (wanted.host ?? address) === address && (wanted.port ?? port) === port;
}

/** Says of captured servers which live ones stand for them. */
export class Targets {
  readonly #to: PartialEndpoint | undefined;
  readonly #maps: readonly Mapping[];
  /** Addresses of names. */
  readonly #addresses: ReadonlyMap<string, string>;
  readonly #known = new Map<string, Target | undefined>();

  private constructor(
    to: PartialEndpoint | undefined,
    maps: readonly Mapping[],
    addresses: ReadonlyMap<string, string>,
  ) {
    this.#to = to;
    this.#maps = maps;
    this.#addresses = addresses;
  }

  /**
   * All go `to` one server, but those that `maps` mention; of several the one that says most. What neither says of
   * host or port stays as captured. Names are looked up now.
   *
   * @throws {Failure} with status UNAVAILABLE where a name has no address
   */
  static async resolve(
    to: PartialEndpoint | undefined,
    maps: readonly Mapping[],
    lookup: Lookup,
  ): Promise<Targets> {
    const addresses = new Map<string, string>();
    for (const host of [to?.host, ...maps.map((map) => map.to.host)]) {
      if (host === undefined || addresses.has(host)) continue;
      addresses.set(host, familyOf(host) === undefined ? await addressOf(host, lookup) : host);
    }
    const detail = ({ from }: Mapping): number =>
      (from.host === undefined ? 0 : 2) + (from.port === undefined ? 0 : 1);
    const sorted = maps.toSorted((a, b) => detail(b) - detail(a));
    return new Targets(to, sorted, addresses);
  }

  /** Ends that are known to be servers' by what was asked for. */
  get servers(): KnownServer[] {
    const mapped = this.#maps.flatMap(({ from }) =>
      from.port === undefined ? [] : [{ address: from.host, port: from.port }]
    );
    const port = this.#to?.port;
    return port === undefined ? mapped : [...mapped, { port }];
  }

  /** The live server for a captured one; undefined where none was named. */
  of(address: string, port: number): Target | undefined {
    const key = formatEndpoint(address, port);
    if (!this.#known.has(key)) this.#known.set(key, this.#make(address, port));
    return this.#known.get(key);
  }

  #make(address: string, port: number): Target | undefined {
    const map = this.#maps.find(({ from }) => isEndpoint(from, address, port))?.to;
    if (map === undefined && this.#to === undefined) return undefined;
    const host = map?.host ?? this.#to?.host;
    const liveAddress = host === undefined ? address : this.#addresses.get(host)!;
    const livePort = map?.port ?? this.#to?.port ?? port;
    const bytes = to16Bytes(liveAddress);
    return {
      text: formatEndpoint(liveAddress, livePort),
      address: socketAddress(familyOf(liveAddress) === 4 ? bytes.subarray(12) : bytes, livePort),
    };
  }
}

async function addressOf(name: string, lookup: Lookup): Promise<string> {
  let cause: unknown;
  try {
    const [first] = await lookup(name);
    if (first !== undefined) return parseAddress(first);
  } catch (error) {
    cause = error;
  }
  throw new Failure(ExitStatus.UNAVAILABLE, `Host "${name}" has no address`, {
    mend: "check its name, or write its address",
    cause,
  });
}
