/**
 * C strings.
 *
 * @module
 */
const encoder = new TextEncoder();

/** `text` as a C string: UTF-8, ended by a zero byte. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(encoder.encode(text).length + 1);
  encoder.encodeInto(text, bytes);
  return bytes;
}

/** The text up to the first zero byte of `bytes`. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
