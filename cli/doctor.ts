/**
 * `t2cp doctor`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { openLibrary } from "../ffi/library.ts";
import type { Service } from "../lib/address.ts";
import { examine, type Role, ROLES } from "../lib/doctor/checks.ts";
import { describe } from "../lib/doctor/report.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { thisHost } from "../lib/host/facts.ts";
import { parseInterface, serviceFlag } from "./common/flags.ts";

interface Flags {
  role: Role;
  interface?: string;
  service?: Service[];
  json: boolean;
}

function hasLibrary(name: string): boolean {
  try {
    openLibrary(name, "", {}).close();
    return true;
  } catch {
    return false;
  }
}

function capabilities(): bigint {
  const status = Deno.readTextFileSync("/proc/self/status");
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
}

async function doctor(this: CommandContext, flags: Flags): Promise<void> {
  const findings = await examine(flags.role, {
    host: thisHost,
    services: flags.service ?? [],
    interface: flags.interface,
    capabilities: capabilities(),
    hasLibrary,
  });
  const { stdout } = this.process;
  stdout.write(
    flags.json
      ? findings.map((finding) => JSON.stringify(finding) + "\n").join("")
      : describe(findings, Deno.stdout.isTerminal() && !Deno.noColor),
  );
  const lacks = findings.filter(({ state }) => state === "lack").length;
  if (lacks === 0) return;
  throw new Failure(
    ExitStatus.UNAVAILABLE,
    `This host lacks ${lacks} thing${lacks === 1 ? "" : "s"} for the role "${flags.role}"`,
    { mend: "mend what is marked LACK" },
  );
}

/**
 * The `doctor` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: doctor,
  parameters: {
    flags: {
      role: { kind: "enum", values: ROLES, brief: "What the host is to be" },
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to the other hosts",
        placeholder: "NAME",
        optional: true,
      },
      service: { ...serviceFlag, optional: true },
      json: {
        kind: "boolean",
        brief: "Print one JSON object a line",
        default: false,
        withNegated: false,
      },
    },
  },
  docs: {
    brief: "Say what this host lacks for a role, and how to mend it",
    fullDescription:
      `Looks at the kernel, its settings, libraries and permissions, changes nothing, and exits
with status 69 where something is missing without which t2cp does not work.

Example, on the backup:
  t2cp doctor --role backup --interface eth0 --service 10.77.0.100:80`,
  },
});
