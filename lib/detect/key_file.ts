/**
 * The file that a BFD key is read from.
 *
 * @module
 */
import { type AuthTypeName, longestKey } from "../bfd/authentication.ts";
import { ExitStatus, Failure } from "../failure.ts";

/** Bits of the mode that let anyone but the owner in. */
const OTHERS = 0o077;

/**
 * Reads the key of type `type` from the file at `path`: its bytes, without one line feed at the end.
 *
 * @throws {Failure} where there is no such file, others may read or write it, it is another user's,
 * or the key is empty or too long
 */
export function readKey(path: string, type: AuthTypeName): Uint8Array {
  const shown = `Key file "${path}"`;
  let info: Deno.FileInfo;
  // One byte more than the longest, and its line feed: then it is too long.
  const bytes = new Uint8Array(longestKey(type) + 2);
  let length: number;
  try {
    // Not of a pipe: opening one would wait for its writer.
    if (!Deno.statSync(path).isFile) {
      throw new Failure(ExitStatus.BAD_INPUT, `${shown} is not a regular file`);
    }
    using file = Deno.openSync(path);
    info = file.statSync();
    length = file.readSync(bytes) ?? 0;
  } catch (error) {
    throw explain(error, shown);
  }
  const { mode, uid } = info;
  if (mode !== null && (mode & OTHERS) !== 0) {
    const octal = (mode & 0o7777).toString(8).padStart(4, "0");
    throw new Failure(
      ExitStatus.NO_PERMISSION,
      `${shown} is open to others, its mode is ${octal}`,
      {
        mend: `run "chmod 600 ${path}"`,
      },
    );
  }
  if (uid !== null && uid !== 0 && uid !== Deno.uid()) {
    throw new Failure(ExitStatus.NO_PERMISSION, `${shown} belongs to another user`, {
      mend: `make it root's, or the property of whom this command runs as`,
    });
  }
  if (bytes[length - 1] === 0x0a) length--;
  const longest = longestKey(type);
  if (length < 1 || length > longest) {
    const message = length < 1 ? "is empty" : `has more than ${longest} bytes`;
    throw new Failure(ExitStatus.BAD_INPUT, `${shown} ${message}`, {
      mend: `write a key of 1 to ${longest} bytes into it`,
    });
  }
  return bytes.slice(0, length);
}

function explain(error: unknown, shown: string): unknown {
  if (error instanceof Deno.errors.NotFound) {
    return new Failure(ExitStatus.NO_INPUT, `${shown} does not exist`, { cause: error });
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return new Failure(ExitStatus.NO_PERMISSION, `${shown} cannot be read`, { cause: error });
  }
  return error;
}
