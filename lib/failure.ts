/**
 * Failures that a user can mend: a message, what to do about it, and an exit status.
 *
 * @module
 */

/** The exit statuses of every command; the numbers are those of sysexits.h. */
export const ExitStatus = {
  /** Done. */
  OK: 0,
  /** Done, and what was compared differs, as diff(1) and cmp(1) say it. */
  DIFFERS: 1,
  /** Wrong use: an unknown command, a wrong flag or argument (EX_USAGE). */
  USAGE: 64,
  /** The input data is wrong (EX_DATAERR). */
  BAD_INPUT: 65,
  /** An input file or a device does not exist (EX_NOINPUT). */
  NO_INPUT: 66,
  /** Something that is needed is not there: a service, a library, a kernel function (EX_UNAVAILABLE). */
  UNAVAILABLE: 69,
  /** A bug in t2cp (EX_SOFTWARE). */
  BUG: 70,
  /** The operating system refused what should work (EX_OSERR). */
  OS: 71,
  /** It may work when tried again (EX_TEMPFAIL). */
  TEMPORARY: 75,
  /** Not permitted (EX_NOPERM). */
  NO_PERMISSION: 77,
} as const;

/** One of the numbers of {@linkcode ExitStatus}. */
export type ExitStatus = typeof ExitStatus[keyof typeof ExitStatus];

/** What a {@linkcode Failure} may carry beside its message. */
export interface FailureOptions {
  /** What the user can do about it, in the imperative: `write "10.0.0.1:80"`. */
  mend?: string;
  /** The error that led to this one. */
  cause?: unknown;
}

/**
 * An expected failure. The command line shows it as one line, `t2cp COMMAND: message; mend`, and
 * exits with its status; every other error is shown as a bug, with its stack.
 */
export class Failure extends Error {
  /** The exit status of the process. */
  readonly status: ExitStatus;
  /** What the user can do about it. */
  readonly mend: string | undefined;

  /** `message` starts with a capital letter, has no full stop, and quotes the values it names. */
  constructor(status: ExitStatus, message: string, options: FailureOptions = {}) {
    super(message, { cause: options.cause });
    this.name = "Failure";
    this.status = status;
    this.mend = options.mend;
  }

  /** Message and mend as one line. */
  get line(): string {
    const parts = this.mend === undefined ? [this.message] : [this.message, this.mend];
    return parts.map((part) => part.trim().replaceAll(/\s*\n\s*/g, " ")).join("; ");
  }
}
