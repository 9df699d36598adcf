/**
 * Quantities as a user writes and reads them.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

function refuse(what: string, text: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, `${what} "${text}" is not valid`, { mend });
}

/**
 * Parses an amount of bytes, `200M`: decimal factors k, M, G and binary ones Ki, Mi, Gi. At least 1
 * byte, at most 100 GB.
 *
 * @throws {Failure} with status USAGE
 */
export function parseSize(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(k|M|G|Ki|Mi|Gi)?B?$/.exec(text);
  const bytes = match === null ? 0 : Math.floor(Number(match[1]) * FACTORS[match[2] ?? ""]!);
  if (bytes >= 1 && bytes <= 100e9) return bytes;
  return refuse("Size", text, 'write an amount of bytes such as "200M" or "64Ki"');
}

/**
 * Parses a rate in MB/s (a million bytes a second), `40`; 0 stands for no limit.
 *
 * @returns bytes a second
 * @throws {Failure} with status USAGE
 */
export function parseRate(text: string): number {
  const value = /^[0-9]+(\.[0-9]+)?$/.test(text) ? Number(text) : NaN;
  if (value === 0 || (value >= 0.1 && value <= 10_000)) return value * 1e6;
  return refuse("Rate", text, 'write MB/s from 0.1 to 10000, such as "40", or 0 for no limit');
}

const BITS: Readonly<Record<string, number>> = { kbit: 1e3, mbit: 1e6, gbit: 1e9 };

/**
 * Parses a link's rate as tc(8) writes it, `1gbit`.
 *
 * @returns bits a second
 * @throws {Failure} with status USAGE
 */
export function parseLinkRate(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(kbit|mbit|gbit)$/.exec(text);
  const bits = match === null ? 0 : Number(match[1]) * BITS[match[2]!]!;
  if (bits >= 1e6 && bits <= 100e9) return bits;
  return refuse("Link rate", text, 'write "1gbit", or between "1mbit" and "100gbit"');
}

/** A point in a transfer: after a share of its bytes (0 to 1), or seconds after its first byte. */
export type Point = { share: number } | { seconds: number };

/**
 * Parses a point in a transfer: `40%`, `1.5s` or `800ms`.
 *
 * @throws {Failure} with status USAGE
 */
export function parsePoint(text: string): Point {
  const match = /^([0-9]+(?:\.[0-9]+)?)(%|s|ms)$/.exec(text);
  const value = Number(match?.[1]);
  if (match?.[2] === "%" && value > 0 && value < 100) return { share: value / 100 };
  if (match?.[2] === "s" && value <= 3600) return { seconds: value };
  if (match?.[2] === "ms" && value <= 3_600_000) return { seconds: value / 1000 };
  return refuse("Point in time", text, 'write a share such as "40%", or a time such as "1.5s"');
}

/**
 * Parses a share, `0.1%`: more than 0 and at most 100 percent.
 *
 * @returns the share, more than 0 and at most 1
 * @throws {Failure} with status USAGE
 */
export function parseShare(text: string): number {
  const percent = Number(/^([0-9]+(?:\.[0-9]+)?)%$/.exec(text)?.[1]);
  if (percent >= 0.0001 && percent <= 100) return percent / 100;
  return refuse("Share", text, 'write a percentage such as "1%" or "0.1%"');
}

/** Formats an amount of bytes with a decimal unit: `200 MB`. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))} ${units[unit]}`;
}

/** Formats milliseconds: `152.3 ms`; undefined and null as a dash. */
export function formatMillis(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "–";
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`;
}
