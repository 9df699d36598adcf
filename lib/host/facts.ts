/**
 * The facts of this host, read from the kernel and from iproute2.
 *
 * @module
 */
import { ordinaryLine } from "../../ffi/scheduler.ts";
import { ExitStatus, Failure } from "../failure.ts";
import { iproute } from "./links.ts";
import type { HostFacts, Listener, Route } from "../shadow/preflight.ts";

/** This host, as the current network namespace shows it. */
export const thisHost: HostFacts = {
  sysctl(name: string): string | undefined {
    try {
      return Deno.readTextFileSync(`/proc/sys/${name}`).trim();
    } catch {
      return undefined;
    }
  },
  addresses(): { name: string; address: string }[] {
    return Deno.networkInterfaces();
  },
  async listeners(): Promise<Listener[]> {
    const [tcp, mptcp] = await Promise.all([ss(["-Hltn"]), ss(["-HlnM"])]);
    return [
      ...parseListeners(tcp).map((listener) => ({ ...listener, mptcp: false })),
      ...parseListeners(mptcp).map((listener) => ({ ...listener, mptcp: true })),
    ];
  },
  hasKernelFunction(name: string): boolean {
    try {
      return Deno.readTextFileSync("/proc/kallsyms").includes(` ${name}\n`);
    } catch {
      return true;
    }
  },
  defaultRoute(): Route | undefined {
    return parseDefaultRoute(iproute("ip", "-4", "-j", "route", "show", "default"));
  },
};

/** Reads the first route of `ip -j route show default`. */
export function parseDefaultRoute(text: string): Route | undefined {
  const routes: {
    gateway?: string;
    dev?: string;
    metrics?: { initrwnd?: number; congestion?: string; quickack?: number }[];
  }[] = JSON.parse(text || "[]");
  const route = routes[0];
  if (route === undefined) return undefined;
  const via = route.gateway === undefined ? "" : ` via ${route.gateway}`;
  const metrics = Object.assign({}, ...route.metrics ?? []);
  return {
    text: `default${via} dev ${route.dev}`,
    initrwnd: metrics.initrwnd,
    congctl: metrics.congestion,
    quickack: metrics.quickack,
  };
}

/** Runs ss(8) and returns its output; an unknown socket kind gives none. */
export async function ss(args: readonly string[]): Promise<string> {
  return (await runTool("ss", args, "iproute2")).stdout;
}

/** What a tool printed. */
export interface ToolOutput {
  /** Exit status. */
  code: number;
  /** What it wrote to stdout. */
  stdout: string;
  /** What it wrote to stderr, without white space around it. */
  stderr: string;
}

/**
 * Runs a system tool to its end, with ordinary priority.
 *
 * @throws {Failure} with status UNAVAILABLE where it is not installed
 */
export async function runTool(
  tool: string,
  args: readonly string[],
  debianPackage: string,
): Promise<ToolOutput> {
  const missing = (cause?: unknown): Failure =>
    new Failure(ExitStatus.UNAVAILABLE, `Program "${tool}" is not installed`, {
      mend: `apt-get install ${debianPackage}`,
      cause,
    });
  const [program, line] = ordinaryLine(tool, args);
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(program, { args: line, stdin: "null" }).output();
  } catch (error) {
    throw error instanceof Deno.errors.NotFound ? missing(error) : error;
  }
  // As who runs a program for another says that there is none.
  if (program !== tool && output.code === 127) throw missing();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return { code: output.code, stdout: text(output.stdout), stderr: text(output.stderr).trim() };
}

/** Reads the local addresses of `ss -Hltn`. */
export function parseListeners(text: string): { address: string; port: number }[] {
  return text.split("\n").flatMap((line) => {
    const local = line.trim().split(/\s+/)[3];
    const match = /^(.*?)(?:%[^:\]]*)?:(\d+)$/.exec(local ?? "");
    if (match === null) return [];
    return [{ address: match[1]!.replace(/^\[|\]$/g, ""), port: Number(match[2]) }];
  });
}
