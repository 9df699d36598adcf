/**
 * The loop of the failure detector: the one owner of timers, which drives the BFD sessions from
 * sockets and clock, and tells what happens as events.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import type { UdpAddress } from "../../ffi/udp.ts";
import { State, stateName } from "../bfd/packet.ts";
import type { AuthKey } from "../bfd/authentication.ts";
import type { Timers } from "../bfd/session.ts";
import type { Emitter } from "../event.ts";
import type { Attempt } from "../probe/attempt.ts";
import { Prober } from "../probe/prober.ts";
import type { ProbeSpec } from "../probe/spec.ts";
import { Agenda, type Task } from "./agenda.ts";
import type { Announced } from "./announce.ts";
import { type Answering, Endpoint } from "./endpoint.ts";
import { type Kind, type Network, SINGLE_HOP } from "./network.ts";
import type { Peer } from "./peers.ts";
import { Heartbeat, ProbeSignal } from "./signals.ts";
import { type Report, Verdict } from "./verdict.ts";
import { type EventSink, millis, Watched } from "./watched.ts";

/** What the loop takes from outside, so that a test can give its own. */
export interface Surroundings {
  /** Where the events go. */
  emitter: Emitter;
  /** Ends the loop in order. */
  stop: AbortSignal;
  /** Monotonic time, microseconds. */
  clock: () => number;
  /** Uniform random numbers, 0 <= r < 1. */
  random: () => number;
}

/** Settings of a {@linkcode Detector}. */
export interface DetectorOptions extends Surroundings {
  /** Where packets come from and go to; the detector closes it. */
  network: Network;
  /** Timers of the sessions. */
  timers: Timers;
  /** Single hop unless given. */
  kind?: Kind;
  /** Authenticates all sessions; none unless given. */
  authKey?: AuthKey;
  /** Answers peers that ask for a session; nobody unless given. */
  answering?: Answering;
  /** A stats event every so many microseconds; none unless given. */
  statsInterval?: number;
  /** How long a failed target must be good before it has recovered, microseconds; 0 unless given. */
  holdDown?: number;
  /** Where events about targets go; the output unless given. */
  sink?: EventSink;
  /** What `stats` says in addition. */
  moreStats?: () => object;
}

/** More packets than a socket's default receive buffer holds. */
const DRAIN_LIMIT = 1024;

/** The shortest time between two stats events, microseconds. */
const MIN_STATS_INTERVAL = 100_000;

/** With more sessions, the loop takes their packets and timers together that come within a rest. */
const FEW = 16;

/** The rest, as a share of the shortest interval: so much later may a failure be detected. */
const REST = 1 / 100;

/** The longest rest, microseconds: sessions come up and down without delay whatever their interval. */
const MAX_REST = 5000;

/** How often the intervals are looked at for that, microseconds. */
const LOOK = 100_000;

/** The longest time between two turns of the loop, microseconds: a longer one was not asked for. */
const MAX_WAIT = 200_000;

/** So much later than asked the loop may run without probes being excused, microseconds. */
const LATE = 1000;

/** How often confirmations are looked for, milliseconds. */
const CONFIRMATION_LOOK = 5;

/** The longest that peers are waited for at the end, microseconds. */
const MAX_LINGER = 1_000_000;

/** Runs the BFD sessions of a process. */
export class Detector {
  readonly #options: DetectorOptions;
  readonly #endpoint: Endpoint;
  readonly #watched = new Map<string, Watched>();
  readonly #targets = new Map<Peer, string>();
  readonly #probes: { name: string; target: string; prober: Prober }[] = [];
  readonly #agenda = new Agenda();
  readonly #port: number;
  #rest = 0;
  #lookAt = 0;
  #nextStats: number;

  /** Does nothing before {@linkcode Detector.run}. */
  constructor(options: DetectorOptions) {
    const { network, timers, random, answering, authKey, kind = SINGLE_HOP } = options;
    this.#options = options;
    this.#port = kind.port;
    this.#nextStats = options.clock() + (options.statsInterval ?? Infinity);
    const warn = (message: string): void => options.emitter.emit("warning", { message });
    const { minTtl } = kind;
    this.#endpoint = new Endpoint({ network, timers, random, answering, authKey, minTtl, warn });
  }

  /**
   * Watches the host at `address`, called `name`, which the events call `target`; it is suspect
   * after `suspectIntervals` without a packet, never where that is 0.
   */
  watch(address: UdpAddress, name: string, target: string, suspectIntervals: number): void {
    const { timers, clock } = this.#options;
    const now = clock();
    this.#endpoint.add(address, name, now, (peer) => {
      const watched = this.#watch(target, suspectIntervals > 0);
      const heartbeat = new Heartbeat(peer.session);
      watched.target.signals.push(heartbeat);
      this.#targets.set(peer, target);
      return new Verdict({
        session: peer.session,
        suspectIntervals,
        wantedDetectionTime: timers.requiredMinRxInterval * timers.detectMult,
        now,
        report: (report, now) => this.#judged(peer, watched, heartbeat, report, now),
      });
    });
  }

  /** Lets a probe ask about `target`; where `suspects`, a failed attempt makes it suspect. */
  probe(spec: ProbeSpec, attempt: Attempt, target: string, suspects: boolean): void {
    const { clock, random, network } = this.#options;
    const watched = this.#watch(target, suspects);
    const { name } = spec;
    const concluded = (now: number): void => {
      this.#tellOfProbe(spec, target, prober);
      watched.target.update(now);
      this.#agenda.settle(watched.target);
      this.#agenda.settle(prober);
      network.wake();
    };
    const prober = new Prober({ rhythm: spec, attempt, clock, random, concluded }, clock());
    watched.probers.push(prober);
    watched.target.signals.push(new ProbeSignal(spec.kind, name, prober));
    this.#probes.push({ name, target, prober });
    this.#agenda.settle(prober);
  }

  /** Lets all probes of a target ask at once; of every target where `name` is none of theirs. */
  hurry(name?: string): void {
    const now = this.#options.clock();
    const named = name === undefined ? undefined : this.#watched.get(name);
    for (const { probers } of named === undefined ? this.#watched.values() : [named]) {
      for (const prober of probers) {
        prober.hurry(now);
        this.#agenda.settle(prober);
      }
    }
    this.#options.network.wake();
  }

  /** Takes note of a task's deadline, which it lets expire from now on. */
  settle(task: Task): void {
    this.#agenda.settle(task);
    this.#options.network.wake();
  }

  /** Tells all peers that this host goes down on purpose, and waits for them a little. */
  async announceDown(): Promise<Announced> {
    const { clock, network } = this.#options;
    const now = clock();
    const { peers } = this.#endpoint;
    const times = peers.map(({ session }) => session.detectionTime);
    const end = now + Math.min(Math.max(0, ...times), MAX_LINGER);
    this.#endpoint.announceDown(now);
    network.wake();
    const missing = (): Peer[] => peers.filter(({ session }) => !session.announced);
    while (missing().length > 0 && clock() < end) {
      await new Promise((resolve) => setTimeout(resolve, CONFIRMATION_LOOK));
    }
    const unconfirmed = missing().map(({ name }) => name);
    return { told: peers.length - unconfirmed.length, unconfirmed };
  }

  /** Runs until the stop signal, tells the peers then, and closes the network. */
  async run(): Promise<void> {
    const { network, stop, clock } = this.#options;
    const wake = (): void => network.wake();
    stop.addEventListener("abort", wake);
    try {
      let end = Infinity;
      let expected = clock();
      while (true) {
        this.#drain();
        const now = clock();
        this.#endpoint.excuse(now - expected, now);
        this.#excuseProbes(now - expected);
        if (stop.aborted && end === Infinity) end = this.#beginStop(now);
        this.#endpoint.tick(now);
        this.#agenda.tick(now);
        if (now >= end || this.#endpoint.stopped) break;
        if (now >= this.#nextStats) this.#stats(now);
        const deadline = Math.min(this.#endpoint.nextDeadline(), this.#agenda.next);
        const next = Math.min(deadline, this.#nextStats, end);
        expected = Math.min(Math.max(next, now), now + MAX_WAIT);
        const rest = this.#restTime(now);
        if (expected < now + rest) {
          expected = now + rest;
          await network.rest(expected - clock());
        } else {
          await network.wait(expected - clock());
        }
      }
    } finally {
      stop.removeEventListener("abort", wake);
      await Promise.all(this.#probes.map(({ prober }) => prober.close()));
      this.#endpoint.close();
      await network.close();
    }
  }

  /** Time in which this process did not run does not count against those who are asked. */
  #excuseProbes(late: number): void {
    if (late < LATE) return;
    for (const { prober } of this.#probes) {
      prober.excuse(late);
      this.#agenda.settle(prober);
    }
  }

  /** How long packets and timers may wait for each other, microseconds. */
  #restTime(now: number): number {
    if (now < this.#lookAt) return this.#rest;
    this.#lookAt = now + LOOK;
    const { size, shortestInterval } = this.#endpoint;
    this.#rest = size > FEW ? Math.min(REST * shortestInterval, MAX_REST) : 0;
    return this.#rest;
  }

  /** Takes every packet that waits: a detector that was late itself must not blame the peer. */
  #drain(): void {
    const { network, clock } = this.#options;
    try {
      for (let taken = 0; taken < DRAIN_LIMIT; taken++) {
        const datagram = network.receive();
        if (datagram === undefined) break;
        this.#endpoint.receive(datagram, clock());
      }
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#endpoint.warn(`receive ${error.code}`, () => error.message);
    }
  }

  /** Returns when the peers will have been waited for long enough. */
  #beginStop(now: number): number {
    const times = this.#endpoint.peers.map(({ session }) => session.detectionTime);
    this.#endpoint.stop(now);
    return now + Math.min(Math.max(0, ...times), MAX_LINGER);
  }

  #watch(name: string, suspects: boolean): Watched {
    const { clock, emitter, sink = emitter, holdDown = 0 } = this.#options;
    let watched = this.#watched.get(name);
    if (watched === undefined) {
      watched = new Watched({ name, holdDown, suspects, sink, clock });
      this.#watched.set(name, watched);
    }
    return watched;
  }

  #judged(peer: Peer, watched: Watched, heartbeat: Heartbeat, report: Report, now: number): void {
    const { emitter, timers } = this.#options;
    const target = watched.name;
    if (report.type === "silent") {
      emitter.emit("warning", { target, message: this.#silence(peer) });
    } else if (report.type === "slow") {
      const { session } = peer;
      const wanted = millis(timers.requiredMinRxInterval * timers.detectMult);
      const message = `A failure of "${target}" is detected after ` +
        `${millis(session.detectionTime)} ms instead of ${wanted}: its BFD transmits every ` +
        `${millis(session.receiveInterval)} ms with multiplier ${session.remoteDetectMult}`;
      emitter.emit("warning", { target, message });
    } else {
      heartbeat.take(report);
      watched.target.update(now);
      this.#agenda.settle(watched.target);
    }
  }

  /** Says once that a probe cannot work, or does what it should not. */
  #tellOfProbe({ name, fall }: ProbeSpec, target: string, prober: Prober): void {
    const warn = (kind: string, message: () => string): void => {
      this.#endpoint.warn(`${kind} ${name}`, message);
    };
    if (prober.state === "waiting" && prober.failures >= fall) {
      warn(
        "waiting",
        () =>
          `Probe "${name}" of "${target}" has not been good yet, and counts from then on: ` +
          prober.reason,
      );
    }
    if (prober.counters.killed > 0) {
      warn(
        "killed",
        () =>
          `The command of probe "${name}" left processes behind or took too long, and was killed`,
      );
    }
  }

  /** Why a target is not up, some time after the start. */
  #silence({ name, session }: Peer): string {
    if (session.lastReceived === undefined) {
      return `No answer from "${name}" yet; run "t2cp detect --respond" there, ` +
        `and let UDP port ${this.#port} pass`;
    }
    if (session.remoteSessionState === State.AdminDown) {
      return `Peer "${name}" keeps its session administratively down; enable it there`;
    }
    return `Peer "${name}" sends packets but does not receive ours; ` +
      `let UDP port ${this.#port} pass there`;
  }

  #stats(now: number): void {
    const { emitter, statsInterval = Infinity } = this.#options;
    // Times that were missed are left out.
    this.#nextStats = Math.max(this.#nextStats + statsInterval, now + MIN_STATS_INTERVAL);
    emitter.emit("stats", {
      sessions: this.#endpoint.peers.map((peer) => ({
        peer: peer.name,
        target: this.#targets.get(peer),
        state: stateName(peer.session.sessionState),
        transmit_interval_ms: millis(peer.session.transmitInterval),
        detection_time_ms: millis(peer.session.detectionTime),
        ...peer.counters,
      })),
      probes: this.#probes.map(({ name, target, prober }) => ({
        probe: name,
        target,
        state: prober.state,
        ...prober.counters,
      })),
      targets: [...this.#watched.values()].map(({ name, target }) => ({
        target: name,
        state: target.state,
        flaps: target.flaps,
      })),
      discarded: Object.fromEntries(this.#endpoint.discarded),
      send_errors: this.#endpoint.sendErrors,
      ...this.#options.moreStats?.(),
    });
  }
}
