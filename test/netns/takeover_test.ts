import assert from "node:assert/strict";
import { parseEvent } from "../../lib/event.ts";
import { poll } from "../fixture/wait.ts";
import { assertRefused, ECHO, onStage, type Stage } from "./stage.ts";

const common = { v: 1, time: "2026-01-31T12:00:00.000000Z", by: "detect", host: "gateway" };
const failed = JSON.stringify({
  ...common,
  type: "failed",
  target: "primary",
  level: "host",
  cause: "unplanned",
  evidence: [],
});
const suspect = JSON.stringify({
  ...common,
  type: "suspect",
  target: "primary",
  last_seen: common.time,
});
const unknown = JSON.stringify({ ...common, type: "from.the.future", nested: { a: [1, null] } });

/** What the input is, byte by byte, and what is wrong with it. */
const noise: [bytes: string, warning: string | undefined][] = [
  [`${unknown}\\n`, undefined],
  [`   \\n`, undefined],
  [`\\n`, undefined],
  [`not json\\n`, "it is not JSON"],
  [`{"half":\\n`, "it is not JSON"],
  [`[]\\n`, "it is not a JSON object"],
  [`{}\\n`, 'field "v" is missing'],
  [`${suspect}\\r\\n`, undefined],
  [`\\xff\\xfe\\n`, "it is not valid UTF-8"],
];

/** Feeds `input`, in the form of bash's $'…', to takeover on the backup. */
function feed(stage: Stage, input: string, ...flags: string[]) {
  const args = ["takeover", "--run-dir", stage.runDir, ...flags].join(" ");
  return stage.shell(
    "backup",
    `printf %s $'${input}' >$0.in; t2cp ${args} <$0.in`.replaceAll(
      "$0",
      `${stage.scratch}/input`,
    ),
  );
}

/** The lines of stdout that are takeover's own events. */
function own(stdout: string): Record<string, unknown>[] {
  return stdout.split("\n").flatMap((line) => {
    const event = parseEvent(line);
    return typeof event === "object" && event.by === "takeover" ? [event] : [];
  });
}

onStage(
  "takeover: lines that are no events pass byte by byte, and are named; no other event than failed acts",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const input = noise.map(([bytes]) => bytes).join("");
    const outcome = await feed(stage, input);
    assert.equal(outcome.status, 0, outcome.stderr);
    const warnings = outcome.stderr.trimEnd().split("\n");
    const expected = noise.flatMap(([, warning], index) =>
      warning === undefined
        ? []
        : [`t2cp takeover: Line ${index + 1} of the input is no event: ${warning}`]
    );
    assert.equal(warnings.length, expected.length, outcome.stderr);
    warnings.forEach((line, index) => assert.ok(line.startsWith(expected[index]!), line));
    assert.deepEqual(own(outcome.stdout).map(({ type }) => type), ["started"]);
    assert.equal((await stage.stats()).mode, "shadow");

    const compare = await stage.shell(
      "backup",
      `t2cp takeover --run-dir ${stage.runDir} <${stage.scratch}/input.in 2>/dev/null |
      grep -av '"by":"takeover"' | cmp - ${stage.scratch}/input.in`,
    );
    assert.deepEqual([compare.status, compare.stdout], [0, ""], compare.stderr);
  },
);

onStage(
  "takeover: failed is passed on and active follows it; a second one changes nothing",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    await stage.lab.failHost();
    const outcome = await feed(stage, `${unknown}\\n${failed}\\n${failed}\\n${suspect}\\n`);
    assert.equal(outcome.status, 0, outcome.stderr);
    const lines = outcome.stdout.trimEnd().split("\n");
    const types = lines.map((line) => JSON.parse(line).type);
    const passed = types.filter((type) => !["started", "active", "claimed"].includes(type));
    assert.deepEqual(passed, ["from.the.future", "failed", "failed", "suspect"]);
    assert.ok(types.indexOf("active") > types.indexOf("failed"));
    assert.ok(lines.includes(failed) && lines.includes(unknown), "as they came");
    const [active, again, ...others] = own(outcome.stdout).filter(({ type }) => type === "active");
    assert.ok(active !== undefined && again !== undefined && others.length === 0);
    assert.deepEqual([active.flows, active.already], [1, undefined]);
    assert.equal(again.already, true);
    assert.ok(Number(active.took_ms) > 0);
    assert.ok(Object.keys(active.steps as object).length > 1);
    assert.equal(await echo.echo("after"), "after");
  },
);

onStage(
  "takeover: of another target or service, or with recovered in between, failed changes nothing",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const about = (fields: object) => JSON.stringify({ ...JSON.parse(failed), ...fields });
    const recovered = JSON.stringify({ ...common, type: "recovered", target: "primary" });
    const flags = ["--target", "primary"];
    const others = [
      about({ target: "other" }),
      about({ target: 7 }),
      about({ target: undefined }),
      about({ services: ["10.77.0.101:7"] }),
      about({ services: [null, "nonsense"] }),
      about({ server: `${ECHO}0` }),
    ];
    const input = others.map((line) => `${line}\\n`).join("");
    const passed = await feed(stage, input, ...flags);
    assert.equal(passed.status, 0, passed.stderr);
    assert.deepEqual(own(passed.stdout).map(({ type }) => type), ["started"]);
    for (const line of others) assert.ok(passed.stdout.split("\n").includes(line), line);

    // It waits for a fence, and the target is back before that stands.
    const lines = `${failed}\\n${recovered}\\n`;
    const cancelled = await feed(stage, lines, ...flags, "--fence", "require");
    assert.equal(cancelled.status, 0, cancelled.stderr);
    const [, warning, ...more] = own(cancelled.stdout);
    assert.match(String(warning?.message), /given up before it began: "primary" has recovered/);
    assert.deepEqual(more, []);
    assert.equal((await stage.stats()).mode, "shadow");
  },
);

onStage(
  "takeover: --strict ends at the first line that is no event, with its number",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const outcome = await feed(stage, `${unknown}\\nnot json\\n${failed}\\n`, "--strict");
    assert.equal(outcome.status, 65);
    assert.equal(
      outcome.stderr,
      "t2cp takeover: Line 2 of the input is no event: it is not JSON\n",
    );
    assert.deepEqual(own(outcome.stdout).map(({ type }) => type), ["started"]);
    assert.equal((await stage.stats()).mode, "shadow", "what comes behind does not act");
  },
);

onStage("takeover: --on chooses another event", async (stage) => {
  await stage.echoServers();
  await stage.protect(ECHO);
  const first = await feed(stage, `${failed}\\n`, "--on", "suspect");
  assert.deepEqual(own(first.stdout).map(({ type }) => type), ["started"]);
  assert.equal((await stage.stats()).mode, "shadow");
  const second = await feed(stage, `${suspect}\\n`, "--on", "suspect");
  assert.deepEqual(own(second.stdout).map(({ type }) => type).slice(0, 2), ["started", "active"]);
  assert.notEqual((await stage.stats()).mode, "shadow");
});

onStage("takeover: without a shadow, and with wrong flags, it says what to do", async (stage) => {
  const takeover = (...flags: string[]) =>
    stage.t2cp("backup", "takeover", "--run-dir", stage.runDir, ...flags);
  for (const flags of [["--now"], ["--on", "failed"]]) {
    assertRefused(
      await takeover(...flags),
      69,
      /^t2cp takeover: No shadow was started in run directory ".*"; start t2cp shadow first/,
    );
  }
  assertRefused(
    await stage.t2cp("backup", "takeover", "--now", "--run-dir", "/nowhere/at/all"),
    69,
    /^t2cp takeover: No shadow was started in run directory "\/nowhere\/at\/all"/,
  );
  assertRefused(
    await takeover("--now", "--on", "failed"),
    64,
    /^t2cp takeover: Flags "--now" and "--on"/,
  );
  assertRefused(
    await takeover("--on", "Fail!"),
    64,
    /^t2cp takeover: --on: "Fail!" is not the type/,
  );
  assertRefused(await takeover("--on", ""), 64, /^t2cp takeover: --on: "" is not the type/);
});

onStage(
  "takeover: a connection in the middle of its handshake gets its replica from the client's ACK",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const port = 41_000;
    // The gateway loses whatever follows the SYN/ACK, before it is copied.
    await stage.output(
      "gateway",
      ...[
        "nft",
        `add table ip t; add chain ip t f { type filter hook forward priority 0; }; ` +
        `add rule ip t f tcp sport ${port} tcp flags != syn drop`,
      ],
    );
    const connection = stage.connect(7, "nodelay", port);
    await poll("the client's end of the connection", async () => {
      const states = await stage.output("client", "ss", "-Htan", "sport", "=", `:${port}`);
      return states.startsWith("ESTAB");
    });
    assert.deepEqual(await stage.flows(), []);
    await stage.lab.failHost();
    const takeover = stage.start("backup", "takeover", "--now", "--run-dir", stage.runDir);
    assert.equal((await takeover.next("active")).flows, 0);
    await stage.output("gateway", "nft", "delete table ip t");
    assert.equal(await connection.echo("hello"), "hello");
    assert.equal(await connection.echo("again"), "again");
  },
);

onStage(
  "takeover: new clients are served at once, and it ends by itself when all is settled",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const old = stage.connect(7);
    assert.equal(await old.echo("before"), "before");
    await stage.lab.failHost();
    const takeover = stage.start("backup", "takeover", "--now", "--run-dir", stage.runDir);
    await takeover.next("active");
    const fresh = stage.connect(7);
    assert.equal(await fresh.echo("fresh"), "fresh");
    assert.equal((await takeover.status).code, 0);
    assert.equal((await stage.stats()).mode, "active");
    assert.equal((await stage.stats()).flows, 0);
    for (const echo of [old, fresh]) {
      assert.equal(await echo.echo("settled"), "settled");
      assert.equal((await echo.end()).length, 0);
    }
    assert.match(
      await stage.output("backup", "ip", "-br", "address", "show", "eth0"),
      /10\.77\.0\.100\/32/,
    );
  },
);

onStage(
  "takeover: --planned needs a fence, and changes nothing where none answers",
  async (stage) => {
    await stage.echoServers();
    await stage.protect(ECHO);
    const takeover = (...flags: string[]) =>
      stage.t2cp("backup", "takeover", "--run-dir", stage.runDir, ...flags);
    assertRefused(await takeover("--planned"), 64, /"--planned" needs the control socket of one/);
    assertRefused(await takeover("--planned", "--now"), 64, /"--planned" and "--now" exclude/);
    assertRefused(await takeover("--planned-timeout", "1"), 64, /of no use without "--planned"/);
    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");
    const outcome = await takeover("--planned", "--fence", `${stage.runDir}/nobody.sock`);
    assert.equal(outcome.status, 75, outcome.stderr);
    assert.equal((await stage.stats()).mode, "shadow");
    assert.equal(await echo.echo("after"), "after");
  },
);
