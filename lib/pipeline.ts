/**
 * A command's place in a pipeline of events: it lets every line pass and acts on those it knows.
 *
 * @module
 */
import { formatTime, nowMicros } from "./clock.ts";
import { type Event, isDroppable, parseEvent } from "./event.ts";
import { ExitStatus, Failure } from "./failure.ts";
import { decodeLine, type NdjsonWriter, readRawLines } from "./ndjson.ts";

/** Settings of {@linkcode passThrough}. */
export interface PassOptions {
  /** Called with each event, known type or not, after its line is queued for the output. */
  onEvent: (event: Event) => void;
  /**
   * Called with each event before it passes. Makes the one that passes in its place; undefined lets it pass itself. Where
   * it takes its time, all that follows waits.
   */
  replace?: (event: Event) => object | undefined | Promise<object | undefined>;
  /** Told about each line that is no event, with its number. */
  warn: (message: string) => void;
  /** A line that is no event ends the command instead of a warning. */
  strict?: boolean;
  /** The longest line in bytes; longer ones are no events and cannot pass. */
  maxLine?: number;
  /** Ends the reading in order. */
  signal?: AbortSignal;
}

/**
 * Passes every line of `input` to `writer` byte by byte, also those that are no events, until the
 * input ends; a last line without a line end gets one. Only a line longer than `maxLine` is left
 * out. Blank lines pass without a warning.
 *
 * A reader of the output that stalls must not keep this command from acting, so reading goes on:
 * see {@linkcode NdjsonWriter} for what is dropped then.
 *
 * @throws {Failure} with status BAD_INPUT at the first line that is no event, where `strict`
 */
export async function passThrough(
  input: ReadableStream<Uint8Array>,
  writer: NdjsonWriter,
  options: PassOptions,
): Promise<void> {
  const { onEvent, replace, warn, strict = false, maxLine, signal } = options;
  for await (const line of readRawLines(input, { maxLine, signal })) {
    let event: Event | string;
    if ("error" in line) {
      event = `${line.error}, and was left out`;
    } else {
      const text = decodeLine(line.bytes);
      if (text?.trim() === "") {
        writer.raw(line.bytes);
        continue;
      }
      event = text === undefined ? "it is not valid UTF-8" : parseEvent(text);
      const droppable = typeof event === "object" && isDroppable(event.type);
      const made = typeof event === "object" ? replace?.(event) : undefined;
      const other = made instanceof Promise ? await made : made;
      if (other === undefined) writer.raw(line.bytes, { droppable });
      else writer.write(other, { droppable });
    }
    if (typeof event === "object") {
      onEvent(event);
    } else {
      const message = `Line ${line.number} of the input is no event: ${event}`;
      if (strict) throw new Failure(ExitStatus.BAD_INPUT, message);
      warn(message);
    }
    await writer.ready();
  }
}

/** Parses a made-up event, and gives it to `take`, often enough for V8 to compile the code that the real one will run. */
export function rehearseEvents(take: (event: Event) => void = () => {}): void {
  const time = formatTime(nowMicros());
  const line = JSON.stringify({
    ...{ v: 1, type: "failed", time, by: "detect", host: "host", target: "rehearsal" },
    ...{ level: "host", cause: "unplanned", evidence: [], last_seen: time },
  });
  for (let i = 0; i < 200; i++) {
    const event = parseEvent(line);
    if (typeof event === "object") take(event);
  }
}
