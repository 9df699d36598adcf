/**
 * Which target a probe is about.
 *
 * @module
 */
import { ExitStatus, Failure } from "../failure.ts";
import type { ProbeSpec } from "../probe/spec.ts";

/**
 * The target of each probe: the one that is named; else the only peer; else the peer that the probe asks; else, where
 * there are no peers, the address that all probes ask.
 *
 * @throws {Failure} with status USAGE where that is not clear
 */
export function assignProbes(
  probes: readonly ProbeSpec[],
  peers: readonly string[],
  target: string | undefined,
): { spec: ProbeSpec; target: string }[] {
  const twice = probes.find(({ name }, i) => probes.findIndex((one) => one.name === name) !== i);
  if (twice !== undefined) {
    throw new Failure(ExitStatus.USAGE, `Probe "${twice.name}" is given twice`, {
      mend: "leave one out",
    });
  }
  const asked = new Set(probes.flatMap((probe) => "address" in probe ? [probe.address] : []));
  const common = peers.length === 1
    ? peers[0]
    : peers.length === 0 && asked.size === 1
    ? [...asked][0]
    : undefined;
  return probes.map((spec) => {
    const own = "address" in spec && peers.includes(spec.address) ? spec.address : undefined;
    const name = target ?? common ?? own;
    if (name !== undefined) return { spec, target: name };
    throw new Failure(ExitStatus.USAGE, `It is not clear whom probe "${spec.name}" is about`, {
      mend: peers.length > 1
        ? "let it ask one of the peers' addresses, or watch one peer"
        : "name the target by --target",
    });
  });
}
