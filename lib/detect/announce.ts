/**
 * Announcing that a host goes down on purpose: the responder's control socket, and who asks there.
 *
 * @module
 */
import { join } from "node:path";
import { type ControlServer, requireSocketPath, serveControl } from "../control.ts";
import type { Emitter } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { readLines } from "../ndjson.ts";

/** The control socket's name in the run directory. */
const SOCKET = "detect.sock";

/** What became of an announcement. */
export interface Announced {
  /** How many watchers have confirmed it, or are gone. */
  told: number;
  /** The addresses of those that have not. */
  unconfirmed: string[];
}

/**
 * Serves `announce-down` on the control socket. Where that cannot be, a warning says so: the heartbeats matter more.
 *
 * @throws {Failure} with status USAGE where the path is too long
 */
export async function serveAnnouncements(
  runDir: string,
  announceDown: () => Promise<Announced>,
  emitter: Emitter,
): Promise<ControlServer | undefined> {
  const path = join(runDir, SOCKET);
  requireSocketPath(path);
  try {
    await Deno.mkdir(runDir, { recursive: true, mode: 0o755 });
    return await serveControl(path, {
      "announce-down": async function* () {
        yield await announceDown();
      },
    });
  } catch (error) {
    const text = error instanceof Failure
      ? error.line
      : error instanceof Error
      ? error.message
      : String(error);
    emitter.emit("warning", { message: `--announce-down cannot reach this responder: ${text}` });
    return undefined;
  }
}

/**
 * Lets the responder on this host tell all watchers that the host goes down on purpose.
 *
 * @throws {Failure} with status UNAVAILABLE where there is no responder, TEMPORARY where a watcher did not confirm
 */
export async function announceDown(runDir: string): Promise<void> {
  const path = join(runDir, SOCKET);
  requireSocketPath(path);
  const answer = await request(path);
  if (answer.unconfirmed.length === 0) return;
  const who = answer.unconfirmed.map((name) => `"${name}"`).join(", ");
  throw new Failure(ExitStatus.TEMPORARY, `No confirmation from ${who}`, {
    mend: "they may take the end of this host for a failure; ask again, or look at them",
  });
}

async function request(path: string): Promise<Announced> {
  let connection: Deno.UnixConn;
  try {
    connection = await Deno.connect({ transport: "unix", path });
  } catch (cause) {
    throw new Failure(ExitStatus.UNAVAILABLE, `No responder answers at "${path}"`, {
      mend: `start "t2cp detect --respond", or name its --run-dir`,
      cause,
    });
  }
  await connection.write(new TextEncoder().encode(`{"request":"announce-down"}\n`));
  let answer: Announced | undefined;
  for await (const line of readLines(connection.readable)) {
    const object = "line" in line ? JSON.parse(line.line) : {};
    if (object.ok === false) throw new Failure(ExitStatus.UNAVAILABLE, String(object.error));
    if (object.ok === true) break;
    answer = object as Announced;
  }
  if (answer !== undefined) return answer;
  throw new Failure(ExitStatus.UNAVAILABLE, `The responder at "${path}" went away`);
}
