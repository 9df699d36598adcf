/**
 * `t2cp shadow`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { parsePort, type Service } from "../lib/address.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { thisHost } from "../lib/host/facts.ts";
import { clearShadow } from "../lib/shadow/clear.ts";
import { runShadow } from "../lib/shadow/shadow.ts";
import { withOutput } from "./common/context.ts";
import { parseInterface, runDirFlag, serviceFlag, statsFlag } from "./common/flags.ts";

interface Flags {
  interface?: string;
  service?: Service[];
  join?: number[];
  commit: boolean;
  flows: boolean;
  stats?: number;
  clear: boolean;
  force: boolean;
  runDir: string;
}

async function shadow(flags: Flags): Promise<void> {
  if (flags.clear) return await clear(flags);
  if (flags.force) {
    throw new Failure(ExitStatus.USAGE, `Flag "--force" needs "--clear"`, { mend: "leave it out" });
  }
  if (flags.interface === undefined || flags.service === undefined) {
    throw new Failure(ExitStatus.USAGE, `Flags "--interface" and "--service" are needed`, {
      mend: "t2cp shadow --interface eth0 --service 10.0.0.1:80",
    });
  }
  const options = {
    ...flags,
    interface: flags.interface,
    services: flags.service,
    join: flags.join ?? [],
  };
  await withOutput("shadow", ({ emitter, stop }) => runShadow(options, thisHost, emitter, stop));
}

async function clear(flags: Flags): Promise<void> {
  const { found, active, addresses } = await clearShadow(flags.runDir, thisHost, flags.force);
  const said = !found
    ? `nothing to clear in run directory "${flags.runDir}"`
    : addresses.length > 0
    ? `the programs are removed, and from the interface the addresses that the takeover put there: ` +
      addresses.join(", ")
    : active
    ? "programs removed; the service's connections go on, and so does its address on this host"
    : "the replica's connections and the programs are removed";
  console.error(`t2cp shadow: ${said}`);
}

/**
 * The `shadow` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: shadow,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface that receives the copied traffic",
        placeholder: "NAME",
        optional: true,
      },
      service: { ...serviceFlag, optional: true },
      join: {
        kind: "parsed",
        parse: parsePort,
        brief:
          "Port whose connections from before the start are joined in the middle; may be repeated",
        placeholder: "PORT",
        variadic: true,
        optional: true,
      },
      commit: {
        kind: "boolean",
        brief: "Tell the gateway what the replicas acknowledge, for mirror --commit",
        default: false,
        withNegated: false,
      },
      flows: { kind: "boolean", brief: "Report every opened and closed flow", default: false },
      stats: statsFlag,
      clear: {
        kind: "boolean",
        brief: "Take down the replica's connections, then the programs",
        default: false,
        withNegated: false,
      },
      force: {
        kind: "boolean",
        brief: "Clear though connections are open: the mirror has stopped",
        default: false,
        withNegated: false,
      },
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Give each flow a silent replica on the backup",
    fullDescription:
      `Gives each flow of the services a replica: the backup's own server gets a socket in
exactly the primary's state, fed by the copied traffic and silent until takeover.
The programs stay attached when the command ends; --clear takes them down.

Examples, on the backup:
  t2cp shadow --interface eth0 --service 10.77.0.100:80 --flows
  t2cp shadow --interface eth0 --service 10.77.0.100:80 --commit
and the way back, once t2cp mirror has stopped on the gateway:
  t2cp shadow --clear --force`,
  },
});
