/**
 * Control sockets: a command's Unix socket that takes one JSON request a line and answers in lines of JSON.
 *
 * @module
 */
import { NdjsonWriter, readLines } from "./ndjson.ts";
import { ExitStatus, Failure } from "./failure.ts";

/** The longest request: a thousand flows with addresses of IPv6. A longer line is refused. */
const MAX_REQUEST = 256 * 1024;
/** More clients than this at once are turned away. */
const MAX_CLIENTS = 64;

/** What a client hears that is turned away. */
const REFUSAL = new TextEncoder().encode(
  `{"ok":false,"error":"${MAX_CLIENTS} clients are connected already; try again later"}\n`,
);

/** How long no more clients are accepted after the system has refused one, in milliseconds. */
const ACCEPT_PAUSE = 100;

/**
 * Answers one request: yields the answer's lines, and what is to stand between them as it is: bytes, which it must not
 * touch any more. What it throws becomes the answer's error.
 */
export type Handler = (
  request: Record<string, unknown>,
) => Iterable<object> | AsyncIterable<object>;

/** A connection, as far as it is used. */
export type Connection = Pick<Deno.Conn, "read" | "write" | "close">;

/** What a control socket has seen. */
export interface ControlStats {
  /** Lines read, good or bad. */
  requests: number;
  /** Clients turned away because there were too many. */
  refused: number;
}

/** A control socket that is being served. */
export interface ControlServer extends AsyncDisposable {
  /** Counted from the start. */
  readonly stats: ControlStats;
}

/**
 * Serves the control socket at `path`, for its owner alone (mode 0600). `handlers` has a function for each value of
 * the request's field `request`. Every answer ends in a line with `ok`, false with an `error` where it failed.
 *
 * @throws {Failure} with status TEMPORARY where another process serves it
 */
export async function serveControl(
  path: string,
  handlers: Readonly<Record<string, Handler>>,
): Promise<ControlServer> {
  await removeStale(path);
  const mask = Deno.umask(0o177);
  let listener: Deno.UnixListener;
  try {
    listener = Deno.listen({ transport: "unix", path });
  } finally {
    Deno.umask(mask);
  }
  const stats: ControlStats = { requests: 0, refused: 0 };
  const clients = new Set<Deno.UnixConn>();
  const tasks = new Set<Promise<void>>();
  const closing = new AbortController();
  const accepting = (async () => {
    while (true) {
      const client = await accept(listener, closing.signal);
      if (client === undefined) return;
      if (clients.size >= MAX_CLIENTS) {
        stats.refused += 1;
        turnAway(client);
        continue;
      }
      clients.add(client);
      const task = serveConnection(client, handlers, stats).finally(() => {
        clients.delete(client);
        tasks.delete(task);
      });
      tasks.add(task);
    }
  })();
  return {
    stats,
    async [Symbol.asyncDispose](): Promise<void> {
      closing.abort();
      listener.close();
      await accepting;
      for (const client of clients) close(client);
      await Promise.all(tasks);
      await Deno.remove(path).catch(() => {});
    },
  };
}

/** The next client; undefined once the listener is closed. */
async function accept(
  listener: Deno.UnixListener,
  closing: AbortSignal,
): Promise<Deno.UnixConn | undefined> {
  while (!closing.aborted) {
    try {
      return await listener.accept();
    } catch (error) {
      // Out of descriptors, for one: the clients wait in the socket's queue.
      if (error instanceof Deno.errors.BadResource) return undefined;
      await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
    }
  }
  return undefined;
}

function turnAway(client: Deno.UnixConn): void {
  // It takes the line at once, since nothing was written before.
  client.write(REFUSAL).catch(() => {}).finally(() => close(client));
}

/** Answers one client's requests, one after the other, until it ends or goes; closes the connection. */
export async function serveConnection(
  client: Connection,
  handlers: Readonly<Record<string, Handler>>,
  stats: ControlStats,
): Promise<void> {
  const writer = new NdjsonWriter(client);
  try {
    for await (const line of readLines(inputOf(client), { maxLine: MAX_REQUEST })) {
      stats.requests += 1;
      for await (const answer of answers(line, handlers)) {
        if (answer instanceof Uint8Array) writer.bytes(answer);
        else writer.write(answer);
        await writer.ready();
        if (writer.signal.aborted) return;
      }
    }
    await writer.flush();
  } catch {
    // The client has gone; there is nobody to tell.
  } finally {
    close(client);
  }
}

/** What the client sends. The connection's own stream would close it at the end, and answers are still to come. */
function inputOf(client: Connection): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller): Promise<void> {
      const chunk = new Uint8Array(4096);
      const length = await client.read(chunk);
      if (length === null) controller.close();
      else controller.enqueue(chunk.subarray(0, length));
    },
  });
}

/** The longest path that a Unix socket takes on Linux, in bytes: unix(7). */
const MAX_SOCKET_PATH = 107;

/**
 * Refuses a path that no Unix socket can have.
 *
 * @throws {Failure} with status USAGE
 */
export function requireSocketPath(path: string): void {
  if (new TextEncoder().encode(path).length <= MAX_SOCKET_PATH) return;
  throw new Failure(ExitStatus.USAGE, `Path "${path}" is too long for a Unix socket`, {
    mend: "name a directory with a shorter path with --run-dir",
  });
}

async function* answers(
  line: { line: string } | { error: string },
  handlers: Readonly<Record<string, Handler>>,
): AsyncGenerator<object> {
  if ("error" in line) {
    yield { ok: false, error: line.error };
    return;
  }
  try {
    const request: unknown = JSON.parse(line.line);
    const name = (request as { request?: unknown } | null)?.request;
    if (typeof name !== "string" || !Object.hasOwn(handlers, name)) {
      const known = Object.keys(handlers).map((key) => `"${key}"`).join(", ");
      throw new Failure(ExitStatus.USAGE, `Field "request" must be one of ${known}`);
    }
    yield* handlers[name]!(request as Record<string, unknown>);
  } catch (error) {
    const text = error instanceof SyntaxError
      ? "Line is not JSON"
      : error instanceof Failure
      ? error.line
      : String(error);
    yield { ok: false, error: text };
    return;
  }
  yield { ok: true };
}

/** A killed server leaves its socket's file behind. */
async function removeStale(path: string): Promise<void> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    await Deno.remove(path).catch(() => {});
    return;
  }
  throw new Failure(ExitStatus.TEMPORARY, `Another process serves the control socket "${path}"`, {
    mend: "stop it first, or name another directory with --run-dir",
  });
}

function close(client: Connection): void {
  try {
    client.close();
  } catch {
    // Closed already.
  }
}
