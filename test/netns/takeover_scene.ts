/**
 * The scene of the tests that kill a takeover: two clients of an echo server, and a fence that the test itself is.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { serveControl } from "../../lib/control.ts";
import { PATIENCE, poll, within } from "../fixture/wait.ts";
import type { Connection } from "./connection.ts";
import { ECHO, SERVICE_ADDRESS, type Stage } from "./stage.ts";
import { type Call, killAt } from "./strace.ts";
import type { Process } from "./two_hosts.ts";

const FAILED = JSON.stringify({
  ...{ v: 1, type: "failed", time: "2026-01-31T12:00:00.000000Z", by: "detect", host: "gateway" },
  ...{ target: "primary", level: "host", cause: "unplanned", evidence: [] },
});

/** Where a takeover is killed: as it enters a system call, or once something can be seen from outside. */
export type Moment = Call | "started" | "asked" | "active" | "noted" | "placed";

/** Two clients, a fence that the test itself is, and starts of takeover. */
export class Scene implements AsyncDisposable {
  readonly stage: Stage;
  readonly clients: Connection[] = [];
  /** What the fence was asked since this was last looked at. */
  asked: string[] = [];
  #onFence: (() => Promise<unknown>) | undefined;
  #fence: AsyncDisposable | undefined;
  #onStats: (() => Promise<unknown>) | undefined;

  private constructor(stage: Stage) {
    this.stage = stage;
  }

  static async on(stage: Stage): Promise<Scene> {
    const scene = new Scene(stage);
    await stage.echoServers();
    await Promise.all([
      stage.shadow("--service", ECHO),
      stage.mirror("--service", ECHO),
    ]);
    for (const name of ["first", "second"]) {
      const client = stage.connect(7);
      scene.clients.push(client);
      assert.equal(await client.echo(name), name);
    }
    scene.#fence = await serveControl(scene.#socket, {
      fence: () => scene.#answer("fence", { fenced: { services: [ECHO] } }),
      release: () => scene.#answer("release", { released: [ECHO] }),
      async *stats() {
        await scene.#onStats?.();
        yield await Promise.reject(new Error("It counts nothing"));
      },
    });
    return scene;
  }

  get #socket(): string {
    return join(this.stage.scratch, "asked.sock");
  }

  async *#answer(request: string, line: object): AsyncGenerator<object> {
    this.asked.push(request);
    if (request === "fence") await this.#onFence?.();
    yield line;
  }

  /** Starts takeover, which waits for events; one that is left is undone or finished now. */
  async start(): Promise<Process> {
    const process = this.stage.startReading("backup", ...this.#takeover);
    await process.next("started");
    return process;
  }

  /**
   * Starts a planned switch-over, up to where one that is left is undone or finished. It goes on when the second result is
   * called.
   */
  async plan(): Promise<[Process, () => Promise<void>]> {
    const held = Promise.withResolvers<void>(), go = Promise.withResolvers<void>();
    this.#onStats = () => {
      held.resolve();
      return go.promise;
    };
    const process = this.again();
    await within(PATIENCE, Promise.race([held.promise, process.status]), "the switch-over");
    return [process, () => {
      go.resolve();
      return Promise.resolve();
    }];
  }

  /** Starts a planned switch-over; where the host is active, it finishes. */
  again(): Process {
    const planned = ["--planned", "--planned-timeout", "60"];
    return this.stage.startReading("backup", ...this.#takeover, ...planned);
  }

  get #takeover(): string[] {
    const fence = ["--fence", this.#socket, "--fence-timeout", "60"];
    return ["takeover", "--run-dir", this.stage.runDir, ...fence];
  }

  /** Kills `process` as it enters `call` once the fence, which does `work`, has answered what `ask` makes it ask. */
  async killBehindFence(
    process: Process,
    call: Call,
    ask: () => Promise<void>,
    work: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const killed = Promise.withResolvers<void>();
    this.#onFence = async () => {
      await work();
      const answered = Promise.withResolvers<void>();
      killAt(process.pid, call, () => Promise.resolve(answered.resolve()))
        .then(killed.resolve, killed.reject);
      await answered.promise;
    };
    await ask();
    await within(PATIENCE, killed.promise, "the fence's turn");
    this.#onFence = undefined;
    assert.equal((await process.status).signal, "SIGKILL", process.stderr);
  }

  /** Kills `process` at a moment of a takeover, which it is asked for where it has not begun. */
  async kill(
    process: Process,
    at: Moment,
    fail: () => Promise<void> = () => process.write(FAILED),
  ): Promise<void> {
    if (at === "asked") {
      this.#onFence = () => process.end("SIGKILL");
      await fail();
      await process.status;
      this.#onFence = undefined;
    } else if (at === "active") {
      await process.next("active");
    } else if (at === "noted") {
      await poll("claim.json", () => this.left.includes("claim.json"), undefined, 1);
    } else if (at === "placed") {
      await poll("the address", () => this.hasAddress(), undefined, 1);
    } else if (at !== "started") {
      await killAt(process.pid, at, fail);
    }
    const { signal } = await process.end("SIGKILL");
    assert.equal(signal, "SIGKILL", process.stderr);
  }

  /** The files in the run directory that a takeover writes. */
  get left(): string[] {
    return [...Deno.readDirSync(this.stage.runDir)].map(({ name }) => name)
      .filter((name) => /^(takeover|claim)\.json/.test(name));
  }

  async hasAddress(): Promise<boolean> {
    const show = ["ip", "-br", "address", "show", "dev", "eth0"];
    return (await this.stage.output("backup", ...show)).includes(`${SERVICE_ADDRESS}/`);
  }

  /** Ends the input, and fails unless the takeover is whole: nothing lost, nothing left, nothing undone. */
  async assertFinished(process: Process): Promise<void> {
    await process.endInput();
    const { code } = await process.status;
    assert.equal(code, 0, process.stderr);
    assert.equal((await process.next("active"))["already"], true);
    assert.deepEqual(this.left, ["claim.json"]);
    assert.ok(await this.hasAddress());
    assert.equal((await this.stage.stats()).mode, "active");
    assert.ok(!this.asked.includes("release"), "the fence stays");
    for (const client of this.clients) {
      assert.equal((await client.readTo("\n")).trimEnd(), "meanwhile");
      assert.equal(await client.echo("after"), "after");
      assert.equal((await client.end()).length, 0);
    }
  }

  /** The primary is gone, and what clients have sent since is not answered yet. */
  async fail(): Promise<void> {
    await this.stage.lab.failHost();
    for (const client of this.clients) await client.write("meanwhile\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fence?.[Symbol.asyncDispose]();
  }
}
