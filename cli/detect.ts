/**
 * `t2cp detect`: watches a host, or answers those who watch this one.
 *
 * @module
 */
import { buildCommand, type Command, type CommandContext } from "@stricli/core";
import { parseAddress } from "../lib/address.ts";
import type { AuthTypeName } from "../lib/bfd/authentication.ts";
import type { AuthenticationOptions } from "../lib/detect/detect.ts";
import { assignProbes } from "../lib/detect/naming.ts";
import { ExitStatus, Failure } from "../lib/failure.ts";
import { parseProbe, type ProbeSpec } from "../lib/probe/spec.ts";
import {
  parseInterface,
  parseName,
  parsePath,
  parsePositive,
  parseType,
  runDirFlag,
  statsFlag,
  wholeNumber,
} from "./common/flags.ts";

interface Flags {
  peer?: string[];
  respond: boolean;
  probe?: ProbeSpec[];
  "hold-down"?: number;
  on?: string;
  require?: number;
  "announce-down": boolean;
  runDir: string;
  local?: string;
  interface?: string;
  interval?: number;
  multiplier?: number;
  suspect?: number;
  target?: string;
  multihop: boolean;
  "min-ttl"?: number;
  "auth-type"?: AuthTypeName;
  "auth-key-id"?: number;
  "auth-key-file"?: string;
  "max-sessions"?: number;
  stats?: number;
}

const DEFAULTS = { interval: 50, multiplier: 3, suspect: 1.5 } as const;

/** The responder follows its peers' intervals down to this one, in milliseconds. */
const RESPOND_INTERVAL = 10;

/** The sessions that the responder keeps. */
const RESPOND_SESSIONS = 1024;

const AUTH_TYPES = [
  "simple",
  "keyed-md5",
  "meticulous-keyed-md5",
  "keyed-sha1",
  "meticulous-keyed-sha1",
] as const satisfies AuthTypeName[];

const description =
  `Watches hosts by BFD heartbeats (RFC 5880, 5881 and 5883) and by probes, and prints the
events up, suspect, failed and recovered. The watched host runs
"t2cp detect --respond", or any other BFD speaker.

  On the primary:  t2cp detect --respond
  On the backup:   t2cp detect --peer 10.0.0.1 | t2cp takeover --on failed
  Before maintenance, on the primary: t2cp detect --announce-down
  Authenticated:   t2cp detect --peer 10.0.0.1 \\
                     --auth-type meticulous-keyed-sha1 --auth-key-file /etc/t2cp/bfd.key
  Across a router: t2cp detect --peer 192.0.2.1 --multihop
  The server, too: t2cp detect --peer 10.0.0.1 \\
                     --probe http://10.0.0.1/health,interval=200,timeout=100,fall=2
  Two must agree:  { ssh gateway t2cp detect --peer 10.0.0.1 & \\
                     t2cp detect --peer 10.0.0.1; } | t2cp detect --require 2

The host has failed when no heartbeat came for INTERVAL times MULTIPLIER,
150 ms unless told otherwise, or when it announces that it goes down; its
application, when a probe failed FALL times in a row.
t2cp-detect(8) tells more.`;

/**
 * The command `detect`.
 *
 * @ignore
 */
export const command: Command<CommandContext> = buildCommand({
  docs: {
    brief: "Watch a host by heartbeats and probes, or answer those who watch it",
    fullDescription: description,
    customUsage: [
      "[--peer ADDRESS]... [--probe PROBE]... [--target NAME] [--hold-down SECONDS]",
      "--respond [--peer ADDRESS]... [--interval MS] [--multiplier N]",
      "--announce-down [--run-dir DIR]",
    ],
  },
  parameters: {
    flags: {
      peer: {
        kind: "parsed",
        parse: parsePeer,
        brief: "Host to watch; with --respond, who may watch; may be repeated",
        placeholder: "ADDRESS",
        variadic: true,
        optional: true,
      },
      respond: {
        kind: "boolean",
        brief: "Answer those who watch this host",
        default: false,
        withNegated: false,
      },
      probe: {
        kind: "parsed",
        parse: parseProbe,
        brief:
          "Ask this, too: tcp://HOST:PORT, http://HOST/PATH, icmp:HOST, exec:COMMAND; repeatable",
        placeholder: "PROBE",
        variadic: true,
        optional: true,
      },
      "hold-down": {
        kind: "parsed",
        parse: parsePositive,
        brief: "Seconds that a failed host must be good before it has recovered; 0",
        placeholder: "SECONDS",
        optional: true,
      },
      on: {
        kind: "parsed",
        parse: parseType,
        brief: "Read events, and let all probes ask at once when one of this type comes",
        placeholder: "TYPE",
        optional: true,
      },
      require: {
        kind: "parsed",
        parse: wholeNumber(1, 255),
        brief: "Read events of other detectors; so many must agree on a failure",
        placeholder: "N",
        optional: true,
      },
      "announce-down": {
        kind: "boolean",
        brief: "Let the responder on this host tell all who watch it that it goes down",
        default: false,
        withNegated: false,
      },
      runDir: runDirFlag,
      local: {
        kind: "parsed",
        parse: parseHost,
        brief: "Use this address of this host only",
        placeholder: "ADDRESS",
        optional: true,
      },
      interface: {
        kind: "parsed",
        parse: parseInterface,
        brief: "Use this network interface only",
        placeholder: "NAME",
        optional: true,
      },
      interval: {
        kind: "parsed",
        parse: wholeNumber(1, 60_000),
        brief: "Milliseconds between heartbeats; 50, with --respond at least 10",
        placeholder: "MS",
        optional: true,
      },
      multiplier: {
        kind: "parsed",
        parse: wholeNumber(1, 255),
        brief: "Missed heartbeats that make a failure; 3, with --respond as the peer says",
        placeholder: "N",
        optional: true,
      },
      suspect: {
        kind: "parsed",
        parse: parseIntervals,
        brief: "Intervals without a heartbeat that make a suspect; 1.5, 0 for never",
        placeholder: "N",
        optional: true,
      },
      target: {
        kind: "parsed",
        parse: parseName,
        brief: "Name of the watched host in the events; the peer's address unless given",
        placeholder: "NAME",
        optional: true,
      },
      multihop: {
        kind: "boolean",
        brief: "Peers are behind routers (RFC 5883, UDP port 4784)",
        default: false,
        withNegated: false,
      },
      "min-ttl": {
        kind: "parsed",
        parse: wholeNumber(1, 255),
        brief: "With --multihop, the least TTL to accept, 255 less the routers; 254",
        placeholder: "N",
        optional: true,
      },
      "auth-type": {
        kind: "enum",
        values: AUTH_TYPES,
        brief: "Authenticate packets, both ways (RFC 5880 section 6.7)",
        optional: true,
      },
      "auth-key-id": {
        kind: "parsed",
        parse: wholeNumber(0, 255),
        brief: "Number of the key; 1",
        placeholder: "N",
        optional: true,
      },
      "auth-key-file": {
        kind: "parsed",
        parse: parsePath,
        brief: "File with the key, open to its owner only",
        placeholder: "FILE",
        optional: true,
      },
      "max-sessions": {
        kind: "parsed",
        parse: wholeNumber(1, 16_384),
        brief: `With --respond, the most sessions; ${RESPOND_SESSIONS}`,
        placeholder: "N",
        optional: true,
      },
      stats: statsFlag,
    },
  },
  async func(flags: Flags) {
    check(flags);
    if (flags["announce-down"]) {
      const { announceDown } = await import("../lib/detect/announce.ts");
      return await announceDown(flags.runDir);
    }
    const { detect, respond } = await import("../lib/detect/detect.ts");
    const { openOutput } = await import("./common/context.ts");
    const { peer = [], local, stats } = flags;
    const common = {
      local,
      device: flags.interface,
      multihop: flags.multihop,
      minTtl: flags["min-ttl"],
      authentication: authentication(flags),
      statsInterval: stats === undefined ? undefined : stats * 1e6,
    };
    const output = openOutput("detect");
    const around = {
      emitter: output.emitter,
      stop: output.stop,
      clock: () => performance.now() * 1000,
      random: Math.random,
    };
    if (flags.respond) {
      const { interval = RESPOND_INTERVAL, multiplier } = flags;
      const maxSessions = flags["max-sessions"] ?? RESPOND_SESSIONS;
      const options = {
        allowed: peer,
        interval: interval * 1000,
        multiplier,
        maxSessions,
        runDir: flags.runDir,
      };
      await respond({ ...common, ...options }, around);
    } else {
      const { interval, multiplier, suspect } = { ...DEFAULTS, ...defined(flags) };
      const targets = peer.map((address) => ({ address, name: flags.target ?? address }));
      const timers = { interval: interval * 1000, multiplier, suspectIntervals: suspect };
      const probes = assignProbes(flags.probe ?? [], peer, flags.target);
      const holdDown = (flags["hold-down"] ?? 0) * 1e6;
      const { on, require } = flags;
      const warn = (message: string): void => console.error(`t2cp detect: ${message}`);
      const input = (on ?? require) === undefined
        ? undefined
        : { stream: Deno.stdin.readable, writer: output.writer, warn, on, require };
      await detect({ ...common, ...timers, targets, probes, holdDown, input }, around);
    }
    await output.close();
  },
});

/** Refuses flags that do not go together. */
function check(flags: Flags): void {
  const { peer = [], respond, probe = [], local, suspect, target } = flags;
  if (flags["announce-down"]) return checkAnnouncement(flags);
  if (flags["min-ttl"] !== undefined && !flags.multihop) {
    refuse("--min-ttl has no meaning without --multihop", "give both, or leave it out");
  }
  if (respond) {
    if (target !== undefined) refuse("--target has no meaning with --respond", "leave it out");
    if (suspect !== undefined) refuse("--suspect has no meaning with --respond", "leave it out");
    if (probe.length > 0) refuse("--probe has no meaning with --respond", "leave it out");
    for (const name of ["hold-down", "on", "require"] as const) {
      if (flags[name] !== undefined) {
        refuse(`--${name} has no meaning with --respond`, "leave it out");
      }
    }
    return;
  }
  if (flags["max-sessions"] !== undefined) {
    refuse("--max-sessions has no meaning without --respond", "leave it out");
  }
  if (peer.length === 0) checkWithoutPeer(flags);
  if (flags.on !== undefined && probe.length === 0) {
    refuse("--on has no meaning without --probe", "give both, or leave it out");
  }
  if (target !== undefined && peer.length > 1) {
    refuse(`--target "${target}" would name several peers`, "watch one peer, or leave it out");
  }
  const twice = peer.find((address, i) => peer.indexOf(address) !== i);
  if (twice !== undefined) refuse(`Peer "${twice}" is given twice`, "leave one out");
  if (local !== undefined && peer.includes(local)) {
    refuse(`Peer "${local}" is the local address too`, "give the address of another host");
  }
}

/** What the responder is told is its own address alone. */
function checkAnnouncement(flags: Flags): void {
  const { "announce-down": _announce, runDir: _runDir, ...others } = flags;
  const [useless] =
    Object.entries(others).find(([, value]) => value !== undefined && value !== false) ?? [];
  if (useless !== undefined) {
    refuse(`--${useless} has no meaning with --announce-down`, "leave it out");
  }
}

/** What is about heartbeats needs them, and what is about a host a host to watch. */
function checkWithoutPeer(flags: Flags): void {
  if ((flags.probe ?? flags.require) === undefined) {
    refuse("No peer to watch", `give --peer ADDRESS or --probe PROBE, or --respond to be watched`);
  }
  const names = ["local", "interface", "interval", "multiplier", "auth-type"] as const;
  const useless = names.find((name) => flags[name] !== undefined) ??
    (flags.multihop ? "multihop" : undefined);
  if (useless !== undefined) {
    refuse(`--${useless} has no meaning without --peer`, "give both, or leave it out");
  }
  if (flags.probe !== undefined) return;
  const idle = (["target", "suspect"] as const).find((name) => flags[name] !== undefined);
  if (idle !== undefined) {
    refuse(`--${idle} has no meaning without --peer or --probe`, "give one, or leave it out");
  }
}

function authentication(flags: Flags): AuthenticationOptions | undefined {
  const { "auth-type": type, "auth-key-id": keyId, "auth-key-file": keyFile } = flags;
  if (type === undefined && keyId === undefined && keyFile === undefined) return undefined;
  if (type === undefined) refuse("--auth-type is missing", `name one of ${AUTH_TYPES.join(", ")}`);
  if (keyFile === undefined) refuse("--auth-key-file is missing", "name the file with the key");
  return { type, keyId: keyId ?? 1, keyFile };
}

function refuse(message: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, message, { mend });
}

/** The flags that were given. */
function defined<T extends object>(flags: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(flags).filter(([, value]) => value !== undefined),
  ) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** The address of one host: not every address, broadcast or multicast. */
function parseHost(text: string): string {
  const address = parseAddress(text);
  const first = Number(address.split(".", 1)[0]);
  const many = address.includes(":") ? /^(::|ff..:.*)$/.test(address) : first === 0 || first >= 224;
  if (many) refuse(`"${text}" is not the address of one host`, `write one such as "10.0.0.1"`);
  return address;
}

/** The address of one host, link-local ones with a zone: `fe80::1%eth0`. */
function parsePeer(text: string): string {
  const zone = /^([^%]*)%([^%]*)$/.exec(text);
  if (zone === null) return parseHost(text);
  const address = parseHost(zone[1]!);
  if (!/^fe[89ab].:/.test(address)) {
    refuse(`Only link-local addresses have a zone, not "${text}"`, `write "${address}"`);
  }
  return `${address}%${parseInterface(zone[2]!)}`;
}

function parseIntervals(text: string): number {
  const value = /^[0-9]{1,3}(\.[0-9]{1,3})?$/.test(text) ? Number(text) : NaN;
  if (Number.isNaN(value)) {
    refuse(`"${text}" is not a number of intervals`, `write one such as "1.5", or "0" for never`);
  }
  return value;
}
