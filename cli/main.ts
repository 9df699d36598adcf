/**
 * `t2cp`: finds the command, runs it, and turns its failures into one line and an exit status.
 *
 * @module
 */
import {
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
import manifest from "../deno.json" with { type: "json" };
import { ExitStatus, Failure } from "../lib/failure.ts";
import { outputError, ReaderGone } from "../lib/ndjson.ts";

/** What a command's module exports as `command`. */
type Target = Command<CommandContext> | RouteMap<CommandContext>;

/** Every command in the order of the help; a module is loaded only when it is needed. */
const commands: Record<string, () => Promise<{ command: Target }>> = {
  detect: () => import("./detect.ts"),
  lab: () => import("./lab.ts"),
  mirror: () => import("./mirror.ts"),
  schema: () => import("./schema.ts"),
  shadow: () => import("./shadow.ts"),
  takeover: () => import("./takeover.ts"),
};

const description = `Transparent active replication of TCP services: a backup takes over established
connections when the primary fails, and the client notices nothing.

Each command prints events, one JSON object a line. The usual pipeline on a backup:

  t2cp detect --peer 10.0.0.1 | t2cp takeover --on failed | tee -a events.ndjson

"t2cp COMMAND --help" and the man page t2cp-COMMAND(8) tell more.`;

/** Loads the command that `name` names; all of them where it names none, for help and suggestions. */
async function loadRoutes(name: string | undefined): Promise<Record<string, Target>> {
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
  if (error instanceof Failure) {
    writeStderr(`${path}: ${error.line}\n`);
    return error.status;
  }
  const stack = error instanceof Error ? error.stack ?? String(error) : String(error);
  const line = stack.split("\n", 1)[0];
  writeStderr(
    `${stack}\n${path}: This is a bug in t2cp, please report it with the lines above: ${line}\n`,
  );
  return ExitStatus.BUG;
}

async function main(args: readonly string[]): Promise<number> {
  let path = "t2cp";
  for (const event of ["error", "unhandledrejection"]) {
    globalThis.addEventListener(event, (e) => {
      Deno.exit(
        report(e instanceof PromiseRejectionEvent ? e.reason : (e as ErrorEvent).error, path),
      );
    });
  }
  try {
    const routes = await loadRoutes(args[0]);
    const root = buildRouteMap({
      routes,
      docs: {
        brief: "Transparent active replication of TCP services",
        fullDescription: description,
      },
    });
    path = commandPath(root, args);
    const rethrow = (error: unknown): never => {
      throw error;
    };
    const app = buildApplication(root, {
      name: "t2cp",
      versionInfo: { currentVersion: manifest.version },
      scanner: {
        caseStyle: "allow-kebab-for-camel",
        allowArgumentEscapeSequence: true,
      },
      documentation: { onlyRequiredInUsageLine: true, disableAnsiColor: true },
      localization: {
        // Stricli prints each error's text and goes on; thrown, all of them arrive below.
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
    const context = {
      process: { stdout: { write: writeStdout }, stderr: { write: writeStderr } },
    };
    await run(app, args, context);
    return ExitStatus.OK;
  } catch (error) {
    return report(error, path);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
