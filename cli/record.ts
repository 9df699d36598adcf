/**
 * `t2cp record`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { isMac, parseAddress, type Service } from "../lib/address.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runRecord } from "../lib/recorder/run.ts";
import { withOutput } from "./context.ts";
import { parseInterface, parseSize, runDirFlag, serviceFlag, statsFlag } from "./flags.ts";

interface Flags {
  interface: string;
  service: Service[];
  backup?: string;
  budget: number;
  window?: number;
  buffer?: number;
  filter: string;
  flows: boolean;
  stats?: number;
  runDir: string;
}

const MIB = 1 << 20;
const MIN_BUDGET = 4 * MIB;
/** The kernel's ring unless given: a quarter of the budget, and not more than this. */
const MAX_BUFFER = 64 * MIB;
const MIN_BUFFER = MIB;

function parseHost(text: string): string {
  return isMac(text) ? text : parseAddress(text);
}

async function record(flags: Flags): Promise<void> {
  const { budget } = flags;
  const buffer = flags.buffer ?? Math.max(MIN_BUFFER, Math.min(MAX_BUFFER, budget / 4));
  if (buffer > budget / 2) {
    throw new Failure(ExitStatus.USAGE, "The kernel's ring takes more than half of the budget", {
      mend: "give a larger --budget or a smaller --buffer",
    });
  }
  const window = flags.window ?? (budget - buffer) / 4;
  if (window > budget - buffer) {
    throw new Failure(ExitStatus.USAGE, "The window of a flow is larger than the budget", {
      mend: "give a larger --budget or a smaller --window",
    });
  }
  const options = { ...flags, services: flags.service, buffer, window };
  await withOutput("record", ({ emitter, stop }) => runRecord(options, emitter, stop));
}

/**
 * The `record` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: record,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to capture on",
        placeholder: "NAME",
      },
      service: serviceFlag,
      backup: {
        kind: "parsed",
        parse: parseHost,
        brief: "The backup's MAC or own IP address, whose copies are not captured",
        placeholder: "HOST",
        optional: true,
      },
      budget: {
        kind: "parsed",
        parse: parseSize(MIN_BUDGET, 2 ** 33),
        brief: "Memory in all, such as 512M",
        placeholder: "SIZE",
        default: "256M",
      },
      window: {
        kind: "parsed",
        parse: parseSize(64 << 10, 2 ** 30),
        brief: "Memory for one flow; a quarter of what the ring leaves unless given",
        placeholder: "SIZE",
        optional: true,
      },
      buffer: {
        kind: "parsed",
        parse: parseSize(MIN_BUFFER, 2 ** 30),
        brief: "The kernel's ring; a quarter of the budget, at most 64M, unless given",
        placeholder: "SIZE",
        optional: true,
      },
      filter: {
        kind: "parsed",
        parse: (text: string): string => text.trim(),
        brief: "What frames must pass, too, as pcap-filter(7) has it",
        placeholder: "FILTER",
        default: "",
      },
      flows: { kind: "boolean", brief: "Report every opened and closed flow", default: false },
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Keep what the clients send until the backup has it, on the gateway",
    fullDescription:
      `Captures what the clients send to the service and keeps it in memory, so that "t2cp replay" on the
backup can fetch what it has missed. What the backup has acknowledged is given up.

Example, on the gateway:
  t2cp record --interface br0 --backup 10.77.0.12 --service 10.77.0.100:80`,
  },
});
