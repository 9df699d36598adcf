/**
 * `t2cp lab`: the routes of the lab's commands and their flags. The work is loaded when needed.
 *
 * @module
 */

import { buildCommand, buildRouteMap, type CommandContext, type RouteMap } from "@stricli/core";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { PURPOSES } from "../lib/host/packages.ts";
import type { Family } from "../lib/address.ts";
import {
  parseLinkRate,
  parsePoint,
  parseRate,
  parseShare,
  parseSize,
} from "../lib/lab/quantity.ts";
import { FAILURES, SERVERS, WORKLOADS } from "../lib/lab/scenario.ts";
import { checkName } from "../lib/lab/state.ts";
import { parsePath, runDirFlag, wholeNumber } from "./common/flags.ts";

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

function parseFamily(text: string): Family {
  if (text === "4" || text === "6") return text === "4" ? 4 : 6;
  throw new Failure(ExitStatus.USAGE, `IP version "${text}" is not valid`, {
    mend: "write 4 or 6",
  });
}

const up = buildCommand({
  loader: async () => (await import("./lab/stand.ts")).up,
  parameters: { flags: common },
  docs: {
    brief: "Build a lab and leave it standing",
    fullDescription:
      `Builds four hosts as network namespaces: a client, a gateway, and behind it primary and
backup, which share the service's address. Nothing runs in them yet.

Example:
  t2cp lab up
  t2cp lab exec primary -- nginx
  t2cp lab exec client -- curl http://10.77.0.100/
  t2cp lab down`,
  },
});

const down = buildCommand({
  loader: async () => (await import("./lab/stand.ts")).down,
  parameters: { flags: common },
  docs: { brief: "Take a lab down, with everything that runs in it" },
});

const exec = buildCommand({
  loader: async () => (await import("./lab/stand.ts")).exec,
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
  loader: async () => (await import("./lab/stand.ts")).fail,
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
  loader: async () => (await import("./lab/stand.ts")).list,
  parameters: { flags: { runDir: common.runDir } },
  docs: { brief: "List the labs" },
});

const output = {
  json: {
    kind: "boolean",
    brief: "Print events, one JSON object a line, and nothing else",
    optional: true,
    withNegated: false,
  },
  out: {
    kind: "parsed",
    parse: parsePath,
    brief: "Directory for events and pictures",
    optional: true,
    placeholder: "DIR",
  },
} as const;

const run = buildCommand({
  loader: async () => (await import("./lab/run.ts")).run,
  parameters: {
    flags: {
      workload: {
        kind: "enum",
        values: WORKLOADS,
        brief: "What the client does",
        default: "download",
      },
      server: {
        kind: "enum",
        values: SERVERS,
        brief: "What serves it; nginx, for echo socat, for chat deno unless given",
        optional: true,
      },
      failure: {
        kind: "enum",
        values: FAILURES,
        brief: "What fails; host unless given, none with --plain",
        optional: true,
      },
      family: {
        kind: "parsed",
        parse: parseFamily,
        brief: "IP version, 4 or 6",
        default: "4",
        placeholder: "4|6",
      },
      flows: {
        kind: "parsed",
        parse: wholeNumber(1, 20_000),
        brief: "Flows of echo and chat, 1 unless given; connections in all, 2000 unless given",
        optional: true,
        placeholder: "N",
      },
      size: {
        kind: "parsed",
        parse: parseSize,
        brief: "Bytes to transfer in all; 200M unless given, 3 s for echo and chat",
        optional: true,
        placeholder: "BYTES",
      },
      rate: {
        kind: "parsed",
        parse: parseRate,
        brief: "MB/s between gateway and client, 0 for no limit",
        default: "40",
        placeholder: "MB/S",
      },
      link: {
        kind: "parsed",
        parse: parseLinkRate,
        brief: "Rate of the primary's link, such as 1gbit",
        optional: true,
        placeholder: "RATE",
      },
      interval: {
        kind: "parsed",
        parse: wholeNumber(1, 60_000),
        brief: "Milliseconds between heartbeats",
        default: "50",
        placeholder: "MS",
      },
      multiplier: {
        kind: "parsed",
        parse: wholeNumber(1, 255),
        brief: "How many heartbeats may be missing",
        default: "3",
        placeholder: "N",
      },
      after: {
        kind: "parsed",
        parse: parsePoint,
        brief: "When the failure comes: share of the bytes, or time since the first one",
        default: "40%",
        placeholder: "POINT",
      },
      runs: {
        kind: "parsed",
        parse: wholeNumber(1, 10_000),
        brief: "How often, each time in a new lab",
        default: "1",
        placeholder: "N",
      },
      heal: {
        kind: "boolean",
        brief: "Record at the gateway, and heal what the copied traffic lacks",
        optional: true,
        withNegated: false,
      },
      tapLoss: {
        kind: "parsed",
        parse: parseShare,
        brief: "Share of the copies that get lost on their way to the backup, such as 1%",
        optional: true,
        placeholder: "SHARE",
      },
      tapBlackout: {
        kind: "parsed",
        parse: wholeNumber(1, 10_000),
        brief: "Milliseconds before the failure in which every copy gets lost",
        optional: true,
        placeholder: "MS",
      },
      plain: {
        kind: "boolean",
        brief: "Without t2cp, for comparison",
        optional: true,
        withNegated: false,
      },
      commit: {
        kind: "boolean",
        brief: "With output commit: mirror --commit and shadow --commit",
        optional: true,
        withNegated: false,
      },
      freeze: {
        kind: "boolean",
        brief: "Freeze the flows from failed until active: t2cp freeze",
        optional: true,
        withNegated: false,
      },
      fence: {
        kind: "boolean",
        brief: "Silence the primary before a takeover, as always where it is planned: t2cp fence",
        optional: true,
        withNegated: false,
      },
      ...output,
      keep: {
        kind: "boolean",
        brief: "Leave the last run's lab standing",
        optional: true,
        withNegated: false,
      },
      name: { ...common.name, default: undefined, optional: true },
      runDir: common.runDir,
    },
  },
  docs: {
    brief: "Run a scenario: servers, t2cp, a client, a failure; measure it",
    fullDescription:
      `Builds a lab, starts a server such as nginx on primary and backup, and mirror, shadow,
detect and takeover each on its host; runs a client, cuts the primary off or stops its server on
the way, compares the content, and measures what the client saw. Leaves nothing behind but the report.

Example, ten uploads of 100 MB with the events of each:
  t2cp lab run --workload upload --size 100M --runs 10 --json

Example, a server in Python that is killed while it echoes:
  t2cp lab run --workload echo --server python --failure process

t2cp-lab(8) tells more.`,
  },
});

const demo = buildCommand({
  loader: async () => (await import("./lab/run.ts")).demo,
  parameters: { flags: { ...output, runDir: common.runDir } },
  docs: { brief: "Show a download that survives the death of its server" },
});

const setup = buildCommand({
  loader: async () => (await import("./lab/run.ts")).setup,
  parameters: {
    flags: {
      for: {
        kind: "enum",
        values: PURPOSES,
        brief: "What the packages are for; each includes those before it",
        default: "demo",
      },
    },
  },
  docs: { brief: "Install the Debian packages that the lab needs" },
});

/**
 * The `lab` command.
 *
 * @ignore
 */
export const command: RouteMap<CommandContext> = buildRouteMap({
  routes: { run, demo, up, exec, fail, down, list, setup },
  docs: {
    brief: "Client, gateway, primary and backup on one machine, in network namespaces",
  },
});
