/**
 * What `--probe` says: whom to ask and how, and in which rhythm.
 *
 * @module
 */
import { familyOf, formatEndpoint, parseAddress, parsePort } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** When a probe asks, and what its answers mean. */
export interface Rhythm {
  /** From the begin of one attempt to that of the next, microseconds. */
  readonly interval: number;
  /** How long an attempt may take, microseconds, `interval` at most. */
  readonly timeout: number;
  /** Good attempts in a row that bring a dead service back, 1 to 255. */
  readonly rise: number;
  /** Failed attempts in a row that make a service dead, 1 to 255. */
  readonly fall: number;
}

/** Opens a TCP connection. */
export interface TcpProbe {
  /** The scheme. */
  readonly kind: "tcp";
  /** Whom it asks. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** Makes a request by HTTP. */
export interface HttpProbe {
  /** The scheme. */
  readonly kind: "http";
  /** Whom it asks. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
  /** Path and query, as they go over the wire. */
  readonly path: string;
  /** The request's Host. */
  readonly host: string;
  /** The least and the greatest status code that is good. */
  readonly status: readonly [least: number, greatest: number];
  /** What the body must contain; anything where undefined. */
  readonly match: string | undefined;
}

/** Runs a shell command. */
export interface ExecProbe {
  /** The scheme. */
  readonly kind: "exec";
  /** For `sh -c`. */
  readonly command: string;
}

/** Sends an ICMP echo request. */
export interface IcmpProbe {
  /** The scheme. */
  readonly kind: "icmp";
  /** Whom it asks; link-local addresses with a zone. */
  readonly address: string;
}

/** A probe as it was asked for. */
export type ProbeSpec = Rhythm & {
  /** What the events call it: the text without its options. */
  readonly name: string;
} & (TcpProbe | HttpProbe | ExecProbe | IcmpProbe);

/** Where nothing is said. Milliseconds, as the options have it. */
const DEFAULTS = { interval: 1000, rise: 2, fall: 3, status: "200-399" } as const;

const INTERVALS = { least: 10, greatest: 3_600_000 } as const;

/** Each start of a process takes a millisecond of the one thread that the heartbeats need, too. */
const LEAST_EXEC_INTERVAL = 100;

const COMMON = ["interval", "timeout", "rise", "fall"];
const OPTIONS: Readonly<Record<ProbeSpec["kind"], readonly string[]>> = {
  tcp: COMMON,
  http: [...COMMON, "status", "match", "host"],
  exec: COMMON,
  icmp: COMMON,
};

function refuse(message: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, message, { mend });
}

/**
 * Reads `KIND:WHOM[,OPTION=VALUE]…`, such as `http://10.0.0.1/health,interval=200,match=ok`. The options begin at the
 * first comma that has the name of one and an equals sign behind it, so that commands, paths and texts to match may have
 * commas of their own.
 *
 * @throws {Failure} with status USAGE
 */
export function parseProbe(text: string): ProbeSpec {
  const kind = /^([a-z]+):/.exec(text)?.[1];
  if (kind === undefined || !Object.hasOwn(OPTIONS, kind)) {
    const mend = kind === "https"
      ? `write "exec:curl -fsS ${text}"`
      : `write one such as "tcp://10.0.0.1:80", "http://10.0.0.1/", "icmp:10.0.0.1" or "exec:COMMAND"`;
    refuse(`"${text}" is not a probe`, mend);
  }
  const known = OPTIONS[kind as ProbeSpec["kind"]];
  const [name = "", ...rest] = text.split(new RegExp(`,(?=(?:${known.join("|")})=)`));
  const options = readOptions(rest, text);
  const { interval } = options;
  if (kind === "exec" && interval < LEAST_EXEC_INTERVAL * 1000) {
    refuse(
      `Interval ${interval / 1000} of probe "${text}" is too short to start processes`,
      `give ${LEAST_EXEC_INTERVAL} or more`,
    );
  }
  const { status, match, host, ...rhythm } = options;
  const common = { ...rhythm, name };
  switch (kind) {
    case "tcp":
      return { ...common, kind, ...parseTcp(name) };
    case "http":
      return { ...common, kind, ...parseHttp(name, host), status, match };
    case "exec":
      return { ...common, kind, command: parseCommand(name) };
    default:
      return { ...common, kind: "icmp", address: parseTarget(name) };
  }
}

interface Options extends Rhythm {
  status: [number, number];
  match: string | undefined;
  host: string | undefined;
}

function readOptions(items: readonly string[], text: string): Options {
  const values = new Map<string, string>();
  for (const item of items) {
    const at = item.indexOf("=");
    const key = item.slice(0, at);
    if (values.has(key)) refuse(`Probe "${text}" has "${key}" twice`, "leave one out");
    values.set(key, item.slice(at + 1));
  }
  const number = (key: string, least: number, greatest: number, otherwise: number): number => {
    const given = values.get(key);
    if (given === undefined) return otherwise;
    const value = /^[0-9]{1,9}$/.test(given) ? Number(given) : NaN;
    if (!(value >= least && value <= greatest)) {
      const mend = `write a whole number from ${least} to ${greatest}`;
      refuse(`Option "${key}=${given}" of a probe is out of range`, mend);
    }
    return value;
  };
  const interval = number("interval", INTERVALS.least, INTERVALS.greatest, DEFAULTS.interval);
  return {
    interval: interval * 1000,
    timeout: number("timeout", 1, interval, interval) * 1000,
    rise: number("rise", 1, 255, DEFAULTS.rise),
    fall: number("fall", 1, 255, DEFAULTS.fall),
    status: parseStatus(values.get("status") ?? DEFAULTS.status),
    match: parseMatch(values.get("match")),
    host: values.get("host"),
  };
}

function parseTcp(name: string): { address: string; port: number } {
  const [, host, port] = /^tcp:\/\/(\[[^\]]*\]|[^:/[\]]*):([0-9]+)\/?$/.exec(name) ?? [];
  if (host === undefined) {
    refuse(`Probe "${name}" is not an address and a port`, `write one such as "tcp://10.0.0.1:80"`);
  }
  return { address: addressOf(host, name), port: parsePort(port!) };
}

function parseHttp(
  name: string,
  givenHost: string | undefined,
): { address: string; port: number; path: string; host: string } {
  const [, authority, rest] = /^http:\/\/([^/?#]+)([^#]*)$/.exec(name) ?? [];
  const [, host, , port] = /^(\[[^\]]*\]|[^:@[\]]*)(:([0-9]+))?$/.exec(authority ?? "") ?? [];
  if (host === undefined) {
    refuse(`Probe "${name}" has no address`, `write one such as "http://10.0.0.1:8080/health"`);
  }
  const address = addressOf(host, name);
  const path = rest!.startsWith("/") ? rest! : `/${rest}`;
  if (!/^[\x21-\x7e]*$/.test(path)) {
    refuse(`Probe "${name}" has a character that no path has`, `write it as "%20" and the like`);
  }
  const number = port === undefined ? 80 : parsePort(port);
  const own = formatEndpoint(address, number).replace(/:80$/, "");
  if (givenHost !== undefined && !/^[\x21-\x7e]+$/.test(givenHost)) {
    refuse(`"${givenHost}" is not a host`, `write one such as "www.example.org"`);
  }
  return { address, port: number, path, host: givenHost ?? own };
}

/** A name would let the verdict depend on the name server. */
function addressOf(host: string, name: string): string {
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  if (familyOf(bare) === undefined || (familyOf(bare) === 6) !== host.startsWith("[")) {
    refuse(
      `Probe "${name}" names no IP address`,
      `write the address, IPv6 in brackets; where a server needs its name, add ",host=NAME"`,
    );
  }
  return parseAddress(bare);
}

function parseTarget(name: string): string {
  const [, address = "", zone] = /^icmp:([^%]*)(%[^\s/%]{1,15})?$/.exec(name) ?? [];
  if (zone === undefined) return parseAddress(address);
  const plain = parseAddress(address);
  if (/^fe[89ab].:/.test(plain)) return `${plain}${zone}`;
  return refuse(`Only link-local addresses have a zone, not "${name}"`, `write "icmp:${plain}"`);
}

function parseCommand(name: string): string {
  const command = name.slice("exec:".length);
  if (command.trim() === "" || command.includes("\0")) {
    refuse(`Probe "${name}" has no command`, `write one such as "exec:test -e /run/ok"`);
  }
  return command;
}

function parseStatus(text: string): [number, number] {
  const [, least, greatest = least] = /^([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?$/.exec(text) ?? [];
  if (least === undefined || least > greatest!) {
    refuse(`"${text}" is not an HTTP status`, `write one such as "200" or "200-299"`);
  }
  return [Number(least), Number(greatest)];
}

function parseMatch(text: string | undefined): string | undefined {
  // A regular expression could take its time over a hostile body, and with it that of the heartbeats.
  if (text === "") refuse('Option "match" of a probe is empty', `write one such as "match=ok"`);
  return text;
}
