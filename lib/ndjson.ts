/**
 * Newline-delimited JSON: a reader that survives any input, and a batching writer.
 *
 * @module
 */

import { ExitStatus, Failure } from "./failure.ts";

const LF = 0x0a;
const CR = 0x0d;

/** The longest line that is read unless told otherwise: 1 MiB without its line end. */
export const MAX_LINE: number = 1 << 20;

/** Settings of {@linkcode readLines} and {@linkcode readRawLines}. */
export interface ReadOptions {
  /** The longest line in bytes, without its line end; a longer one is skipped and reported. */
  maxLine?: number;
  /** Ends the reading, as the end of the input would. */
  signal?: AbortSignal;
}

/** A line as it came, or the reason why there is none: `it is longer than …`. */
export type RawLine =
  /** `bytes`, valid as long as their chunk, include the line end if any; `number` counts from 1. */
  | { bytes: Uint8Array; number: number }
  | { error: string; number: number };

/** A line as text without its line end, or the reason why there is none. */
export type Line =
  /** `number` counts from 1. */
  | { line: string; number: number }
  | { error: string; number: number };

/** Cuts chunks of any size into lines; holds at most one line of `maxLine` bytes. */
class Splitter {
  readonly #maxLine: number;
  /** The line's beginning, where it came in earlier chunks: the first `#held` bytes. */
  #buffer = new Uint8Array(0);
  #held = 0;
  #number = 1;
  #skipping = false;

  constructor(maxLine: number) {
    this.#maxLine = maxLine;
  }

  *push(chunk: Uint8Array): Generator<RawLine> {
    let start = 0;
    while (start < chunk.length) {
      const lf = chunk.indexOf(LF, start);
      const piece = chunk.subarray(start, lf < 0 ? chunk.length : lf + 1);
      start += piece.length;
      if (!this.#skipping && this.#lengthWith(piece) > this.#maxLine) {
        this.#skipping = true;
        this.#held = 0;
        yield { error: `it is longer than ${this.#maxLine} bytes`, number: this.#number };
      }
      if (lf >= 0) {
        if (!this.#skipping) yield { bytes: this.#take(piece), number: this.#number };
        this.#skipping = false;
        this.#number++;
      } else if (!this.#skipping) {
        this.#hold(piece);
      }
    }
  }

  *end(): Generator<RawLine> {
    if (this.#held > 0) yield { bytes: this.#take(new Uint8Array(0)), number: this.#number };
  }

  /** The line's length with `piece`, without a line end; a last CR may still become part of one. */
  #lengthWith(piece: Uint8Array): number {
    const total = this.#held + piece.length;
    const at = (index: number): number | undefined =>
      index < this.#held ? this.#buffer[index] : piece[index - this.#held];
    const content = at(total - 1) === LF ? total - 1 : total;
    return content > 0 && at(content - 1) === CR ? content - 1 : content;
  }

  #hold(piece: Uint8Array): void {
    const total = this.#held + piece.length;
    if (total > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(total, this.#buffer.length * 2));
      grown.set(this.#buffer.subarray(0, this.#held));
      this.#buffer = grown;
    }
    this.#buffer.set(piece, this.#held);
    this.#held = total;
  }

  #take(piece: Uint8Array): Uint8Array {
    if (this.#held === 0) return piece;
    this.#hold(piece);
    const bytes = this.#buffer.slice(0, this.#held);
    this.#held = 0;
    return bytes;
  }
}

/**
 * Reads lines as bytes, in whatever chunks they come. A line that is too long gives one error as
 * soon as it is, is skipped to its end, and is never held in memory.
 */
export async function* readRawLines(
  stream: ReadableStream<Uint8Array>,
  options: ReadOptions = {},
): AsyncGenerator<RawLine, void, void> {
  const splitter = new Splitter(options.maxLine ?? MAX_LINE);
  const reader = stream.getReader();
  const cancel = (): void => void reader.cancel().catch(() => {});
  if (options.signal?.aborted) cancel();
  options.signal?.addEventListener("abort", cancel, { once: true });
  let ended = false;
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) break;
      yield* splitter.push(value);
    }
    ended = true;
    yield* splitter.end();
  } finally {
    options.signal?.removeEventListener("abort", cancel);
    if (!ended) await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}

/** The text of a line without its line end (LF or CRLF), or `undefined` where it is not UTF-8. */
export function decodeLine(bytes: Uint8Array): string | undefined {
  let end = bytes.length;
  if (end > 0 && bytes[end - 1] === LF) {
    end--;
    if (end > 0 && bytes[end - 1] === CR) end--;
  }
  try {
    return decoder.decode(bytes.subarray(0, end));
  } catch {
    return undefined;
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads lines as text; what {@linkcode readRawLines} says holds here too. */
export async function* readLines(
  stream: ReadableStream<Uint8Array>,
  options: ReadOptions = {},
): AsyncGenerator<Line, void, void> {
  for await (const raw of readRawLines(stream, options)) {
    if ("error" in raw) {
      yield raw;
      continue;
    }
    const line = decodeLine(raw.bytes);
    yield line === undefined
      ? { error: "it is not valid UTF-8", number: raw.number }
      : { line, number: raw.number };
  }
}

/** Where the writer's bytes go, `Deno.stdout` for one. May write less than it is given. */
export interface Sink {
  /** Writes some of `bytes` and returns how many. */
  write(bytes: Uint8Array): Promise<number>;
}

/** The reader of the output has gone: a command that writes there ends, quietly and in order. */
export class ReaderGone extends Error {
  /** `cause` is the error of the write. */
  constructor(cause: unknown) {
    super("The reader of the output has gone", { cause });
    this.name = "ReaderGone";
  }
}

/** What the error of a write to the output means: {@linkcode ReaderGone}, or a failure. */
export function outputError(error: unknown): ReaderGone | Failure {
  // Where stdout is a socket, its end shows as a reset.
  if (error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset) {
    return new ReaderGone(error);
  }
  const text = error instanceof Error ? error.message : String(error);
  return new Failure(ExitStatus.OS, `Cannot write the output: ${text}`, { cause: error });
}

/** How one line is written. */
export interface WriteOptions {
  /** The line may be dropped, and counted in `dropped`, while the queue is full. */
  droppable?: boolean;
}

/** Settings of {@linkcode NdjsonWriter}: two marks of its queue, in bytes or UTF-16 code units. */
export interface WriterOptions {
  /** From here on, droppable lines are dropped; 1 Mi unless given. */
  dropMark?: number;
  /** From here on, {@linkcode NdjsonWriter.ready} waits; 4 Mi unless given. */
  waitMark?: number;
}

/**
 * One batching writer: what is queued while a write is under way goes out together in the next one.
 *
 * Queueing never waits, for a command must act even where nobody reads what it says. While a
 * stalled reader keeps the queue above one mark, droppable lines are dropped and counted; all
 * others are still queued. Whoever may produce without limit, as a pass-through does, awaits
 * {@linkcode NdjsonWriter.ready} after each line, and so stops at a higher mark.
 */
export class NdjsonWriter {
  /** How many droppable lines were dropped so far. */
  dropped = 0;
  readonly #sink: Sink;
  readonly #dropMark: number;
  readonly #waitMark: number;
  readonly #broken = new AbortController();
  #queue: (string | Uint8Array)[] = [];
  #queued = 0;
  #pump: Promise<void> | undefined;
  #written = Promise.withResolvers<void>();
  #closed = false;

  /** Writes to `sink`, which nobody else may write to. */
  constructor(sink: Sink, options: WriterOptions = {}) {
    this.#sink = sink;
    this.#dropMark = options.dropMark ?? 1 << 20;
    this.#waitMark = options.waitMark ?? 1 << 22;
  }

  /**
   * Aborted as soon as the sink fails; the reason is {@linkcode outputError}'s. What is written
   * afterwards goes nowhere.
   */
  get signal(): AbortSignal {
    return this.#broken.signal;
  }

  /** Whether droppable lines are dropped at the moment. */
  get full(): boolean {
    return this.#queued >= this.#dropMark;
  }

  /** Whether all that was queued is written. */
  get idle(): boolean {
    return this.#pump === undefined;
  }

  /**
   * Queues `value` as one line of JSON.
   *
   * @throws {TypeError} where `value` has no JSON form
   */
  write(value: object, options: WriteOptions = {}): void {
    if (!this.#drops(options)) this.#enqueue(JSON.stringify(value) + "\n");
  }

  /** Queues one line as it is, and adds a line end where it has none. */
  raw(line: string | Uint8Array, options: WriteOptions = {}): void {
    if (this.#drops(options)) return;
    const ended = typeof line === "string" ? line.endsWith("\n") : line.at(-1) === LF;
    // A copy, since a short line would keep the whole chunk that it came in.
    this.#enqueue(typeof line === "string" ? line : line.slice());
    if (!ended) this.#enqueue("\n");
  }

  /** Queues bytes as they are, which must not change any more: whoever reads knows that they are no line. */
  bytes(bytes: Uint8Array): void {
    this.#enqueue(bytes);
  }

  /** Resolves once the queue is below its higher mark, or the sink has failed. */
  async ready(): Promise<void> {
    while (this.#queued >= this.#waitMark) await this.#written.promise;
  }

  /**
   * Resolves once all that was queued so far is written.
   *
   * @throws {ReaderGone} where the reader has gone
   * @throws {Failure} with status OS where the sink failed otherwise
   */
  async flush(): Promise<void> {
    await this.#pump;
    this.signal.throwIfAborted();
  }

  /**
   * Flushes; nothing can be written afterwards. Does not close the sink.
   *
   * @throws {ReaderGone} where the reader has gone
   * @throws {Failure} with status OS where the sink failed otherwise
   */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flush();
  }

  #drops(options: WriteOptions): boolean {
    const drop = options.droppable === true && this.full;
    if (drop) this.dropped++;
    return drop;
  }

  #enqueue(line: string | Uint8Array): void {
    if (this.#closed) throw new TypeError("Cannot write to a closed writer");
    if (this.signal.aborted) return;
    this.#queue.push(line);
    this.#queued += line.length;
    this.#pump ??= this.#run();
  }

  async #run(): Promise<void> {
    // Let the caller's whole turn gather in the first batch.
    await Promise.resolve();
    try {
      while (this.#queue.length > 0) {
        const batch = this.#queue;
        const size = this.#queued;
        this.#queue = [];
        await writeAll(this.#sink, encode(batch));
        this.#queued -= size;
        this.#wake();
      }
    } catch (error) {
      this.#queue = [];
      this.#queued = 0;
      this.#broken.abort(outputError(error));
      this.#wake();
    } finally {
      this.#pump = undefined;
    }
  }

  #wake(): void {
    this.#written.resolve();
    this.#written = Promise.withResolvers<void>();
  }
}

const encoder = new TextEncoder();

function encode(batch: readonly (string | Uint8Array)[]): Uint8Array {
  if (batch.every((line) => typeof line === "string")) return encoder.encode(batch.join(""));
  const parts = batch.map((line) => typeof line === "string" ? encoder.encode(line) : line);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Writes all of `bytes`, in as many parts as it takes. */
export async function writeAll(sink: Sink, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += await sink.write(bytes.subarray(at));
    } catch (error) {
      // Another process may have made a shared terminal or pipe non-blocking.
      if (!(error instanceof Deno.errors.WouldBlock)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
