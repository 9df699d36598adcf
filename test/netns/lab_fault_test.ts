import assert from "node:assert/strict";
import { isRoot, labEvents, withLab } from "./lab.ts";

const ignore = !isRoot;

const CASES = [
  ["process", "nginx", "download", "4", "20M"],
  ["process", "socat", "echo", "6", "19200"],
  ["hang", "threaded", "upload", "4", "20M"],
] as const;

for (const [failure, server, workload, family, size] of CASES) {
  Deno.test({
    name: `lab run: ${workload} over IPv${family} survives failure "${failure}" of ${server}`,
    ignore,
    fn: () =>
      withLab(async (lab) => {
        const args = ["--failure", failure, "--server", server, "--workload", workload];
        const amount = ["--family", family, "--size", size];
        const events = await labEvents("lab", "run", "--json", ...lab.flags, ...args, ...amount);
        const result = events.at(-1)!;
        assert.deepEqual(
          [result.type, result.ok, result.failure, result.server, result.early_ends],
          ["lab.result", true, failure, server, 0],
        );
        const failed = events.find(({ type }) => type === "failed")!;
        assert.deepEqual(
          [failed.by, failed.target, failed.level, failed.cause],
          [failure === "process" ? "guard" : "detect", "primary", "application", "unplanned"],
        );
        assert.ok(events.some(({ type }) => type === "active"));
      }),
  });
}

Deno.test({
  name: "lab run: an upload does not notice that the backup takes over from the living primary",
  ignore,
  fn: () =>
    withLab(async (lab) => {
      const args = ["--failure", "planned", "--workload", "upload", "--size", "120M"];
      const events = await labEvents("lab", "run", "--json", ...lab.flags, ...args);
      const { ok, early_ends, detect_ms } = events.at(-1)!;
      assert.deepEqual([ok, early_ends, detect_ms], [true, 0, null]);
      const active = events.find(({ type }) => type === "active")!;
      const { frozen, caught_up, fenced, drained, active_mode } = active.steps as Record<
        string,
        number
      >;
      const steps = [frozen, caught_up, fenced, drained, active_mode];
      assert.deepEqual(steps, steps.toSorted((a, b) => a! - b!));
      assert.ok(events.some(({ type, by }) => type === "fenced" && by === "fence"));
    }),
});
