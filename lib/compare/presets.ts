/**
 * Masks for what commonly differs between two servers, or two runs of one.
 *
 * @module
 */

/** A mask that has a name. */
export interface Preset {
  /** What it hides, for the help. */
  readonly brief: string;
  /** The expressions. */
  readonly patterns: readonly string[];
}

/** A header field with its value, of HTTP, SMTP and their kin. */
function fields(...names: readonly string[]): string[] {
  return names.map((name) => `(?i)^${name}:.*`);
}

const HEX = "[0-9a-fA-F]";

/** The presets by name. */
export const PRESETS: Readonly<Record<string, Preset>> = {
  "http-date": {
    brief: "the fields Date, Last-Modified, Expires and Age",
    patterns: fields("Date", "Last-Modified", "Expires", "Age"),
  },
  "http-etag": { brief: "the field ETag", patterns: fields("ETag") },
  "http-cookie": { brief: "the fields Set-Cookie", patterns: fields("Set-Cookie") },
  "http-id": {
    brief: "fields that number a request: X-Request-Id, X-Trace-Id, traceparent and the like",
    patterns: fields(
      "(X-)?(Amzn-|B3-|Cloud-)?(Request|Trace|Correlation|Span|ParentSpan|Transaction)-?Id",
      "traceparent",
      "tracestate",
      "X-Amz-Cf-Id",
      "CF-Ray",
      "X-Runtime",
      "X-Response-Time",
      "Server-Timing",
    ),
  },
  "http-server": {
    brief: "fields that name the server: Server, Via, X-Powered-By, X-Served-By, X-Cache, Alt-Svc",
    patterns: fields("Server", "Via", "X-Powered-By", "X-Served-By", "X-Cache(-Hits)?", "Alt-Svc"),
  },
  "http-length": {
    brief: "the fields Content-Length and Content-MD5, for bodies that are masked themselves",
    patterns: fields("Content-Length", "Content-MD5"),
  },
  "http": { brief: "all of the above but http-server and http-length", patterns: [] },
  "time": {
    brief: "times and dates as RFC 3339, RFC 9110, syslog and ctime write them",
    patterns: [
      "[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9])?([.,][0-9]+)?(Z|[+-][0-9]{2}:?[0-9]{2})?",
      "(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [0-9A-Za-z ]{5,11} [0-9 :]{8,13}( GMT| UTC| [+-][0-9]{4})?",
      "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9]",
    ],
  },
  "uuid": {
    brief: "UUIDs",
    patterns: [`${HEX}{8}-${HEX}{4}-${HEX}{4}-${HEX}{4}-${HEX}{12}`],
  },
};
