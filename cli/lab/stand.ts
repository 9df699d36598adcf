/**
 * The work of `t2cp lab up`, `exec`, `fail`, `down` and `list`: labs that stand for anything one
 * wants to run in them.
 *
 * @module
 */

import { ExitStatus, Failure } from "../../lib/failure.ts";
import { formatTime } from "../../lib/clock.ts";
import { Lab, listLabs, requireRoot, requireUnused, takeDown } from "../../lib/lab/lab.ts";
import { commandPath } from "../../lib/lab/processes.ts";
import { spawn } from "../../lib/lab/system.ts";
import { families } from "../../lib/lab/namespaces.ts";
import {
  addressOf,
  BRIDGE,
  type End,
  LINKS,
  type Role,
  ROLES,
  SERVICE_ADDRESSES,
} from "../../lib/lab/topology.ts";
import { stopSignal } from "../common/context.ts";

/** Flags that all of these commands have. */
export interface LabFlags {
  /** The lab's name. */
  name: string;
  /** The run directory that holds the labs. */
  runDir: string;
}

/** `t2cp lab up`. */
export async function up(flags: LabFlags): Promise<void> {
  const stop = stopSignal();
  const lab = await Lab.create({ ...flags, owned: false }, stop.signal);
  stop.release();
  const option = lab.name === "lab" ? "" : ` --name ${lab.name}`;
  const usable = families();
  const row = (end: End) =>
    [
      ...[end.role.padEnd(9), end.name.padEnd(8), end.mac],
      ...usable.map((family) => (addressOf(end, family) ?? "").padEnd(family === 4 ? 15 : 22)),
    ].join(" ");
  const rows = [
    ...LINKS.map(([host, { name, bridge }]) =>
      row(host) + (bridge === undefined ? "" : ` gateway's port ${name} of ${bridge}`)
    ),
    ...[LINKS[0]![1], BRIDGE].map(row),
  ].map((line) => line.trimEnd());
  const service = usable.map((family) => SERVICE_ADDRESSES[family]).join(" and ");
  console.log(`Lab "${lab.name}" stands; the service's address is ${service}.

${rows.join("\n")}

Run directories   ${lab.directory}/{gateway,primary,backup}
Run a command     t2cp lab exec${option} ROLE -- COMMAND
Cut the primary   t2cp lab fail${option} host
Take it down      t2cp lab down${option}`);
}

/** `t2cp lab down`. */
export async function down(flags: LabFlags): Promise<void> {
  requireRoot();
  requireUnused(flags.runDir, flags.name);
  // Held, not obeyed: half a lab is worse than a short wait.
  const stop = stopSignal();
  const found = await takeDown(flags.runDir, flags.name);
  stop.release();
  if (found) return;
  throw new Failure(ExitStatus.UNAVAILABLE, `There is no lab "${flags.name}"`, {
    mend: 'see "t2cp lab list"',
  });
}

/** `t2cp lab exec`: never returns, exits with the command's status. */
export async function exec(flags: LabFlags, ...words: string[]): Promise<void> {
  requireRoot();
  const [role, ...argv] = words;
  if (!ROLES.includes(role as Role)) {
    throw new Failure(ExitStatus.USAGE, `A lab has no host "${role}"`, {
      mend: `choose one of ${ROLES.join(", ")}`,
    });
  }
  const lab = Lab.open(flags.runDir, flags.name);
  const child = spawn(lab.inRole(role as Role, argv), { env: { PATH: commandPath() } });
  const stop = stopSignal();
  // A Ctrl-C at the terminal reaches the command by itself; other signals are passed on.
  stop.signal.addEventListener("abort", () => {
    if (stop.signal.reason !== "SIGINT") child.kill(stop.signal.reason);
  });
  Deno.exit((await child.status).code);
}

/** `t2cp lab fail`. */
export async function fail(flags: LabFlags, what: string): Promise<void> {
  requireRoot();
  if (what !== "host") {
    throw new Failure(ExitStatus.USAGE, `The lab cannot make "${what}" fail`, {
      mend: 'write "host"',
    });
  }
  const time = await Lab.open(flags.runDir, flags.name).failHost();
  console.log(`Cut the primary's link at ${formatTime(time)}`);
}

/** `t2cp lab list`. */
export function list(flags: Pick<LabFlags, "runDir">): void {
  for (const lab of listLabs(flags.runDir)) {
    const user = lab.pid === undefined ? "" : ` by process ${lab.pid}`;
    console.log(`${lab.name.padEnd(16)} ${lab.condition}${user}  ${lab.created}`.trimEnd());
  }
}
