/**
 * A client of a command's control socket: requests one after the other, over a connection that is kept.
 *
 * @module
 */
import type { Connection } from "./control.ts";
import { readLines } from "./ndjson.ts";

/** The other side refused a request, in its own words. */
export class RequestRefused extends Error {
  /** `reason` is the other side's. */
  constructor(reason: string) {
    super(reason);
    this.name = "RequestRefused";
  }
}

/** Nobody serves the socket; the request was not sent. */
export class Unreachable extends Error {
  /** `cause` says why. */
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = "Unreachable";
  }
}

type Line = { line: string } | { error: string };

/** An open connection, and its lines. */
interface Link {
  connection: Connection;
  lines: AsyncGenerator<Line>;
}

/** See the module. */
export class ControlClient implements Disposable {
  readonly #connect: () => Promise<Connection>;
  #link: Link | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** Connects by `connect`, at the first request or {@linkcode ControlClient.open}. */
  constructor(connect: () => Promise<Connection>) {
    this.#connect = connect;
  }

  /** A client of the Unix socket at `path`. */
  static of(path: string): ControlClient {
    return new ControlClient(() => Deno.connect({ transport: "unix", path }));
  }

  /**
   * Connects, so that the first request need not.
   *
   * @throws {Unreachable} where nobody serves the socket
   */
  async open(): Promise<void> {
    await this.#queue(() => this.#opened());
  }

  /**
   * Sends a request and returns the lines of its answer, without the last. A connection that was lost since the last
   * request is made anew, so a request may arrive twice. Rejects where the answer does not come.
   *
   * @throws {Unreachable} where nobody serves the socket, and the request was not sent before either
   * @throws {RequestRefused} where the answer is an error
   */
  async request(request: object): Promise<Record<string, unknown>[]> {
    return await this.#queue(async () => {
      const kept = this.#link !== undefined;
      try {
        return await this.#exchange(request);
      } catch (error) {
        if (error instanceof RequestRefused) throw error;
        this.#drop();
        if (!kept || this.#closed) throw error;
        return await this.#exchange(request).catch((again) => {
          // It may have been read before the other side went.
          throw again instanceof Unreachable ? error : again;
        });
      }
    });
  }

  /** Closes the connection; a request under way rejects. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#drop();
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  async #opened(): Promise<Link> {
    if (this.#link !== undefined) return this.#link;
    const connection = await this.#connect().catch((error) => {
      throw new Unreachable(error);
    });
    if (this.#closed) {
      connection.close();
      throw new Error("The connection was closed");
    }
    return this.#link = { connection, lines: readLines(streamOf(connection)) };
  }

  async #exchange(request: object): Promise<Record<string, unknown>[]> {
    const { connection, lines } = await this.#opened();
    await writeAll(connection, new TextEncoder().encode(JSON.stringify(request) + "\n"));
    const answers: Record<string, unknown>[] = [];
    while (true) {
      const { value, done } = await lines.next();
      if (done) throw new Error("The connection has ended");
      if ("error" in value) throw new Error(`A line of the answer is none: ${value.error}`);
      const answer = JSON.parse(value.line);
      if (answer?.ok === true) return answers;
      if (answer?.ok === false) throw new RequestRefused(String(answer.error));
      answers.push(answer);
    }
  }

  #drop(): void {
    const link = this.#link;
    this.#link = undefined;
    try {
      link?.connection.close();
    } catch {
      // Closed already.
    }
  }
}

async function writeAll(connection: Connection, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function streamOf(connection: Connection): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller): Promise<void> {
      const chunk = new Uint8Array(4096);
      const length = await connection.read(chunk);
      if (length === null) controller.close();
      else controller.enqueue(chunk.subarray(0, length));
    },
  }, { highWaterMark: 0 });
}
