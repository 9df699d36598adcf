/**
 * Runs a command line: finds the command, and turns failures into one line and an exit status.
 *
 * @module
 */
import {
  type Application,
  ArgumentParseError,
  buildApplication,
  buildRouteMap,
  type Command,
  type CommandContext,
  FlagNotFoundError,
  type RouteMap,
  run,
  text_en,
} from "@stricli/core";
import manifest from "../../deno.json" with { type: "json" };
import { SystemError } from "../../ffi/errno.ts";
import { PcapError } from "../../ffi/libpcap.ts";
import { MissingLibrary } from "../../ffi/library.ts";
import { ExitStatus, Failure } from "../../lib/failure.ts";
import { outputError, ReaderGone } from "../../lib/ndjson.ts";

type Target = Command<CommandContext> | RouteMap<CommandContext>;

/**
 * Commands by name, in the order of the help. A command's module exports it as `command`, and is
 * loaded only when it is needed.
 *
 * @ignore
 */
export type Commands = Readonly<Record<string, () => Promise<{ readonly command: Target }>>>;

/** Loads the command that `name` names; all of them where it names none, for help and suggestions. */
async function loadRoutes(
  commands: Commands,
  name: string | undefined,
): Promise<Record<string, Target>> {
  const wanted = name !== undefined && Object.hasOwn(commands, name)
    ? [name]
    : Object.keys(commands);
  const loaded = wanted.map(async (key): Promise<[string, Target]> => {
    const { command } = await commands[key]!();
    return [key, command];
  });
  return Object.fromEntries(await Promise.all(loaded));
}

/** The words of `args` that lead to a command: `t2cp lab run`. */
function commandPath(root: RouteMap<CommandContext>, args: readonly string[]): string {
  const path = ["t2cp"];
  let target: Target | undefined = root;
  for (const arg of args) {
    if (target === undefined || !("getRoutingTargetForInput" in target)) break;
    target = target.getRoutingTargetForInput(arg);
    if (target !== undefined) path.push(arg);
  }
  return path.join(" ");
}

/** One usage failure of what the argument scanner found wrong with the arguments of `path`. */
function usageFailure(error: unknown, path: string): Failure {
  if (error instanceof Failure) return error;
  const help = `see ${path} --help`;
  if (error instanceof ArgumentParseError) {
    const cause = error.exception;
    const text = cause instanceof Error ? cause.message : String(cause);
    const options = { mend: cause instanceof Failure ? cause.mend ?? help : help, cause };
    return new Failure(ExitStatus.USAGE, `${nameOf(error)}: ${text}`, options);
  }
  if (error instanceof FlagNotFoundError) {
    const nearest = error.corrections.map((name) => `--${name}`);
    return unknown("flag", `--${error.input}`, nearest, help);
  }
  const text = error instanceof Error ? error.message : String(error);
  return new Failure(ExitStatus.USAGE, text, { mend: help, cause: error });
}

function nameOf(error: ArgumentParseError): string {
  const name = error.externalFlagNameOrPlaceholder;
  // Placeholders of arguments are in capitals.
  return name === name.toUpperCase() ? name : `--${name}`;
}

function unknown(what: string, input: string, nearest: readonly string[], help: string): Failure {
  const hint = nearest.length > 0
    ? `did you mean ${nearest.map((n) => `"${n}"`).join(" or ")}? `
    : "";
  return new Failure(ExitStatus.USAGE, `Unknown ${what} "${input}"`, { mend: hint + help });
}

function writeStdout(text: string): void {
  let rest = new TextEncoder().encode(text);
  try {
    while (rest.length > 0) rest = rest.subarray(Deno.stdout.writeSync(rest));
  } catch (error) {
    throw outputError(error);
  }
}

function writeStderr(text: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  } catch {
    // Nobody is left to tell.
  }
}

/** Tells the user about `error` on stderr, and returns the exit status. */
function report(error: unknown, path: string): number {
  if (error instanceof ReaderGone) return ExitStatus.OK;
  const failure = foreseen(error);
  if (failure instanceof Failure) {
    writeStderr(`${path}: ${failure.line}\n`);
    return failure.status;
  }
  const stack = error instanceof Error ? error.stack ?? String(error) : String(error);
  writeStderr(`${stack}\n${path}: This is a bug in t2cp; please report it with the lines above\n`);
  return ExitStatus.BUG;
}

/** What the system refused or lacks, and no command foresaw, as a failure; everything else as it is. */
function foreseen(error: unknown): unknown {
  if (error instanceof MissingLibrary) {
    const mend = `apt-get install ${error.package}`;
    return new Failure(ExitStatus.UNAVAILABLE, error.message, { mend, cause: error });
  }
  const denied = error instanceof Deno.errors.PermissionDenied ||
    error instanceof Deno.errors.NotCapable ||
    error instanceof SystemError && (error.code === "EPERM" || error.code === "EACCES") ||
    error instanceof PcapError && /permi(ssion|tted)/i.test(error.message);
  if (denied) {
    const options = { mend: "run as root", cause: error };
    return new Failure(ExitStatus.NO_PERMISSION, error.message, options);
  }
  if (error instanceof SystemError || error instanceof PcapError) {
    return new Failure(ExitStatus.OS, error.message, { cause: error });
  }
  return error;
}

/**
 * Runs the command that `args` name, to its end. The result is the exit status; what went wrong
 * is on stderr. Errors that nobody awaits end the process.
 *
 * @ignore
 */
export async function runCommandLine(
  commands: Commands,
  docs: { brief: string; fullDescription: string },
  args: readonly string[],
): Promise<number> {
  let path = "t2cp";
  globalThis.addEventListener("error", (event) => Deno.exit(report(event.error, path)));
  globalThis.addEventListener("unhandledrejection", (event) => {
    Deno.exit(report(event.reason, path));
  });
  try {
    const root = buildRouteMap({ routes: await loadRoutes(commands, args[0]), docs });
    path = commandPath(root, args);
    await run(application(root, path), args, {
      process: { stdout: { write: writeStdout }, stderr: { write: writeStderr } },
    });
    return ExitStatus.OK;
  } catch (error) {
    return report(error, path);
  }
}

function application(root: RouteMap<CommandContext>, path: string): Application<CommandContext> {
  return buildApplication(root, {
    name: "t2cp",
    versionInfo: { currentVersion: manifest.version },
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
    documentation: { onlyRequiredInUsageLine: true, disableAnsiColor: true },
    localization: {
      // Stricli prints the text of an error and goes on; thrown, all of them reach one place.
      text: {
        ...text_en,
        noCommandRegisteredForInput({ input, corrections }) {
          const what = input.startsWith("-") ? "flag" : "command";
          const names = corrections.map((name) => name.replaceAll("`", ""));
          throw unknown(what, input, names, `see ${path} --help`);
        },
        exceptionWhileParsingArguments(error) {
          throw usageFailure(error, path);
        },
        exceptionWhileLoadingCommandFunction: rethrow,
        exceptionWhileLoadingCommandContext: rethrow,
        exceptionWhileRunningCommand: rethrow,
        exceptionWhileRunningIntegrationHook: ({ exception }) => rethrow(exception),
        exceptionWhileRunningIntegrationFlag: ({ exception }) => rethrow(exception),
        commandErrorResult: rethrow,
      },
    },
  });
}

function rethrow(error: unknown): never {
  throw error;
}
