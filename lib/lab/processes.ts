/**
 * Starts the processes of a lab, each on its host.
 *
 * @module
 */

/**
 * The search path for what runs in a lab: this checkout first, so that `t2cp` is its launcher, then
 * the directory of the running Deno, which the launcher needs.
 */
export function commandPath(): string {
  const checkout = decodeURIComponent(new URL("../..", import.meta.url).pathname).replace(
    /\/$/,
    "",
  );
  const runtime = Deno.execPath().replace(/\/[^/]*$/, "");
  return [checkout, runtime, Deno.env.get("PATH") ?? "/usr/sbin:/usr/bin:/sbin:/bin"].join(":");
}
