/**
 * Prints the counts of a JUnit report of `deno test` as one line: `12 passed, 0 failed, 3 skipped`.
 * Steps count as tests, as they do in the report.
 *
 *     deno run -A .ci/summary.ts REPORT STATUS
 *
 * STATUS is the exit status of `deno test`: a test file that could not be loaded is not in the
 * report, and shows only there.
 *
 * @module
 */

/** What a report says about its tests. */
export interface Counts {
  /** Tests that passed. */
  passed: number;
  /** Tests that failed. */
  failed: number;
  /** Tests that were skipped. */
  skipped: number;
}

/** Adds up the suites of a JUnit report. */
export function count(report: string): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [suite] of report.matchAll(/<testsuite\s[^>]*>/g)) {
    const number = (name: string): number =>
      Number(new RegExp(`\\s${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
    const failed = number("failures") + number("errors");
    counts.failed += failed;
    counts.skipped += number("disabled");
    counts.passed += number("tests") - failed - number("disabled");
  }
  return counts;
}

/** The counts as one line. */
export function summary({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed` + (skipped > 0 ? `, ${skipped} skipped` : "");
}

if (import.meta.main) {
  const [path = "", status = "0"] = Deno.args;
  let report = "";
  try {
    report = Deno.readTextFileSync(path);
  } catch {
    console.error(`Cannot read "${path}"`);
  }
  const counts = count(report);
  if (counts.failed === 0 && (status !== "0" || report === "")) counts.failed = 1;
  console.log(summary(counts));
  Deno.exit(counts.failed === 0 ? 0 : 1);
}
