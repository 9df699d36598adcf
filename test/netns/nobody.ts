/**
 * Running t2cp in a mount namespace of its own, and as nobody.
 *
 * @module
 */
import { dirname } from "node:path";
import { checkout } from "../cli/t2cp.ts";
import type { Stage } from "./stage.ts";

/** A script that runs t2cp with `args` in a mount namespace of its own, after `prepare`. */
export function prepared(prepare: string, run: string): string {
  return `exec unshare --mount bash -ec '${prepare}\n${run}'`;
}

/** Runs t2cp as nobody, to whom Deno and the checkout are shown by other paths. */
export async function asNobody(stage: Stage, role: "backup" | "gateway", args: string[]) {
  const view = `${stage.scratch}/view`;
  const info = new Deno.Command(Deno.execPath(), { args: ["info", "--json"] });
  const { denoDir } = JSON.parse(new TextDecoder().decode((await info.output()).stdout));
  const bin = dirname(await Deno.realPath(Deno.execPath()));
  const prepare = `
    chmod 755 ${stage.scratch}
    mkdir -p ${view}/cache ${view}/bin ${view}/checkout
    mount --bind ${denoDir} ${view}/cache
    mount --bind ${bin} ${view}/bin
    mount --bind ${checkout} ${view}/checkout
    cd /`;
  const run = `exec env DENO_DIR=${view}/cache HOME=/nonexistent PATH=$PATH ` +
    `setpriv --reuid=65534 --regid=65534 --clear-groups ` +
    `${view}/bin/deno run -A --quiet ${view}/checkout/cli/main.ts ${args.join(" ")}`;
  return await stage.shell(role, prepared(prepare, run));
}
