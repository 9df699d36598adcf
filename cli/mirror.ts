/**
 * `t2cp mirror`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Service } from "../lib/address.ts";
import { isMac, parseAddress } from "../lib/address.ts";
import { runMirror } from "../lib/mirror/mirror.ts";
import { withOutput } from "./context.ts";
import { parseInterface, runDirFlag, serviceFlag, statsFlag } from "./flags.ts";

interface Flags {
  interface: string;
  primary: string;
  backup: string;
  service: Service[];
  payload: boolean;
  flows: boolean;
  stats?: number;
  runDir: string;
}

function parseHost(text: string): string {
  return isMac(text) ? text : parseAddress(text);
}

async function mirror(flags: Flags): Promise<void> {
  const options = { ...flags, services: flags.service };
  await withOutput("mirror", ({ emitter, stop }) => runMirror(options, emitter, stop));
}

/**
 * The `mirror` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: mirror,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to the servers",
        placeholder: "NAME",
      },
      primary: {
        kind: "parsed",
        parse: parseHost,
        brief: "The primary's MAC or own IP address",
        placeholder: "HOST",
      },
      backup: {
        kind: "parsed",
        parse: parseHost,
        brief: "The backup's MAC or own IP address",
        placeholder: "HOST",
      },
      service: serviceFlag,
      payload: {
        kind: "boolean",
        brief: "Copy the primary's segments whole, not just their headers",
        default: false,
        withNegated: false,
      },
      flows: { kind: "boolean", brief: "Report every opened and closed flow", default: false },
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Copy the service's traffic to the backup, on the gateway",
    fullDescription:
      `Copies what passes between the clients and the primary to the backup, in the kernel.
It ends by itself for a flow as soon as the service's address moves to another host.

Example, on the gateway:
  t2cp mirror --interface br0 --primary 10.77.0.11 --backup 10.77.0.12 --service 10.77.0.100:80`,
  },
});
