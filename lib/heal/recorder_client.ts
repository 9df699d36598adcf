/**
 * One connection to the recorder's socket: requests go out one behind the other, answers come in the same order.
 *
 * @module
 */
import { pause } from "../clock.ts";
import { NdjsonWriter } from "../ndjson.ts";
import type { Connection } from "../control.ts";
import type { FlowEnds } from "../flow/layout.ts";
import { Answers } from "./answers.ts";
import { lengthOf, type Range } from "./ranges.ts";

/** Requests under way at once. */
const MAX_REQUESTS = 32;
/** Bytes asked for and not answered, at once; one request may always go. */
const MAX_BYTES = 4 << 20;
/** Between two attempts to connect, in milliseconds: the first, and the most. */
const FIRST_PAUSE = 20;
const LONGEST_PAUSE = 200;

/** The recorder has gone, or cannot be reached; the request may be made again. */
export class RecorderGone extends Error {
  /** `why` completes the sentence "The recorder …". */
  constructor(why: string, cause?: unknown) {
    super(`The recorder ${why}`, { cause });
    this.name = "RecorderGone";
  }
}

/** The recorder has refused a request, in its own words. */
export class RecorderRefused extends Error {
  /** `reason` is the recorder's. */
  constructor(reason: string) {
    super(reason);
    this.name = "RecorderRefused";
  }
}

/** Takes what a `fetch` brings, as it comes. */
export interface FetchReceiver {
  /** Bytes of the client from sequence number `seq` on; they are valid until the return. */
  segment(seq: number, data: Uint8Array): void;
  /** The client's FIN has this sequence number. */
  fin(seq: number): void;
  /** Bytes that the recorder does not have, and why. */
  missing(range: Range, reason: string): void;
}

/** What the recorder knows of a flow. */
export interface RecordedFlow extends FlowEnds {
  /** Sequence number behind the last byte of the client that it has seen. */
  end: number;
  /** What the service's host has acknowledged; absent where that was not seen. */
  primary_ack?: number;
}

/** What a client of the recorder has seen. */
export interface RecorderStats {
  /** Requests sent. */
  requests: number;
  /** Connections made. */
  connections: number;
  /** Connections lost. */
  disconnections: number;
}

/** A request under way. */
interface Pending {
  bytes: number;
  line(answer: Record<string, unknown>): void;
  /** Takes the bytes that stand behind the line of a segment. */
  segment?(seq: number, data: Uint8Array): void;
  done: PromiseWithResolvers<void>;
}

/** Opens the connection; a test gives its own. */
export type Connect = () => Promise<Connection>;

/** Connects to the Unix socket at `path`. */
export function connectTo(path: string): Connect {
  return () => Deno.connect({ transport: "unix", path });
}

/** See the module. It connects by itself, and again where the connection is lost. */
export class RecorderClient implements AsyncDisposable {
  /** Counted from the start. */
  readonly stats: RecorderStats = { requests: 0, connections: 0, disconnections: 0 };
  /** Called each time the recorder is reached, or was and is not any more. */
  onChange: (connected: boolean, why: string) => void = () => {};
  readonly #connect: Connect;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #connection: Connection | undefined;
  #writer: NdjsonWriter | undefined;
  #pending: Pending[] = [];
  #bytes = 0;

  /** Connects by `connect`, again and again, from now on. */
  constructor(connect: Connect) {
    this.#connect = connect;
    this.#running = this.#run();
  }

  /** Whether the recorder is reached at the moment. */
  get connected(): boolean {
    return this.#connection !== undefined;
  }

  /** Whether `bytes` more may be asked for now. */
  hasRoom(bytes: number): boolean {
    return this.#pending.length === 0 ||
      this.#pending.length < MAX_REQUESTS && this.#bytes + bytes <= MAX_BYTES;
  }

  /**
   * Asks for the bytes of `range`, and resolves when all of the answer was received.
   *
   * @throws {RecorderGone} where the recorder cannot be reached, or goes before it has answered
   * @throws {RecorderRefused} where it does not answer such a request
   */
  fetch(flow: FlowEnds, range: Range, receiver: FetchReceiver): Promise<void> {
    const { client, server } = flow;
    const { from, to } = range;
    return this.#request(
      { request: "fetch", client, server, from, to, raw: true },
      lengthOf(range),
      (answer) => {
        const { missing, fin } = answer as {
          missing?: Range & { reason: string };
          fin?: { seq: number };
        };
        if (fin !== undefined) receiver.fin(fin.seq >>> 0);
        if (missing !== undefined) {
          const range = { from: missing.from >>> 0, to: missing.to >>> 0 };
          receiver.missing(range, String(missing.reason));
        }
      },
      (seq, data) => receiver.segment(seq, data),
    );
  }

  /**
   * Tells what the replicas have acknowledged, of at most 1,000 flows.
   *
   * @throws {RecorderGone} as {@linkcode RecorderClient.fetch} does
   * @throws {RecorderRefused} too
   */
  acknowledge(flows: readonly (FlowEnds & { upto: number })[]): Promise<void> {
    return this.#request({ request: "ack", flows }, 0, () => {});
  }

  /**
   * All flows that the recorder knows.
   *
   * @throws {RecorderGone} as {@linkcode RecorderClient.fetch} does
   * @throws {RecorderRefused} too
   */
  async flows(): Promise<RecordedFlow[]> {
    const flows: RecordedFlow[] = [];
    await this.#request({ request: "flows" }, 0, (answer) => {
      const flow = answer["flow"] as RecordedFlow | undefined;
      if (typeof flow?.end === "number") flows.push(flow);
    });
    return flows;
  }

  /** Closes the connection; requests under way fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#close();
    await this.#running;
  }

  async #request(
    request: object,
    bytes: number,
    line: Pending["line"],
    segment?: Pending["segment"],
  ): Promise<void> {
    // A write that fails ends the connection; its reader sees that, and fails what is under way.
    if (this.#writer === undefined) throw new RecorderGone("cannot be reached");
    const pending = { bytes, line, segment, done: Promise.withResolvers<void>() };
    // Whoever asked awaits it, but maybe only after it has failed.
    pending.done.promise.catch(() => {});
    this.#pending.push(pending);
    this.#bytes += bytes;
    this.stats.requests += 1;
    this.#writer.write(request);
    await pending.done.promise;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let wait = FIRST_PAUSE;
    while (!signal.aborted) {
      let why: unknown = "has closed the connection";
      try {
        const connection = await this.#connect();
        if (signal.aborted) {
          connection.close();
          return;
        }
        this.#connection = connection;
        this.#writer = new NdjsonWriter(connection);
        this.stats.connections += 1;
        this.onChange(true, "");
        wait = FIRST_PAUSE;
        await this.#read(connection);
      } catch (error) {
        why = error;
      }
      const was = this.#connection !== undefined;
      this.#close();
      if (was) this.stats.disconnections += 1;
      this.#fail(why);
      if (signal.aborted) return;
      this.onChange(false, String(why instanceof Error ? why.message : why));
      await pause(wait, signal);
      wait = Math.min(wait * 2, LONGEST_PAUSE);
    }
  }

  async #read(connection: Connection): Promise<void> {
    const answers = new Answers(connection);
    while (true) {
      const line = await answers.line();
      if (line === undefined) return;
      const answer: unknown = JSON.parse(line);
      const pending = this.#pending[0];
      if (pending === undefined || typeof answer !== "object" || answer === null) {
        throw new RecorderGone("has sent a line that nobody asked for");
      }
      const { ok, error, segment } = answer as {
        ok?: unknown;
        error?: unknown;
        segment?: { seq: number; length: number };
      };
      if (segment !== undefined && pending.segment !== undefined) {
        const data = await answers.bytes(segment.length);
        if (data === undefined) return;
        pending.segment(segment.seq >>> 0, data);
        continue;
      }
      if (ok === undefined) {
        pending.line(answer as Record<string, unknown>);
        continue;
      }
      this.#pending.shift();
      this.#bytes -= pending.bytes;
      if (ok === true) pending.done.resolve();
      else pending.done.reject(new RecorderRefused(String(error)));
    }
  }

  #fail(why: unknown): void {
    const failed = this.#pending;
    this.#pending = [];
    this.#bytes = 0;
    for (const { done } of failed) {
      done.reject(why instanceof RecorderGone ? why : new RecorderGone("has gone", why));
    }
  }

  #close(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#writer = undefined;
    try {
      connection?.close();
    } catch {
      // Closed already.
    }
  }
}
