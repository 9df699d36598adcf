/**
 * Flags that several commands share, and the parsers of flag values.
 *
 * @module
 */
import type { Service } from "../../lib/address.ts";
import { isMac, parseAddress, parseService } from "../../lib/address.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";

/** The directory of control sockets, pins and locks unless `--run-dir` says otherwise. */
export const DEFAULT_RUN_DIR = "/run/t2cp";

/** A flag that takes one value; what {@linkcode https://bloomberg.github.io/stricli | stricli} calls a parsed flag. */
export interface ValueFlag<T> {
  /** Stricli's name for a flag with a value. */
  readonly kind: "parsed";
  /** Makes the value of the text. */
  readonly parse: (text: string) => T;
  /** One line of help. */
  readonly brief: string;
  /** What the help calls the value. */
  readonly placeholder: string;
}

/** `--run-dir D`, with its default. */
export const runDirFlag: ValueFlag<string> & { readonly default: string } = {
  kind: "parsed",
  parse: parsePath,
  brief: "Directory of control sockets and pinned programs",
  placeholder: "DIR",
  default: DEFAULT_RUN_DIR,
};

/** `--service S`, once or more. */
export const serviceFlag: ValueFlag<Service> & { readonly variadic: true } = {
  kind: "parsed",
  parse: parseService,
  brief: "Service as ADDRESS:PORT, IPv6 in brackets; may be repeated",
  placeholder: "SERVICE",
  variadic: true,
};

/** `--stats SECONDS`. */
export const statsFlag: ValueFlag<number> & { readonly optional: true } = {
  kind: "parsed",
  parse: parsePositive,
  brief: "Print a stats event every so many seconds",
  placeholder: "SECONDS",
  optional: true,
};

/** `--strict` of commands that read events. */
export const strictFlag = {
  kind: "boolean",
  brief: "End at an input line that is no event",
  default: false,
  withNegated: false,
} as const;

/** `--target NAME` of commands that act on events, once or more. */
export const targetFlag: ValueFlag<string> & { readonly variadic: true; readonly optional: true } =
  {
    kind: "parsed",
    parse: parseName,
    brief: "Name of the watched host whose events count, all unless given; may be repeated",
    placeholder: "NAME",
    variadic: true,
    optional: true,
  };

function refuse(text: string, what: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, `"${text}" is not ${what}`, { mend });
}

/**
 * A file name or directory; not empty.
 *
 * @throws {Failure} with status USAGE
 */
export function parsePath(text: string): string {
  if (text === "" || text.includes("\0")) refuse(text, "a path", `write one such as "/run/t2cp"`);
  return text;
}

/**
 * A command for the shell; not empty.
 *
 * @throws {Failure} with status USAGE
 */
export function parseShellCommand(text: string): string {
  if (text.trim() === "") {
    refuse(text, "a command", `write one such as "ipmitool chassis power off"`);
  }
  return text;
}

/**
 * A host by its MAC or IP address.
 *
 * @throws {Failure} with status USAGE
 */
export function parseHost(text: string): string {
  return isMac(text) ? text : parseAddress(text);
}

/**
 * A name for events; not empty.
 *
 * @throws {Failure} with status USAGE
 */
export function parseName(text: string): string {
  if (text === "") refuse(text, "a name", `write one such as "primary"`);
  return text;
}

/**
 * The type of an event, known or not.
 *
 * @throws {Failure} with status USAGE
 */
export function parseType(text: string): string {
  if (!/^[a-z][a-z0-9._-]*$/.test(text)) {
    refuse(text, "the type of an event", `write one such as "failed"`);
  }
  return text;
}

/**
 * The name of a network interface: 1 to 15 bytes, no slash, colon or white space (kernel's
 * `dev_valid_name`). Whether it exists is the command's question.
 *
 * @throws {Failure} with status USAGE
 */
export function parseInterface(text: string): string {
  const length = new TextEncoder().encode(text).length;
  if (length < 1 || length > 15 || /[\s/:\0]/.test(text) || text === "." || text === "..") {
    refuse(text, "the name of a network interface", `"ip link" lists those of this host`);
  }
  return text;
}

/**
 * A number greater than 0, such as a duration or a rate.
 *
 * @throws {Failure} with status USAGE
 */
export function parsePositive(text: string): number {
  const value = /^[0-9]+(\.[0-9]+)?$/.test(text) ? Number(text) : 0;
  if (!(value > 0 && Number.isFinite(value))) {
    refuse(text, "a number greater than 0", `write one such as "1" or "0.5"`);
  }
  return value;
}

/**
 * A parser of whole numbers from `min` to `max`, both included.
 *
 * @throws {Failure} with status USAGE, from the parser
 */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) {
      refuse(text, "a whole number in range", `write one from ${min} to ${max}`);
    }
    return value;
  };
}

const units: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/**
 * A parser of sizes in bytes from `min` to `max`, with the units K, M and G of powers of 1024.
 *
 * @throws {Failure} with status USAGE, from the parser
 */
export function parseSize(min: number, max: number): (text: string) => number {
  return (text) => {
    const [, number, unit = ""] = /^([0-9]{1,15})([KMG]?)$/i.exec(text) ?? [];
    const value = number === undefined ? NaN : Number(number) * units[unit.toUpperCase()]!;
    if (!(value >= min && value <= max)) {
      refuse(text, "a size in range", `write one from ${shortSize(min)} to ${shortSize(max)}`);
    }
    return value;
  };
}

function shortSize(bytes: number): string {
  const [unit, factor] = Object.entries(units).findLast(([, size]) => bytes % size === 0)!;
  return `${bytes / factor}${unit}`;
}
