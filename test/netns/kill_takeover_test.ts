import assert from "node:assert/strict";
import { join } from "node:path";
import { serveControl } from "../../lib/control.ts";
import { poll } from "../fixture/wait.ts";
import type { Connection } from "./connection.ts";
import { ECHO, onStage, SERVICE_ADDRESS, type Stage, T2CP } from "./stage.ts";
import { type Call, killAt } from "./strace.ts";
import { Process } from "./two_hosts.ts";

const FAILED = JSON.stringify({
  ...{ v: 1, type: "failed", time: "2026-01-31T12:00:00.000000Z", by: "detect", host: "gateway" },
  ...{ target: "primary", level: "host", cause: "unplanned", evidence: [] },
});

/** Where a takeover is killed: as it enters a system call, or once something can be seen from outside. */
type Moment = Call | "started" | "asked" | "active" | "noted" | "placed";

/** Kills before active mode, in the order of the steps, and what each leaves. */
const BEFORE: { step: string; at: Moment; record: boolean; asked: string[] }[] = [
  { step: "before the event", at: "started", record: false, asked: [] },
  { step: "before the record is locked", at: "flock:1", record: false, asked: [] },
  { step: "before the record is whole", at: "rename:1", record: false, asked: [] },
  { step: "before the fence is asked", at: "sendto:1", record: true, asked: [] },
  { step: "while the fence fences", at: "asked", record: true, asked: ["fence"] },
  { step: "before active mode", at: "getsockopt:1", record: true, asked: ["fence"] },
];

/** Kills of further starts, which find the host active and not settled; the first one was killed before any flow was woken. */
const AGAIN: readonly Moment[] = ["active", "noted", "placed"];

/** Two clients, a fence that the test itself is, and starts of takeover. */
class Scene implements AsyncDisposable {
  readonly stage: Stage;
  readonly clients: Connection[] = [];
  /** What the fence was asked since this was last looked at. */
  asked: string[] = [];
  #onFence: (() => Promise<unknown>) | undefined;
  #fence: AsyncDisposable | undefined;
  readonly #started: Process[] = [];

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
    const argv = [...T2CP, "takeover", "--run-dir", this.stage.runDir, "--fence", this.#socket];
    const [program, ...args] = this.stage.lab.inRole("backup", argv);
    const options = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    const process = new Process(new Deno.Command(program!, { args, ...options }).spawn());
    this.#started.push(process);
    await process.next("started");
    return process;
  }

  /** Kills `process` at a moment of a takeover, which it is asked for where it has not begun. */
  async kill(process: Process, at: Moment): Promise<void> {
    const fail = (): Promise<void> => process.write(FAILED);
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
    for (const process of this.#started) await process.end("SIGKILL");
    await this.#fence?.[Symbol.asyncDispose]();
  }
}

/** Kills `first` once the primary is gone, and then further starts; one more finishes what they have begun. */
async function killActive(
  scene: Scene,
  first: Process,
  at: Call,
  again: readonly Moment[] = [],
): Promise<void> {
  await scene.fail();
  await scene.kill(first, at);
  assert.deepEqual(scene.left.filter((name) => !name.endsWith(".new")), ["takeover.json"]);
  assert.equal((await scene.stage.stats()).mode, "settling");
  for (const moment of again) await scene.kill(await scene.start(), moment);
  await scene.assertFinished(await scene.start());
  assert.deepEqual(scene.asked, ["fence"]);
}

onStage(
  "takeover: killed at any step, the next start undoes it before active mode, and finishes it after",
  async (stage) => {
    await using scene = await Scene.on(stage);
    let process = await scene.start();
    for (const { step, at, record, asked } of BEFORE) {
      await scene.kill(process, at);
      assert.equal(scene.left.includes("takeover.json"), record, `${step}: the record`);
      assert.deepEqual(scene.asked.splice(0), asked, `${step}: the fence`);

      process = await scene.start();
      const warnings = process.events.filter(({ type }) => type === "warning");
      assert.equal(warnings.length, record ? 1 : 0, `${step}: ${JSON.stringify(warnings)}`);
      assert.deepEqual(scene.asked.splice(0), record ? ["release"] : [], `${step}: released`);
      assert.ok(!scene.left.includes("takeover.json"), `${step}: the record is left`);
      assert.equal((await stage.stats()).mode, "shadow", step);
      assert.equal(await scene.hasAddress(), false, step);
      for (const client of scene.clients) assert.equal(await client.echo(step), step);
    }
    await killActive(scene, process, "bpf:5", AGAIN);
  },
);

/** Further kills in active mode, of starts that find the host in shadow mode. */
const AFTER: { step: string; at: Call }[] = [
  { step: "between two flows", at: "sendto:4" },
  { step: "before its record is removed", at: "unlink:1" },
];

for (const { step, at } of AFTER) {
  onStage(`takeover: killed ${step}, in active mode, the next start finishes it`, async (stage) => {
    await using scene = await Scene.on(stage);
    await killActive(scene, await scene.start(), at);
  });
}
