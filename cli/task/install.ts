/**
 * `deno task install` and `deno task uninstall`: makes and removes the links from a prefix's `bin`
 * and `share/man` into this checkout.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { ExitStatus, Failure } from "../../lib/failure.ts";

/** Where a link stands, and what it points to. */
interface Link {
  readonly at: string;
  readonly to: string;
}

const checkout = resolve(import.meta.dirname ?? ".", "../..");

function links(prefix: string): Link[] {
  const pages = [...Deno.readDirSync(join(checkout, "man"))]
    .map((entry) => entry.name)
    .filter((name) => /\.[1-8]$/.test(name))
    .toSorted();
  return [
    { at: join(prefix, "bin", "t2cp"), to: join(checkout, "t2cp") },
    ...pages.map((name) => ({
      at: join(prefix, "share", "man", `man${name.at(-1)}`, name),
      to: join(checkout, "man", name),
    })),
  ];
}

/** What stands at `path`: the target of a link, `"file"` for anything else, nothing. */
function standing(path: string): { link: string } | "file" | undefined {
  try {
    return Deno.lstatSync(path).isSymlink ? { link: Deno.readLinkSync(path) } : "file";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function install(prefix: string): void {
  const wanted = links(prefix);
  for (const { at } of wanted) {
    if (standing(at) !== "file") continue;
    throw new Failure(ExitStatus.OS, `"${at}" exists and is no link`, {
      mend: "move it away or give another --prefix",
    });
  }
  for (const { at, to } of wanted) {
    Deno.mkdirSync(dirname(at), { recursive: true });
    if (standing(at) !== undefined) Deno.removeSync(at);
    Deno.symlinkSync(to, at);
    console.log(`Linked ${at} to ${to}`);
  }
}

function uninstall(prefix: string): void {
  let removed = 0;
  for (const { at, to } of links(prefix)) {
    const found = standing(at);
    if (typeof found !== "object" || found.link !== to) continue;
    Deno.removeSync(at);
    console.log(`Removed ${at}`);
    removed++;
  }
  if (removed === 0) console.log(`Nothing of this checkout is installed in ${prefix}`);
}

function main(args: string[]): void {
  let values: { prefix?: string; remove?: boolean };
  try {
    const options = { prefix: { type: "string" }, remove: { type: "boolean" } } as const;
    values = parseArgs({ args, options }).values;
  } catch (error) {
    throw new Failure(ExitStatus.USAGE, error instanceof Error ? error.message : String(error), {
      mend: `write "deno task install --prefix DIR"`,
    });
  }
  const prefix = resolve(values.prefix ?? "/usr/local");
  try {
    if (values.remove) uninstall(prefix);
    else install(prefix);
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    throw new Failure(ExitStatus.NO_PERMISSION, `Not permitted to change "${prefix}"`, {
      mend: `run as root, or add --prefix "$HOME/.local"`,
      cause: error,
    });
  }
}

try {
  main(Deno.args);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(`t2cp: ${error.line}`);
  Deno.exit(error.status);
}
