/**
 * `t2cp record`: flags and help.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { isMac, parseAddress, type Service } from "../lib/address.ts";
import manifest from "../deno.json" with { type: "json" };
import { MIN_ROTATE_SIZE } from "../lib/capture/file_series.ts";
import { MAX_SNAPLEN } from "../lib/capture/writer.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import type { FileOptions } from "../lib/recorder/capture_files.ts";
import { runFollow } from "../lib/recorder/follow.ts";
import { runOffline } from "../lib/recorder/offline.ts";
import { runRecord } from "../lib/recorder/run.ts";
import { withOutput } from "./common/context.ts";
import {
  parseInterface,
  parsePath,
  parsePositive,
  parseSize,
  runDirFlag,
  serviceFlag,
  statsFlag,
  wholeNumber,
} from "./common/flags.ts";

interface Flags {
  interface?: string;
  read?: string;
  follow: boolean;
  service: Service[];
  backup?: string;
  budget: number;
  window?: number;
  buffer?: number;
  filter: string;
  flows: boolean;
  stats?: number;
  runDir: string;
  write?: string;
  rotateSize?: number;
  rotateTime?: number;
  keep?: number;
  rotateExec?: string;
  snaplen?: number;
}

const APPLICATION = `t2cp ${manifest.version}`;
const MIB = 1 << 20;
const MIN_BUDGET = 4 * MIB;
/** The kernel's ring unless given: a quarter of the budget, and not more than this. */
const MAX_BUFFER = 64 * MIB;
const MIN_BUFFER = 4 * MIB;
/** Less would cut every Ethernet header. */
const MIN_SNAPLEN = 14;

function parseCommand(text: string): string {
  if (text.trim() !== "") return text;
  throw new Failure(ExitStatus.USAGE, "The command for finished files is empty", {
    mend: `write one such as "zstd -q --rm"`,
  });
}

function parseHost(text: string): string {
  return isMac(text) ? text : parseAddress(text);
}

async function record(flags: Flags): Promise<void> {
  if (flags.follow) return await follow(flags);
  if (flags.read !== undefined) return await readFile(flags, flags.read);
  if (flags.interface === undefined) {
    throw new Failure(ExitStatus.USAGE, `Flag "--interface" or "--read" is needed`, {
      mend: "t2cp record --interface eth0 --service 10.0.0.1:80",
    });
  }
  const { budget } = flags;
  const buffer = bufferSize(flags);
  if (buffer > budget / 2) {
    throw new Failure(ExitStatus.USAGE, "The kernel's ring takes more than half of the budget", {
      mend: "give a larger --budget or a smaller --buffer",
    });
  }
  const window = flags.window ?? (budget - buffer) / 4;
  if (window > budget - buffer) throw windowTooLarge();
  const options = {
    ...flags,
    interface: flags.interface,
    services: flags.service,
    buffer,
    window,
    files: fileOptions(flags),
  };
  await withOutput("record", ({ emitter, stop }) => runRecord(options, emitter, stop));
}

/** The kernel's ring. */
function bufferSize({ buffer, budget }: Flags): number {
  return buffer ?? Math.max(MIN_BUFFER, Math.min(MAX_BUFFER, budget / 4));
}

async function follow(flags: Flags): Promise<void> {
  const { interface: name, read, window } = flags;
  if (name === undefined) {
    throw new Failure(ExitStatus.USAGE, `Flag "--interface" is needed with "--follow"`, {
      mend: "t2cp record --follow --interface eth0 --service 10.0.0.1:80",
    });
  }
  const other = read ?? window ?? fileOptions(flags);
  if (other !== undefined || flags.flows) {
    throw new Failure(ExitStatus.USAGE, `With "--follow" nothing is kept, read or filed`, {
      mend: "leave out --read, --window, --flows and --write, or start a second t2cp record",
    });
  }
  if (Deno.stdout.isTerminal()) {
    throw new Failure(ExitStatus.USAGE, "A capture is not for a terminal", {
      mend: "pipe it, as in t2cp record --follow … | t2cp replay - --to staging:80",
    });
  }
  const options = {
    ...flags,
    interface: name,
    services: flags.service,
    buffer: bufferSize(flags),
    application: APPLICATION,
  };
  await withOutput(
    "record",
    ({ emitter, stop }) => runFollow(options, Deno.stdout, emitter, stop),
    Deno.stderr,
  );
}

async function readFile(flags: Flags, file: string): Promise<void> {
  const { interface: name, backup, buffer, budget } = flags;
  if ((name ?? backup ?? buffer) !== undefined || fileOptions(flags) !== undefined) {
    throw new Failure(ExitStatus.USAGE, "A file is read, and an interface asked for, too", {
      mend: "leave out --read, or --interface, --backup, --buffer and --write",
    });
  }
  const window = flags.window ?? budget / 4;
  if (window > budget) throw windowTooLarge();
  const options = { ...flags, file, services: flags.service, window };
  await withOutput("record", ({ emitter, stop }) => runOffline(options, emitter, stop));
}

function windowTooLarge(): Failure {
  return new Failure(ExitStatus.USAGE, "The window of a flow is larger than the budget", {
    mend: "give a larger --budget or a smaller --window",
  });
}

/** What the flags say of capture files; undefined where there are to be none. */
function fileOptions(flags: Flags): FileOptions | undefined {
  const { write, rotateSize, rotateTime, keep, rotateExec, snaplen } = flags;
  const rotates = rotateSize !== undefined || rotateTime !== undefined;
  if (keep !== undefined && !rotates) {
    throw new Failure(ExitStatus.USAGE, `Without rotation there are no files to keep`, {
      mend: "give --rotate-size or --rotate-time, too",
    });
  }
  if (write === undefined) {
    if (!rotates && rotateExec === undefined && snaplen === undefined) return undefined;
    throw new Failure(ExitStatus.USAGE, `Flags about capture files need "--write"`, {
      mend: "name their directory with --write",
    });
  }
  return {
    directory: write,
    rotateSize,
    rotateTime: rotateTime === undefined ? undefined : rotateTime * 1000,
    keep,
    rotateExec,
    snaplen: snaplen ?? MAX_SNAPLEN,
    application: APPLICATION,
  };
}

/**
 * The `record` command.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  func: record,
  parameters: {
    flags: {
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Interface to capture on",
        placeholder: "NAME",
        optional: true,
      },
      read: {
        kind: "parsed",
        parse: parsePath,
        brief: "Capture file to read instead, - for stdin: pcap, pcapng, also gzip, zstd",
        placeholder: "FILE",
        optional: true,
      },
      follow: {
        kind: "boolean",
        brief: "Write what is captured to stdout, as pcapng, for t2cp replay; events go to stderr",
        default: false,
        withNegated: false,
      },
      service: serviceFlag,
      backup: {
        kind: "parsed",
        parse: parseHost,
        brief: "The backup's MAC or own IP address, whose copies are not captured",
        placeholder: "HOST",
        optional: true,
      },
      budget: {
        kind: "parsed",
        parse: parseSize(MIN_BUDGET, 2 ** 32),
        brief: "Memory in all, such as 512M",
        placeholder: "SIZE",
        default: "256M",
      },
      window: {
        kind: "parsed",
        parse: parseSize(64 << 10, 2 ** 30),
        brief: "Memory for one flow; a quarter of what the ring leaves unless given",
        placeholder: "SIZE",
        optional: true,
      },
      buffer: {
        kind: "parsed",
        parse: parseSize(MIN_BUFFER, 2 ** 30),
        brief: "The kernel's ring; a quarter of the budget, at most 64M, unless given",
        placeholder: "SIZE",
        optional: true,
      },
      filter: {
        kind: "parsed",
        parse: (text: string): string => text.trim(),
        brief: "What frames must pass, too, as pcap-filter(7) has it",
        placeholder: "FILTER",
        default: "",
      },
      write: {
        kind: "parsed",
        parse: parsePath,
        brief: "Directory for capture files in pcapng format",
        placeholder: "DIR",
        optional: true,
      },
      rotateSize: {
        kind: "parsed",
        parse: parseSize(MIN_ROTATE_SIZE, 2 ** 40),
        brief: "Begin the next file before one has more bytes, such as 100M",
        placeholder: "SIZE",
        optional: true,
      },
      rotateTime: {
        kind: "parsed",
        parse: parsePositive,
        brief: "Begin the next file so many seconds after a file's first frame",
        placeholder: "SECONDS",
        optional: true,
      },
      keep: {
        kind: "parsed",
        parse: wholeNumber(2, 1_000_000),
        brief: "Remove the oldest files where there are more",
        placeholder: "N",
        optional: true,
      },
      rotateExec: {
        kind: "parsed",
        parse: parseCommand,
        brief: "Shell command to run for each finished file, whose path it gets",
        placeholder: "COMMAND",
        optional: true,
      },
      snaplen: {
        kind: "parsed",
        parse: wholeNumber(MIN_SNAPLEN, MAX_SNAPLEN),
        brief: "Write only so many bytes of each frame",
        placeholder: "BYTES",
        optional: true,
      },
      flows: { kind: "boolean", brief: "Report every opened and closed flow", default: false },
      stats: statsFlag,
      runDir: runDirFlag,
    },
  },
  docs: {
    brief: "Keep what the clients send until the backup has it, on the gateway",
    fullDescription:
      `Captures what the clients send to the service and keeps it in memory, so that "t2cp replay" on the
backup can fetch what it has missed. What the backup has acknowledged is given up.

Example, on the gateway:
  t2cp record --interface br0 --backup 10.77.0.12 --service 10.77.0.100:80
  t2cp record --interface br0 --backup 10.77.0.12 --service 10.77.0.100:80 \\
    --write /var/spool/t2cp --rotate-size 100M --keep 20 --rotate-exec 'zstd -q --rm'
  t2cp record --read old.pcapng.zst --service 10.77.0.100:80 --flows
  t2cp record --follow --interface br0 --service 10.77.0.100:80 | t2cp replay - --to staging:80`,
  },
});
