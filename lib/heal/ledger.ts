/**
 * The account of what was healed and what was lost, of each flow and in all.
 *
 * @module
 */
import type { FlowEnds } from "../flow/layout.ts";
import { median } from "../lab/measure.ts";

/** What was done for one flow, or for all of them. */
export interface Account {
  /** Gaps that were reported, and lags that were seen, in which the replica lacked bytes. */
  gaps: number;
  /** Their bytes. */
  gap_bytes: number;
  /** Requests to the recorder for bytes. */
  requests: number;
  /** Bytes that the recorder gave. */
  fetched_bytes: number;
  /** Answers that it has not seen bytes yet. */
  not_seen: number;
  /** Times that bytes had to be given to the replica again. */
  retries: number;
  /** Segments given to the replica. */
  injected_segments: number;
  /** Their payload in bytes. */
  injected_bytes: number;
  /** Gaps that the replica has acknowledged. */
  healed: number;
  /** Bytes of them that were given to it. */
  healed_bytes: number;
  /** Gaps that the replica got over by itself. */
  mended: number;
  /** Bytes that cannot be had any more. */
  lost_bytes: number;
}

/** An account of nothing. */
export function newAccount(): Account {
  return {
    gaps: 0,
    gap_bytes: 0,
    requests: 0,
    fetched_bytes: 0,
    not_seen: 0,
    retries: 0,
    injected_segments: 0,
    injected_bytes: 0,
    healed: 0,
    healed_bytes: 0,
    mended: 0,
    lost_bytes: 0,
  };
}

/** The account of one flow. */
export interface FlowAccount extends FlowEnds, Account {
  /** Why bytes are lost; absent where none are. */
  lost_reason?: string;
}

/** Accounts kept; the oldest without a loss goes first. */
const MAX_ACCOUNTS = 4096;
/** The latest durations, of which the median is taken. */
const DURATIONS = 4096;

/** See the module. */
export class Ledger {
  /** Of all flows together. */
  readonly total: Account = newAccount();
  /** Flows that were reported as unprotected. */
  unprotected = 0;
  /** The longest healing, in milliseconds. */
  longest = 0;
  readonly #accounts = new Map<string, FlowAccount>();
  readonly #durations: number[] = [];

  /** The accounts of flows that were healed or are lost, the oldest first. */
  get accounts(): Iterable<FlowAccount> {
    return this.#accounts.values();
  }

  /** The account of a flow; undefined where nothing was done for it. */
  find(flow: FlowEnds): FlowAccount | undefined {
    return this.#accounts.get(nameOf(flow));
  }

  /** The account of a flow, a new one where it has none. */
  open(flow: FlowEnds): FlowAccount {
    const name = nameOf(flow);
    let account = this.#accounts.get(name);
    if (account === undefined) {
      this.#makeRoom();
      account = { client: flow.client, server: flow.server, ...newAccount() };
      this.#accounts.set(name, account);
    }
    return account;
  }

  /** Adds to a flow's account, and to the total. */
  add(account: FlowAccount, entry: keyof Account, amount: number): void {
    account[entry] += amount;
    this.total[entry] += amount;
  }

  /** Notes how long a healing took, in milliseconds. */
  took(milliseconds: number): void {
    this.longest = Math.max(this.longest, milliseconds);
    this.#durations.push(milliseconds);
    if (this.#durations.length > 2 * DURATIONS) this.#durations.splice(0, DURATIONS);
  }

  /** The median of the latest healings, in milliseconds; null where there was none. */
  get median(): number | null {
    return median(this.#durations.slice(-DURATIONS));
  }

  #makeRoom(): void {
    if (this.#accounts.size < MAX_ACCOUNTS) return;
    for (const [name, { lost_bytes }] of this.#accounts) {
      if (lost_bytes > 0) continue;
      this.#accounts.delete(name);
      return;
    }
    this.#accounts.delete(this.#accounts.keys().next().value!);
  }
}

function nameOf({ client, server }: FlowEnds): string {
  return `${client} ${server}`;
}
