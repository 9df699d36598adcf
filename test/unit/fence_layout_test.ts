import { FENCE_CONTROL, fenceCounters } from "../../lib/fence/layout.ts";
import { assertCounters, bpfHeader, testStructs } from "../fixture/layout.ts";

const header = bpfHeader("fence_layout.h");

testStructs(header, { fence_control: FENCE_CONTROL });

Deno.test("fence layout: the counters are those of the header", () => {
  assertCounters(header, "fence_counter", "FENCE_", fenceCounters);
});
