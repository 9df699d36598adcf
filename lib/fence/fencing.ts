/**
 * What a fence does when it is asked to: it silences the primary, runs the user's command, and says so.
 *
 * @module
 */
import { SystemError } from "../../ffi/errno.ts";
import { formatService, type Service } from "../address.ts";
import type { Emitter } from "../event.ts";
import { ExitStatus, Failure } from "../failure.ts";
import type { FencedFields, FenceExecFields } from "../vocabulary/fence.ts";
import type { Fence } from "./device.ts";
import type { ServiceNeighbours } from "./neighbours.ts";
import { type PowerFence, runPowerFence } from "./power.ts";
import type { RunningCommand } from "./record.ts";

/** What {@linkcode Fencing} works with. */
export interface FencingParts {
  /** The program and its switch. */
  fence: Pick<Fence, "up" | "raise" | "lower">;
  /** The gateway's neighbour entries, and where they are to point; undefined where they are left alone. */
  neighbours: { table: Pick<ServiceNeighbours, "point" | "forget">; mac: Uint8Array } | undefined;
  /** The services. */
  services: readonly Service[];
  /** The primary's MAC address as text, for the command. */
  primary: string;
  /** The user's command; undefined for none. */
  power: PowerFence | undefined;
  /** Told when the command runs, and with undefined when it does no more. */
  note: (running: RunningCommand | undefined) => void;
  /** Whether an earlier start was killed while its command ran beside the fence. */
  unfinished: boolean;
  /** Receives the events. */
  emitter: Pick<Emitter, "emit">;
}

/** See the module. */
export class Fencing {
  readonly #parts: FencingParts;
  readonly #names: string[];
  #underWay: Promise<FencedFields> | undefined;
  /** Whether a fence that is up has got all that belongs to it. */
  #complete: boolean;
  /** Whether this process has pointed the neighbour entries: an earlier start may have been killed before it did. */
  #pointed = false;
  #running: Promise<unknown> = Promise.resolve();

  /** Acts on `parts`. */
  constructor(parts: FencingParts) {
    this.#parts = parts;
    this.#names = parts.services.map(formatService);
    // What is up may be so without the command's success.
    this.#complete = !(parts.power?.required || parts.unfinished);
  }

  /** The services' names. */
  get services(): string[] {
    return this.#names;
  }

  /**
   * Silences the primary and emits `fenced`, before it returns where no command has to end first. Whoever asks while
   * that runs gets the same answer.
   *
   * @throws {Failure} with status TEMPORARY where the command that is required fails; the fence is then as it was before
   */
  fence(): FencedFields | Promise<FencedFields> {
    if (this.#underWay !== undefined) return this.#underWay;
    const { fence, power } = this.#parts;
    const start = performance.now();
    const elapsed = (): number => Math.round((performance.now() - start) * 1000) / 1000;
    const steps: Record<string, number> = {};
    const wasUp = !fence.raise();
    const already = wasUp && this.#complete;
    steps["dropping"] = elapsed();
    const finish = (): FencedFields => {
      this.#complete = true;
      if (!this.#pointed && this.#parts.neighbours !== undefined) {
        this.#point();
        this.#pointed = true;
        steps["neighbours"] = elapsed();
      }
      const fields: FencedFields = {
        services: this.#names,
        ...(already ? { already } : {}),
        took_ms: elapsed(),
        steps,
      };
      this.#parts.emitter.emit("fenced", { ...fields });
      return fields;
    };
    if (already || power === undefined) return finish();
    if (!power.required) {
      const fields = finish();
      this.#running = this.#exec(power, "beside");
      return fields;
    }
    // One that was up before stays up, whatever becomes of the command.
    const ended = this.#exec(power, wasUp ? undefined : "required");
    this.#running = ended;
    this.#underWay = ended.then((exec) => {
      steps["exec"] = elapsed();
      const up = exec.ok && fence.up;
      if (!up && !wasUp) fence.lower();
      // Before anybody is told: whoever acts on it relies on the fence.
      this.#parts.note(undefined);
      if (up) return finish();
      const why = exec.ok ? "it was released meanwhile" : `its command ${reasonOf(exec)}`;
      const message = `The primary is not fenced: ${why}`;
      this.#parts.emitter.emit("warning", { message });
      throw new Failure(ExitStatus.TEMPORARY, message);
    }).finally(() => this.#underWay = undefined);
    return this.#underWay;
  }

  /** Lets the primary speak again, and emits `fence.released` where it could not. Returns whether it could not. */
  release(): boolean {
    if (!this.#parts.fence.lower()) return false;
    this.#parts.neighbours?.table.forget();
    this.#pointed = false;
    this.#parts.emitter.emit("fence.released", { services: this.#names });
    return true;
  }

  /** Resolves once no command runs any more. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #exec(
    power: PowerFence,
    running: RunningCommand | undefined,
  ): Promise<FenceExecFields> {
    this.#parts.note(running);
    const exec = await runPowerFence(power, {
      T2CP_PRIMARY: this.#parts.primary,
      T2CP_SERVICES: this.#names.join(" "),
    });
    this.#parts.emitter.emit("fence.exec", { ...exec });
    if (!power.required) this.#parts.note(undefined);
    return exec;
  }

  #point(): void {
    const { table, mac } = this.#parts.neighbours!;
    try {
      table.point(mac);
    } catch (error) {
      // The backup's announcements do the same a little later.
      if (!(error instanceof SystemError)) throw error;
      this.#parts.emitter.emit("warning", { message: error.message });
    }
  }
}

/** Why a command counts as failed. */
function reasonOf({ status, signal, timeout, output, took_ms }: FenceExecFields): string {
  const how = timeout
    ? `has not ended within ${Math.round(took_ms)} ms`
    : signal !== undefined
    ? `was ended by ${signal}`
    : status === undefined
    ? "could not be run"
    : `has ended with status ${status}`;
  return output === undefined ? how : `${how}: ${output}`;
}
