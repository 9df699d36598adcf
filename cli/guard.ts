/**
 * `t2cp guard`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Service } from "../lib/address.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { runGuard } from "../lib/guard/guard.ts";
import { askSystemd } from "../lib/guard/unit.ts";
import { withOutput } from "./common/context.ts";
import {
  parseInterface,
  parseName,
  parsePath,
  parsePositive,
  runDirFlag,
  serviceFlag,
  statsFlag,
  wholeNumber,
} from "./common/flags.ts";

interface Flags {
  interface: string;
  service: Service[];
  pid?: number[];
  pidfile?: string[];
  unit?: string[];
  onWorker: "fail" | "release";
  release: number;
  cgroup?: string;
  target?: string;
  stats?: number;
  runDir: string;
}

/** Longer than any takeover takes, in seconds. */
const RELEASE = "10";

function parseUnit(text: string): string {
  if (/^[\w:.@\\-]+$/.test(text) && !text.startsWith("-")) return text;
  throw new Failure(ExitStatus.USAGE, `"${text}" is not the name of a unit`, {
    mend: `write one such as "nginx.service"`,
  });
}

async function guard(flags: Flags): Promise<void> {
  const { pid: pids = [], pidfile: pidFiles = [], unit: units = [] } = flags;
  if (flags.onWorker === "release" && pids.length + pidFiles.length + units.length === 0) {
    throw new Failure(
      ExitStatus.USAGE,
      `Without a main process, "--on-worker release" would let every flow go`,
      { mend: "name it with --pid, --pidfile or --unit" },
    );
  }
  const options = {
    ...flags,
    services: flags.service,
    pids,
    pidFiles,
    units,
    controlGroup: flags.cgroup,
    target: flags.target ?? Deno.hostname(),
    askUnit: askSystemd,
  };
  await withOutput("guard", ({ emitter, stop }) => runGuard(options, emitter, stop));
}

/**
 * The `guard` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: guard,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to the clients",
        placeholder: "NAME",
      },
      service: serviceFlag,
      pid: {
        kind: "parsed",
        parse: wholeNumber(1, 2 ** 22),
        brief: "Number of a main process of the service; may be repeated",
        placeholder: "PID",
        variadic: true,
        optional: true,
      },
      pidfile: {
        kind: "parsed",
        parse: parsePath,
        brief: "File with such a number; may be repeated",
        placeholder: "FILE",
        variadic: true,
        optional: true,
      },
      unit: {
        kind: "parsed",
        parse: parseUnit,
        brief: "Unit of systemd with such a process; may be repeated",
        placeholder: "NAME",
        variadic: true,
        optional: true,
      },
      onWorker: {
        kind: "enum",
        values: ["fail", "release"],
        brief: "Crash of another process: fail over, or let its connections go",
        default: "fail",
      },
      release: {
        kind: "parsed",
        parse: parsePositive,
        brief: "Seconds after which connections are reset where no takeover follows",
        placeholder: "SECONDS",
        default: RELEASE,
      },
      cgroup: {
        kind: "parsed",
        parse: parsePath,
        brief: "Control group with the server's processes; all of them unless given",
        placeholder: "DIR",
        optional: true,
      },
      target: {
        kind: "parsed",
        parse: parseName,
        brief: "What failed events call this host; its name unless given",
        placeholder: "NAME",
        optional: true,
      },
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Hide the crash of a server process from its clients, on the primary",
    fullDescription:
      `Keeps what the kernel sends for a dying server process from the clients, and reports the death
at once, so that the backup can take the connections over. What a living server closes passes.

Examples, on the primary:
  t2cp guard --interface eth0 --service 10.77.0.100:80 --pidfile /run/nginx.pid
  t2cp guard --interface eth0 --service 10.77.0.100:80 --unit nginx.service \\
    --on-worker release --target primary`,
  },
});
