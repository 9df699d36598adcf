/**
 * `t2cp lab`: the routes of the lab's commands and their flags. The work is loaded when needed.
 *
 * @module
 */

import { buildCommand, buildRouteMap, type CommandContext, type RouteMap } from "@stricli/core";
import { checkName } from "../lib/lab/state.ts";
import { runDirFlag } from "./flags.ts";

const common = {
  name: {
    kind: "parsed",
    parse: checkName,
    brief: "Name of the lab",
    default: "lab",
    placeholder: "NAME",
  },
  runDir: runDirFlag,
} as const;

const up = buildCommand({
  loader: async () => (await import("./lab_stand.ts")).up,
  parameters: { flags: common },
  docs: { brief: "Build a lab and leave it standing" },
});

const down = buildCommand({
  loader: async () => (await import("./lab_stand.ts")).down,
  parameters: { flags: common },
  docs: { brief: "Take a lab down, with everything that runs in it" },
});

const exec = buildCommand({
  loader: async () => (await import("./lab_stand.ts")).exec,
  parameters: {
    flags: common,
    positional: {
      kind: "array",
      minimum: 2,
      parameter: {
        parse: String,
        brief: "client, gateway, primary or backup, then the command",
        placeholder: "ROLE -- COMMAND",
      },
    },
  },
  docs: { brief: "Run a command on one of a lab's hosts" },
});

const fail = buildCommand({
  loader: async () => (await import("./lab_stand.ts")).fail,
  parameters: {
    flags: common,
    positional: {
      kind: "tuple",
      parameters: [{ parse: String, brief: "What fails: host", placeholder: "WHAT" }],
    },
  },
  docs: { brief: "Make a lab's primary fail" },
});

const list = buildCommand({
  loader: async () => (await import("./lab_stand.ts")).list,
  parameters: { flags: { runDir: common.runDir } },
  docs: { brief: "List the labs" },
});

/** The `lab` command. */
export const command: RouteMap<CommandContext> = buildRouteMap({
  routes: { up, exec, fail, down, list },
  docs: {
    brief: "Client, gateway, primary and backup on one machine, in network namespaces",
  },
});
