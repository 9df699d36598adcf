/**
 * Opening shared libraries, with an error that says which package has the missing one.
 *
 * @module
 */

/** A shared library that this host lacks. */
export class MissingLibrary extends Error {
  /** Debian's package that brings the library. */
  readonly package: string;

  /** `library` is its file name. */
  constructor(library: string, debianPackage: string, cause: unknown) {
    super(`Library "${library}" cannot be opened`, { cause });
    this.name = "MissingLibrary";
    this.package = debianPackage;
  }
}

/**
 * Opens shared library `name`, which Debian's package `debianPackage` brings.
 *
 * @throws {MissingLibrary}
 */
export function openLibrary<const S extends Deno.ForeignLibraryInterface>(
  name: string,
  debianPackage: string,
  symbols: S,
): Deno.DynamicLibrary<S> {
  try {
    return Deno.dlopen(name, symbols);
  } catch (error) {
    throw new MissingLibrary(name, debianPackage, error);
  }
}
