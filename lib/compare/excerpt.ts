/**
 * Differences as a report shows them.
 *
 * @module
 */
import type { Difference } from "./answer.ts";

const NAMED: Readonly<Record<number, string>> = {
  0x09: "\\t",
  0x0a: "\\n",
  0x0d: "\\r",
  0x5c: "\\\\",
};

/** Bytes as text: printable ASCII as it is, all else as C writes it, so that nothing can move a terminal. */
export function bytesAsText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
    text += plain
      ? String.fromCharCode(byte)
      : NAMED[byte] ?? `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return text;
}

/** Where and how two sides differ, as fields of an event. */
export interface DifferenceFields extends Record<string, unknown> {
  /** The first byte that differs, counted from the begin of what the captured server says. */
  offset: number;
  /** The same of the live one, where the number is another. */
  live_offset?: number;
  /** What stands in front of it, up to 16 bytes. */
  before: string;
  /** What was captured from there on, up to 32 bytes; empty where it ends. */
  expected: string;
  /** What came instead. */
  actual: string;
  /** The first of the three in hexadecimal digits. */
  before_hex: string;
  /** The second. */
  expected_hex: string;
  /** The third. */
  actual_hex: string;
}

/** The fields of a difference in an answer that begins at `captured` and `live` bytes of what the two servers say. */
export function differenceFields(
  { expected, actual }: Difference,
  captured: number,
  live: number,
): DifferenceFields {
  const offset = captured + expected.offset;
  const liveOffset = live + actual.offset;
  return {
    offset,
    ...(liveOffset === offset ? {} : { live_offset: liveOffset }),
    before: bytesAsText(expected.before),
    expected: bytesAsText(expected.after),
    actual: bytesAsText(actual.after),
    before_hex: expected.before.toHex(),
    expected_hex: expected.after.toHex(),
    actual_hex: actual.after.toHex(),
  };
}
