/**
 * What the recorder's control socket answers.
 *
 * @module
 */
import { parseService, type Service, to16Bytes } from "../address.ts";
import type { Handler } from "../control.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { BLOCK, blockOf } from "./block_store.ts";
import { Flag } from "./flow_states.ts";
import type { Recorder } from "./recorder.ts";

/** Most bytes of one `fetch`. */
export const MAX_FETCH: number = 4 << 20;
/** Most bytes of payload in one line of an answer. */
export const MAX_SEGMENT: number = 48 << 10;
/** Most flows of one `ack`. */
export const MAX_ACKS = 1000;

/** How often `fetch` waits a millisecond for bytes that were not seen yet. */
const WAITS = 3;

/** Why bytes of a range are missing. */
export const MissingReason = {
  UNSEEN: "not seen",
  DROPPED: "dropped for the budget",
  FREED: "freed",
} as const;

/** One line of the answer to `fetch`, or the bytes behind one. */
export type Fetched =
  /** Bytes in base64, from sequence number `seq` on. */
  | { segment: { seq: number; data: string } }
  /** `length` bytes from sequence number `seq` on stand behind this line. */
  | { segment: { seq: number; length: number } }
  | Uint8Array
  /** The client's FIN has sequence number `seq`. */
  | { fin: { seq: number } }
  /** The bytes of [`from`, `to`) are not there. */
  | { missing: { from: number; to: number; reason: string } };

/** One flow as `flows` shows it; sequence numbers as on the wire. */
export interface RecordedFlow {
  /** The client's end. */
  client: string;
  /** The service's end. */
  server: string;
  /** `open`, or `closed` while its bytes linger. */
  state: "open" | "closed";
  /** Behind the last byte that was seen. */
  end: number;
  /** What the primary has acknowledged; absent where that was not seen. */
  primary_ack?: number;
  /** What the replica has acknowledged; absent where nobody told. */
  replica_ack?: number;
  /** Bytes seen, each counted once. */
  seen: number;
  /** Bytes that the primary acknowledged. */
  acknowledged: number;
  /** Bytes that the replica acknowledged. */
  delivered: number;
  /** Bytes in memory. */
  held: number;
  /** Bytes dropped without the replica's acknowledgement. */
  dropped: number;
}

/**
 * The handlers of the socket, for `recorder`. `drain` takes in what the kernel has captured already; `more` tells it that
 * bytes were asked for, and that more of them may be asked for soon.
 */
export function requestHandlers(
  recorder: Recorder,
  drain: (more: boolean) => void,
  stats: () => Record<string, unknown>,
): Record<string, Handler> {
  return {
    async *fetch(request) {
      const key = flowKey(request);
      const from = sequenceOf(request, "from");
      const to = sequenceOf(request, "to");
      const length = to - from >>> 0;
      if (length > MAX_FETCH) {
        refuse(`Range of ${length} bytes is too long`, `ask for at most ${MAX_FETCH}`);
      }
      drain(true);
      // What was on the wire just now may still be gathered by the kernel.
      for (let wait = 0; wait < WAITS && mayCome(recorder, key, from, length); wait++) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        drain(true);
      }
      if (find(recorder, key) < 0) {
        refuse(`Flow of client "${request.client}" is not known`, `"flows" lists those that are`);
      }
      yield* fetched(recorder, key, from, length, request.raw === true);
    },
    *ack(request) {
      const entries = request.flows === undefined ? [request] : request.flows;
      if (!Array.isArray(entries)) refuse('Field "flows" is not a list', "write a list of flows");
      if (entries.length > MAX_ACKS) {
        refuse(`${entries.length} flows are too many`, `acknowledge at most ${MAX_ACKS} at once`);
      }
      // All of them are read before any of them counts.
      const acks = entries.map((entry) => {
        if (typeof entry !== "object" || entry === null) {
          refuse("A flow is not an object", 'write {"client": …, "server": …, "upto": …}');
        }
        return { key: flowKey(entry), upto: sequenceOf(entry, "upto") };
      });
      drain(false);
      let [bytes, unknown] = [0, 0];
      for (const { key, upto } of acks) {
        const slot = find(recorder, key);
        if (slot < 0) unknown += 1;
        else bytes += recorder.acknowledge(slot, upto);
      }
      yield { freed: { bytes, unknown } };
    },
    *flows() {
      drain(false);
      const { flags } = recorder.states;
      for (let slot = 0; slot < flags.length; slot++) {
        if (flags[slot] !== 0) yield { flow: describeFlow(recorder, slot) };
      }
    },
    *stats() {
      drain(false);
      yield { stats: stats() };
    },
  };
}

/** What a flow's slot holds. */
export function describeFlow(recorder: Recorder, slot: number): RecordedFlow {
  const { states, table } = recorder;
  const flags = states.flags[slot]!;
  return {
    client: table.client(slot),
    server: table.server(slot),
    state: (flags & Flag.CLOSED) === 0 ? "open" : "closed",
    end: states.end[slot]! >>> 0,
    ...(flags & Flag.PRIMARY) === 0 ? {} : { primary_ack: states.primary[slot]! >>> 0 },
    ...(flags & Flag.REPLICA) === 0 ? {} : { replica_ack: states.replica[slot]! >>> 0 },
    seen: states.seen[slot]!,
    acknowledged: states.acknowledged[slot]!,
    delivered: states.delivered[slot]!,
    held: states.held[slot]!,
    dropped: states.dropped[slot]!,
  };
}

/**
 * The `length` bytes from sequence number `from` on of the flow with that key, in order; what is missing, too. The
 * flow is looked up again for each line, since it may end between two. Bytes are in base64 or, where they are to be
 * `raw`, behind their line.
 */
export function* fetched(
  recorder: Recorder,
  key: Int32Array,
  from: number,
  length: number,
  raw: boolean,
): Generator<Fetched> {
  let scratch: Uint8Array | undefined;
  let done = 0;
  while (done < length) {
    const slot = find(recorder, key);
    const seq = from + done >>> 0;
    if (isFin(recorder, slot, seq)) {
      yield { fin: { seq } };
      done += 1;
      continue;
    }
    scratch ??= new Uint8Array(Math.min(length - done, MAX_SEGMENT));
    const present = slot < 0 ? 0 : gather(recorder, slot, seq, length - done, scratch);
    if (present > 0) {
      const bytes = scratch.subarray(0, present);
      if (raw) {
        yield { segment: { seq, length: present } };
        yield bytes;
        // It has still to be written.
        scratch = undefined;
      } else {
        yield { segment: { seq, data: bytes.toBase64() } };
      }
      done += present;
      continue;
    }
    const reason = slot < 0 ? MissingReason.FREED : reasonAt(recorder, slot, seq);
    let missing = 0;
    while (done + missing < length) {
      const at = seq + missing >>> 0;
      const gap = slot < 0 ? length - done : absent(recorder, slot, at, length - done - missing);
      if (gap === 0 || isFin(recorder, slot, at)) break;
      if (missing > 0 && reasonAt(recorder, slot, at) !== reason) break;
      missing += gap;
    }
    yield { missing: { from: seq, to: seq + missing >>> 0, reason } };
    done += missing;
  }
}

/** Whether some byte of a range was neither seen nor given up. */
function mayCome(recorder: Recorder, key: Int32Array, from: number, length: number): boolean {
  const slot = find(recorder, key);
  if (slot < 0) return true;
  const { store } = recorder.holdings;
  for (let done = 0; done < length;) {
    const seq = from + done >>> 0;
    const at = seq & BLOCK - 1;
    if (isFin(recorder, slot, seq)) {
      done += 1;
      continue;
    }
    const gap = absent(recorder, slot, seq, length - done);
    if (gap > 0 && reasonAt(recorder, slot, seq) === MissingReason.UNSEEN) return true;
    done += gap > 0
      ? gap
      : store.runEnd(store.find(slot, blockOf(seq)), at, Math.min(BLOCK, at + length - done)) - at;
  }
  return false;
}

/** Copies what is there from `seq` on, at most `limit` bytes and what fits, and returns how many bytes that is. */
function gather(
  recorder: Recorder,
  slot: number,
  seq: number,
  limit: number,
  target: Uint8Array,
): number {
  const { store } = recorder.holdings;
  const most = Math.min(limit, target.length);
  let count = 0;
  while (count < most) {
    const at = seq + count & BLOCK - 1;
    const block = store.find(slot, blockOf(seq + count));
    if (block < 0 || !store.has(block, at)) break;
    const end = store.runEnd(block, at, Math.min(BLOCK, at + most - count));
    store.copyOut(block, at, end - at, target, count);
    count += end - at;
  }
  return count;
}

/**
 * How many of at most `limit` bytes from `seq` on are not there, all for one reason; it looks no further than a
 * block's end.
 */
function absent(recorder: Recorder, slot: number, seq: number, limit: number): number {
  const { store } = recorder.holdings;
  const { replica, droppedTo, clientFin, flags } = recorder.states;
  const at = seq & BLOCK - 1;
  const fin = (flags[slot]! & Flag.CLIENT_FIN) === 0 ? seq : clientFin[slot]!;
  for (const mark of [replica[slot]!, droppedTo[slot]!, fin]) {
    const distance = mark - seq | 0;
    if (distance > 0) limit = Math.min(limit, distance);
  }
  const to = Math.min(BLOCK, at + limit);
  const block = store.find(slot, blockOf(seq));
  if (block < 0) return to - at;
  return store.has(block, at) ? 0 : store.runEnd(block, at, to) - at;
}

function reasonAt(recorder: Recorder, slot: number, seq: number): string {
  const { flags, replica, droppedTo } = recorder.states;
  const behind = (mark: number): boolean => (seq - mark | 0) < 0;
  if ((flags[slot]! & Flag.REPLICA) !== 0 && behind(replica[slot]!)) return MissingReason.FREED;
  if ((flags[slot]! & Flag.DROPPED) !== 0 && behind(droppedTo[slot]!)) return MissingReason.DROPPED;
  return MissingReason.UNSEEN;
}

/** Whether the client's FIN has sequence number `seq`: it takes one, and is no byte. */
function isFin({ states }: Recorder, slot: number, seq: number): boolean {
  return slot >= 0 && (states.flags[slot]! & Flag.CLIENT_FIN) !== 0 &&
    (states.clientFin[slot]! - seq | 0) === 0;
}

function find(recorder: Recorder, key: Int32Array): number {
  recorder.table.wanted.set(key);
  return recorder.table.find();
}

/** The key that the table of flows has for the ends that a request names. */
function flowKey(request: Record<string, unknown>): Int32Array {
  const client = endOf(request, "client");
  const server = endOf(request, "server");
  const key = new Int32Array(9);
  const ends = [client, server];
  ends.forEach(({ address }, index) => {
    const view = new DataView(to16Bytes(address).buffer);
    for (let i = 0; i < 4; i++) key[index * 4 + i] = view.getInt32(i * 4);
  });
  key[8] = client.port << 16 | server.port;
  return key;
}

function endOf(request: Record<string, unknown>, name: string): Service {
  const value = request[name];
  if (typeof value !== "string" || value.length > 64) {
    refuse(`Field "${name}" is not an address and a port`, 'write one such as "10.0.0.1:80"');
  }
  return parseService(value);
}

function sequenceOf(request: Record<string, unknown>, name: string): number {
  const value = request[name];
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 32) {
    return value;
  }
  refuse(`Field "${name}" is not a sequence number`, "write one from 0 to 4294967295");
}

function refuse(message: string, mend: string): never {
  throw new Failure(ExitStatus.USAGE, message, { mend });
}
