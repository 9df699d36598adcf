import assert from "node:assert/strict";
import { count, summary } from "../../.ci/summary.ts";

const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="8" failures="2" errors="0" time="0.236">
    <testsuite name="./a_test.ts" tests="7" disabled="2" errors="1" failures="2">
        <testcase name="tests=&quot;99&quot;" classname="./a_test.ts" time="0.002" line="1" col="6">
        </testcase>
    </testsuite>
    <testsuite name="./c_test.ts" tests="1" disabled="0" errors="0" failures="0">
    </testsuite>
</testsuites>`;

Deno.test("the counts of a report are those of its suites", () => {
  assert.deepEqual(count(report), { passed: 3, failed: 3, skipped: 2 });
  assert.deepEqual(count(""), { passed: 0, failed: 0, skipped: 0 });
});

Deno.test("the summary names skipped tests only where there are any", () => {
  assert.equal(summary({ passed: 3, failed: 3, skipped: 2 }), "3 passed, 3 failed, 2 skipped");
  assert.equal(summary({ passed: 3, failed: 0, skipped: 0 }), "3 passed, 0 failed");
});
