/**
 * The failure detector and its counterpart on the host that is watched.
 *
 * @module
 */
import { runRealtime } from "../../ffi/scheduler.ts";
import type { UdpAddress } from "../../ffi/udp.ts";
import { familyOf } from "../address.ts";
import type { AuthTypeName } from "../bfd/authentication.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { makeAttempt } from "../probe/make.ts";
import type { ProbeSpec } from "../probe/spec.ts";
import { serveAnnouncements } from "./announce.ts";
import { Detector, type DetectorOptions, type Surroundings } from "./detector.ts";
import { type DetectInput, readInput } from "./input.ts";
import { readKey } from "./key_file.ts";
import {
  addressBytes,
  deviceIndex,
  isLinkLocal,
  type Kind,
  MULTIHOP,
  openNetwork,
  SINGLE_HOP,
} from "./network.ts";
import { Quorum } from "./votes.ts";

export type { Surroundings } from "./detector.ts";

/** What both sides of a detector are told. */
export interface CommonOptions {
  /** The local address; every one of the host's, or the one of the route, unless given. */
  local?: string;
  /** The only interface to use. */
  device?: string;
  /** Interval of the heartbeats, microseconds, 1 to 2^32 - 1. */
  interval: number;
  /** Peers are behind routers: RFC 5883. */
  multihop?: boolean;
  /** With `multihop`, the least TTL or hop limit of the peers' packets, 1 to 255. */
  minTtl?: number;
  /** Authenticates all sessions; none unless given. */
  authentication?: AuthenticationOptions;
  /** A stats event every so many microseconds. */
  statsInterval?: number;
}

/** How packets are authenticated: RFC 5880 section 6.7. */
export interface AuthenticationOptions {
  /** Auth Type. */
  type: AuthTypeName;
  /** Auth Key ID, 0 to 255. */
  keyId: number;
  /** The file that has the key, see {@linkcode readKey}. */
  keyFile: string;
}

/** What {@linkcode detect} is told. */
export interface DetectOptions extends CommonOptions {
  /** Whose heartbeats to watch: address, with zone where link-local, and the name that the events give it. */
  targets: readonly { address: string; name: string }[];
  /** What else to ask, and about whom. */
  probes: readonly { spec: ProbeSpec; target: string }[];
  /** How long a failed target must be good before it has recovered, microseconds. */
  holdDown: number;
  /** Events to pass on and to take note of; none unless given. */
  input?: DetectInput;
  /** Missed heartbeats that make a failure, 1 to 255. */
  multiplier: number;
  /** A target is suspect after so many intervals without a packet, or a failed probe; never where 0. */
  suspectIntervals: number;
}

/** What {@linkcode respond} is told. */
export interface RespondOptions extends CommonOptions {
  /** Who may watch, addresses with zone where link-local; everyone where empty. */
  allowed: readonly string[];
  /** Where the control socket is. */
  runDir: string;
  /** The most sessions to keep, 1 or more. */
  maxSessions: number;
  /** Missed heartbeats that make a failure; as each peer says for itself unless given. */
  multiplier?: number;
}

/**
 * Watches targets until `around.stop`, and then tells them that it went on purpose. Where it watches none by itself, the
 * end of the input is its end, too.
 *
 * @throws {Failure} where the sockets or the key cannot be had
 */
export async function detect(options: DetectOptions, around: Surroundings): Promise<void> {
  const { targets, probes, interval, multiplier, suspectIntervals, holdDown, input } = options;
  const { emitter, clock } = around;
  const addresses = targets.map(({ address }) => udpAddress(address, options));
  const families = addresses.map(({ address }) => address.length === 4 ? 4 as const : 6 as const);
  const common = prepare(options, families, around);
  const timers = sameTimers(interval, multiplier);
  const done = new AbortController();
  const stop = AbortSignal.any([around.stop, done.signal]);
  const quorum = input?.require === undefined ? undefined : new Quorum({
    ...{ require: input.require, holdDown, emitter, clock, host: Deno.hostname() },
    settle: (task) => detector.settle(task),
  });
  const detector: Detector = new Detector({
    ...{ ...around, stop, ...common, timers, sink: quorum },
    // The quorum holds its own recovery down.
    holdDown: quorum === undefined ? holdDown : 0,
    moreStats: () => quorum === undefined ? {} : { quorum: quorum.stats, refused: quorum.refused },
  });
  announceStart(options, targets.map(({ address }) => address), multiplier, around, {
    probes: probes.length === 0 ? undefined : probes.map(({ spec }) => spec.name),
    hold_down_ms: holdDown === 0 ? undefined : holdDown / 1000,
    on: input?.on,
    require: input?.require,
  });
  targets.forEach(({ address, name }, i) =>
    detector.watch(addresses[i]!, address, name, suspectIntervals)
  );
  for (const { spec, target } of probes) {
    detector.probe(spec, makeAttempt(spec), target, suspectIntervals > 0);
  }
  const reading = input === undefined
    ? undefined
    : readInput(input, detector, quorum, emitter, stop).then(() => {
      if (targets.length + probes.length === 0) done.abort();
    }, (error) => {
      done.abort();
      throw error;
    });
  await Promise.all([detector.run(), reading]);
}

/**
 * Answers whoever watches this host until `around.stop`, and then tells them that it goes down.
 *
 * @throws {Failure} where the sockets or the key cannot be had
 */
export async function respond(options: RespondOptions, around: Surroundings): Promise<void> {
  const { interval, multiplier, runDir } = options;
  const allowed = options.allowed.map((address) => udpAddress(address, options));
  const common = prepare(options, [4, 6], around);
  const timers = sameTimers(interval, multiplier ?? 1);
  const answering = { allowed, limit: options.maxSessions, detectMult: multiplier };
  const detector = new Detector({ ...around, ...common, timers, answering });
  const control = await serveAnnouncements(
    runDir,
    () => detector.announceDown(),
    around.emitter,
  );
  announceStart(options, options.allowed, multiplier, around);
  try {
    await detector.run();
  } finally {
    await control?.[Symbol.asyncDispose]();
  }
}

/** What both sides need: key and sockets. */
function prepare(
  options: CommonOptions,
  families: readonly (4 | 6)[],
  around: Surroundings,
): Pick<DetectorOptions, "network" | "kind" | "authKey" | "statsInterval"> {
  const { local, device, statsInterval, authentication } = options;
  const kind = kindOf(options);
  const authKey = authentication && {
    type: authentication.type,
    keyId: authentication.keyId,
    key: readKey(authentication.keyFile, authentication.type),
  };
  const network = openNetwork({ kind, local, device, families, random: around.random });
  return { network, kind, authKey, statsInterval };
}

function announceStart(
  options: CommonOptions,
  peers: readonly string[],
  multiplier: number | undefined,
  { emitter }: Surroundings,
  more: Record<string, unknown> = {},
): void {
  const { local, interval, multihop, authentication } = options;
  emitter.emit("started", {
    peers: peers.length === 0 ? undefined : peers,
    local,
    port: kindOf(options).port,
    min_ttl: multihop ? kindOf(options).minTtl : undefined,
    interval_ms: interval / 1000,
    multiplier,
    auth_type: authentication?.type,
    ...more,
    realtime: runRealtime(),
  });
}

function kindOf({ multihop, minTtl = MULTIHOP.minTtl }: CommonOptions): Kind {
  return multihop ? { ...MULTIHOP, minTtl } : SINGLE_HOP;
}

function sameTimers(
  interval: number,
  detectMult: number,
): { desiredMinTxInterval: number; requiredMinRxInterval: number; detectMult: number } {
  return { desiredMinTxInterval: interval, requiredMinRxInterval: interval, detectMult };
}

/** The peer's address for the sockets, checked against the other flags. */
function udpAddress(text: string, options: CommonOptions): UdpAddress {
  const { local, device, multihop } = options;
  const [plain = "", zone = device] = text.split("%");
  if (local !== undefined && familyOf(local) !== familyOf(plain)) {
    throw new Failure(
      ExitStatus.USAGE,
      `Local address "${local}" and peer "${text}" are of different IP versions`,
      { mend: `give a --local of the peer's version, or leave it out` },
    );
  }
  const address = addressBytes(plain);
  const { port } = kindOf(options);
  if (!isLinkLocal(address)) return { address, port, scopeId: 0 };
  if (multihop) {
    throw new Failure(ExitStatus.USAGE, `Peer "${text}" is link-local`, {
      mend: `leave --multihop out: no router passes such packets on`,
    });
  }
  if (zone === undefined) {
    throw new Failure(ExitStatus.USAGE, `Peer "${text}" is link-local`, {
      mend: `say which link it is on, as "${text}%eth0" or by --interface`,
    });
  }
  if (device !== undefined && zone !== device) {
    throw new Failure(ExitStatus.USAGE, `Peer "${text}" is not on interface "${device}"`, {
      mend: `leave --interface out, or name the same one`,
    });
  }
  return { address, port, scopeId: deviceIndex(zone) };
}
