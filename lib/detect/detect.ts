/**
 * The failure detector and its counterpart on the host that is watched.
 *
 * @module
 */
import { runRealtime } from "../../ffi/scheduler.ts";
import type { UdpAddress } from "../../ffi/udp.ts";
import { familyOf } from "../address.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { Detector, type Surroundings } from "./detector.ts";
import { addressBytes, CONTROL_PORT, deviceIndex, isLinkLocal, openNetwork } from "./network.ts";

export type { Surroundings } from "./detector.ts";

/** What both sides of a detector are told. */
export interface CommonOptions {
  /** The local address; every one of the host's, or the one of the route, unless given. */
  local?: string;
  /** The only interface to use. */
  device?: string;
  /** Interval of the heartbeats, microseconds, 1 to 2^32 - 1. */
  interval: number;
  /** A stats event every so many microseconds. */
  statsInterval?: number;
}

/** What {@linkcode detect} is told. */
export interface DetectOptions extends CommonOptions {
  /** Whom to watch: address, and the name that the events give it. */
  targets: readonly { address: string; name: string }[];
  /** Missed heartbeats that make a failure, 1 to 255. */
  multiplier: number;
  /** A target is suspect after so many intervals without a packet; never where 0. */
  suspectIntervals: number;
}

/** What {@linkcode respond} is told. */
export interface RespondOptions extends CommonOptions {
  /** Who may watch; everyone where empty. */
  allowed: readonly string[];
  /** Missed heartbeats that make a failure; as each peer says for itself unless given. */
  multiplier?: number;
}

/** The most sessions that {@linkcode respond} keeps. */
export const MAX_SESSIONS = 64;

/**
 * Watches targets until `around.stop`, and then tells them that it went on purpose.
 *
 * @throws {Failure} where the sockets cannot be had
 */
export async function detect(options: DetectOptions, around: Surroundings): Promise<void> {
  const { targets, interval, multiplier, local, device, statsInterval } = options;
  const addresses = targets.map(({ address }) => udpAddress(address, options));
  const families = addresses.map(({ address }) => address.length === 4 ? 4 as const : 6 as const);
  const network = openNetwork({ local, device, families, random: around.random });
  const timers = sameTimers(interval, multiplier);
  const detector = new Detector({ ...around, network, timers, statsInterval });
  around.emitter.emit("started", {
    peers: targets.map(({ address }) => address),
    local,
    port: CONTROL_PORT,
    interval_ms: interval / 1000,
    multiplier,
    realtime: runRealtime(),
  });
  targets.forEach(({ name }, i) => detector.watch(addresses[i]!, name, options.suspectIntervals));
  await detector.run();
}

/**
 * Answers whoever watches this host until `around.stop`, and then tells them that it goes down.
 *
 * @throws {Failure} where the sockets cannot be had
 */
export async function respond(options: RespondOptions, around: Surroundings): Promise<void> {
  const { allowed, interval, multiplier, local, device, statsInterval } = options;
  for (const address of allowed) udpAddress(address, options);
  const network = openNetwork({ local, device, families: [4, 6], random: around.random });
  const timers = sameTimers(interval, multiplier ?? 1);
  const answering = { allowed, limit: MAX_SESSIONS, detectMult: multiplier };
  const detector = new Detector({ ...around, network, timers, answering, statsInterval });
  around.emitter.emit("started", {
    peers: allowed.length === 0 ? undefined : allowed,
    local,
    port: CONTROL_PORT,
    interval_ms: interval / 1000,
    multiplier,
    realtime: runRealtime(),
  });
  await detector.run();
}

function sameTimers(
  interval: number,
  detectMult: number,
): { desiredMinTxInterval: number; requiredMinRxInterval: number; detectMult: number } {
  return { desiredMinTxInterval: interval, requiredMinRxInterval: interval, detectMult };
}

/** The peer's address for the sockets, checked against the other flags. */
function udpAddress(text: string, { local, device }: CommonOptions): UdpAddress {
  if (local !== undefined && familyOf(local) !== familyOf(text)) {
    throw new Failure(
      ExitStatus.USAGE,
      `Local address "${local}" and peer "${text}" are of different IP versions`,
      { mend: `give a --local of the peer's version, or leave it out` },
    );
  }
  const address = addressBytes(text);
  if (!isLinkLocal(address)) return { address, port: CONTROL_PORT, scopeId: 0 };
  if (device === undefined) {
    throw new Failure(ExitStatus.USAGE, `Peer "${text}" is link-local`, {
      mend: `say by --interface which link it is on`,
    });
  }
  return { address, port: CONTROL_PORT, scopeId: deviceIndex(device) };
}
