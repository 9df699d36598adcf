/**
 * `t2cp fence`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import type { Service } from "../lib/address.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { releaseFence } from "../lib/fence/release.ts";
import { fenceNow, type FenceTask, runFence } from "../lib/fence/run.ts";
import { withOutput } from "./common/context.ts";
import {
  parseHost,
  parseInterface,
  parsePositive,
  parseShellCommand,
  parseType,
  runDirFlag,
  serviceFlag,
  statsFlag,
  strictFlag,
  targetFlag,
} from "./common/flags.ts";

interface Flags {
  interface?: string;
  service?: Service[];
  primary?: string;
  backup?: string;
  on?: string;
  target?: string[];
  now: boolean;
  serve: boolean;
  release: boolean;
  exec?: string;
  execTimeout?: number;
  execRequired: boolean;
  strict: boolean;
  stats?: number;
  runDir: string;
}

/** Power switches take seconds. */
const EXEC_TIMEOUT = 10;

function usage(message: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, message, { mend });
}

/** Refuses flags that do not go together. */
function check(flags: Flags): void {
  const given = (names: readonly (keyof Flags)[]): (keyof Flags)[] =>
    names.filter((name) => flags[name] !== undefined && flags[name] !== false);
  const [mode = "on", other] = given(["on", "now", "serve", "release"]);
  if (other !== undefined) {
    usage(`Flags "--${mode}" and "--${other}" exclude each other`, "give one of them");
  }
  const useless = {
    on: [],
    serve: ["target", "strict"],
    now: ["target", "strict", "stats"],
    release: ["service", "primary", "backup", "exec", "target", "strict", "stats"],
  } as const satisfies Partial<Record<keyof Flags, readonly (keyof Flags)[]>>;
  const [wrong] = given(useless[mode as keyof typeof useless]);
  if (wrong !== undefined) usage(`Flag "--${wrong}" is of no use with "--${mode}"`, "leave it out");
  const [lone] = flags.exec === undefined ? given(["execTimeout", "execRequired"]) : [];
  if (lone !== undefined) {
    const name = lone === "execTimeout" ? "exec-timeout" : "exec-required";
    usage(`Flag "--${name}" is of no use without "--exec"`, "give both, or neither");
  }
}

function taskOf(flags: Flags): FenceTask {
  const { interface: name, service: services, primary, backup, runDir } = flags;
  if (name === undefined || services === undefined || primary === undefined) {
    const missing = name === undefined
      ? "interface"
      : primary === undefined
      ? "primary"
      : "service";
    usage(`Flag "--${missing}" is missing`, `only "--release" does without it`);
  }
  const power = flags.exec === undefined ? undefined : {
    command: flags.exec,
    timeout: (flags.execTimeout ?? EXEC_TIMEOUT) * 1000,
    required: flags.execRequired,
  };
  return { interface: name, services, primary, backup, runDir, power };
}

async function fence(flags: Flags): Promise<void> {
  check(flags);
  const { runDir, on, target: targets = [], strict, stats } = flags;
  if (flags.release) {
    const options = { runDir, interface: flags.interface };
    return await withOutput("fence", ({ emitter }) => releaseFence(options, emitter));
  }
  const task = taskOf(flags);
  if (flags.now) return await withOutput("fence", ({ emitter }) => fenceNow(task, emitter));
  const options = { ...task, on: flags.serve ? undefined : on ?? "failed", targets, strict, stats };
  const warn = (message: string): void => console.error(`t2cp fence: ${message}`);
  await withOutput("fence", ({ writer, emitter, stop }) => {
    const input = Deno.stdin.readable;
    return runFence(options, { input, writer, emitter, warn, stop });
  });
}

/**
 * The `fence` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: fence,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to the servers",
        placeholder: "NAME",
        optional: true,
      },
      primary: {
        kind: "parsed",
        parse: parseHost,
        brief: "The primary's MAC or own IP address",
        placeholder: "HOST",
        optional: true,
      },
      service: { ...serviceFlag, optional: true },
      backup: {
        kind: "parsed",
        parse: parseHost,
        brief: "Send what is for the services to this MAC or IP address at once",
        placeholder: "HOST",
        optional: true,
      },
      on: {
        kind: "parsed",
        parse: parseType,
        brief: "Type of the event that asks for the fence; failed unless given",
        placeholder: "TYPE",
        optional: true,
      },
      target: targetFlag,
      now: {
        kind: "boolean",
        brief: "Fence at once, and end",
        default: false,
        withNegated: false,
      },
      serve: {
        kind: "boolean",
        brief: "Read no events, and fence when the control socket is asked to",
        default: false,
        withNegated: false,
      },
      release: {
        kind: "boolean",
        brief: "Let the primary speak again",
        default: false,
        withNegated: false,
      },
      exec: {
        kind: "parsed",
        parse: parseShellCommand,
        brief: "Shell command to run as well, such as one that cuts the primary's power",
        placeholder: "COMMAND",
        optional: true,
      },
      execTimeout: {
        kind: "parsed",
        parse: parsePositive,
        brief: "Seconds after which it is killed; 10 unless given",
        placeholder: "SECONDS",
        optional: true,
      },
      execRequired: {
        kind: "boolean",
        brief: "Without its success the primary is not fenced, and nobody may take over",
        default: false,
        withNegated: false,
      },
      strict: strictFlag,
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Silence the primary before the backup takes over, on the gateway",
    fullDescription:
      `Waits for a failed event on stdin, and drops from then on what the primary still sends for the
service. Every event passes through to stdout; the one that asks for the fence passes after fenced.
The fence outlives this command, and stands until it is released.

Examples, on the gateway:
  t2cp detect --peer 10.77.0.11 |
    t2cp fence --interface eth1 --primary 10.77.0.11 --service 10.77.0.100:80 |
    ssh backup t2cp takeover --on failed
  t2cp fence --release`,
  },
});
