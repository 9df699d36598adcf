/**
 * What is on a wire: tcpdump's capture, parsed as it comes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Frame, parseFrame } from "../fixture/frame.ts";
import { PATIENCE, poll, within } from "../fixture/wait.ts";

/** A frame and when it was seen. */
export type Captured = Frame & {
  /** Microseconds since the epoch. */
  time: number;
};

/** A capture that is running. */
export class Capture {
  /** The frames so far. */
  readonly frames: Captured[] = [];
  readonly #child: Deno.ChildProcess;
  #errors = "";
  readonly #ready = Promise.withResolvers<void>();
  readonly #reading: Promise<unknown>;

  /** `child` is a `tcpdump -w -`; see {@linkcode tcpdumpArgs}. */
  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reading = Promise.all([this.#readFrames(), this.#readErrors()]);
    this.#reading.catch(() => {});
  }

  /** Resolves once frames are being captured. */
  async ready(): Promise<void> {
    await within(PATIENCE, this.#ready.promise, `a capture: ${this.#errors}`);
  }

  /** The first frame that `wanted` accepts, past or to come. */
  find(what: string, wanted: (frame: Captured) => boolean): Promise<Captured> {
    return poll(what, () => this.frames.find(wanted), PATIENCE, 5);
  }

  /** Ends the capture; not a frame may have been missed. */
  async stop(): Promise<Captured[]> {
    this.#child.kill("SIGINT");
    const { code } = await this.#child.status;
    await this.#reading;
    assert.equal(code, 0, this.#errors);
    assert.match(this.#errors, /^0 packets dropped by kernel/m, this.#errors);
    return this.frames;
  }

  async #readFrames(): Promise<void> {
    let held = new Uint8Array(0);
    let at = 24;
    for await (const chunk of this.#child.stdout) {
      const joined = new Uint8Array(held.length + chunk.length);
      joined.set(held);
      joined.set(chunk, held.length);
      held = joined;
      const view = new DataView(held.buffer);
      while (held.length >= at + 16) {
        const length = view.getUint32(at + 8, true);
        if (held.length < at + 16 + length) break;
        const time = view.getUint32(at, true) * 1e6 + view.getUint32(at + 4, true);
        const frame = parseFrame(held.slice(at + 16, at + 16 + length));
        this.frames.push({ ...frame, time });
        at += 16 + length;
      }
      if (at > held.length) continue;
      held = held.slice(at);
      at = 0;
    }
  }

  async #readErrors(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stderr) {
      this.#errors += decoder.decode(chunk, { stream: true });
      if (this.#errors.includes("listening on")) this.#ready.resolve();
    }
  }
}

/** The command line of a capture on `port`; `direction` as seen from that port. */
export function tcpdumpArgs(
  port: string,
  direction: "in" | "out" | "inout",
  filter: string,
): string[] {
  return [
    ...["tcpdump", "-i", port, "-Q", direction, "-U", "--immediate-mode", "-s", "200"],
    ...["-B", "16384", "--time-stamp-precision=micro", "-w", "-"],
    ...(filter === "" ? [] : [filter]),
  ];
}
