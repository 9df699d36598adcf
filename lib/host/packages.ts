/**
 * The Debian packages that t2cp's purposes need, and their installation.
 *
 * @module
 */

import { ExitStatus, Failure } from "../failure.ts";

/** What packages are needed for; each purpose needs those before it too. */
export const PURPOSES = ["demo", "test", "check", "bench"] as const;

/** One of {@linkcode PURPOSES}. */
export type Purpose = typeof PURPOSES[number];

/** One Debian package. */
export interface Package {
  /** Its name in Debian 12. */
  name: string;
  /** Its name in later releases, where that differs. */
  laterName?: string;
  /** The first purpose that needs it. */
  purpose: Purpose;
  /** What it is for, as the rest of "NAME: …". */
  reason: string;
  /** The service that it would start with the system, where it brings one. */
  service?: string;
}

/** Every package that is needed beyond a minimal Debian system. */
export const PACKAGES: readonly Package[] = [
  { name: "iproute2", purpose: "demo", reason: "makes the lab's hosts and links (ip, tc)" },
  { name: "util-linux", purpose: "demo", reason: "runs programs on the lab's hosts (nsenter)" },
  { name: "libbpf1", purpose: "demo", reason: "loads the programs that replicate connections" },
  {
    name: "libpcap0.8",
    laterName: "libpcap0.8t64",
    purpose: "demo",
    reason: "sends and receives single packets",
  },
  {
    name: "nginx",
    purpose: "demo",
    reason: "the lab's web server, for downloads and uploads",
    service: "nginx",
  },
  { name: "curl", purpose: "demo", reason: "the lab's web client" },
  { name: "socat", purpose: "demo", reason: "the lab's echo server and its client" },
  { name: "tcpdump", purpose: "demo", reason: "shows what is on the wire" },
  { name: "python3", purpose: "test", reason: "runs the lab's servers in Python" },
  { name: "tshark", purpose: "test", reason: "reads capture files in the tests" },
  { name: "nftables", purpose: "test", reason: "drops chosen packets in the tests" },
  { name: "strace", purpose: "test", reason: "kills at chosen system calls in the tests" },
  {
    name: "frr",
    purpose: "test",
    reason: "is another BFD speaker to detect by and be watched by (bfdd)",
    service: "frr",
  },
  {
    name: "bird2",
    purpose: "test",
    reason: "is a BFD speaker that authenticates",
    service: "bird",
  },
  { name: "mandoc", purpose: "check", reason: "checks the manual pages" },
  { name: "clang-14", purpose: "check", reason: "rebuilds the BPF objects, to compare them" },
  { name: "llvm-14", purpose: "check", reason: "strips the rebuilt BPF objects (llvm-strip)" },
  { name: "libbpf-dev", purpose: "check", reason: "has the headers that the BPF programs include" },
  { name: "make", purpose: "check", reason: "runs the rebuilding of the BPF objects" },
  {
    name: "keepalived",
    purpose: "bench",
    reason: "moves addresses by VRRP, to compare with",
    service: "keepalived",
  },
  { name: "tcpreplay", purpose: "bench", reason: "puts captures on the wire, to compare with" },
  { name: "wrk", purpose: "bench", reason: "asks web servers for pages, as fast as they answer" },
];

/**
 * The packages for `purpose` that are not installed.
 *
 * @throws {Failure} where the system has no dpkg, so that nobody can say
 */
export async function missingPackages(purpose: Purpose): Promise<Package[]> {
  const wanted = PACKAGES.filter((entry) =>
    PURPOSES.indexOf(entry.purpose) <= PURPOSES.indexOf(purpose)
  );
  const names = wanted.flatMap((entry) => [entry.name, entry.laterName ?? []].flat());
  let output: Deno.CommandOutput;
  try {
    output = await command([
      "dpkg-query",
      "-W",
      "-f",
      "${Package} ${db:Status-Status}\\n",
      ...names,
    ]);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure(ExitStatus.UNAVAILABLE, "This is no Debian system: dpkg-query is missing", {
      mend: `install by its own means: ${wanted.map((entry) => entry.name).join(", ")}`,
    });
  }
  const installed = installedNames(new TextDecoder().decode(output.stdout));
  return wanted.filter(({ name, laterName }) =>
    !installed.has(name) && !(laterName !== undefined && installed.has(laterName))
  );
}

/** The names of the installed packages in lines of "NAME STATUS". */
export function installedNames(lines: string): Set<string> {
  return new Set(
    lines.split("\n").map((line) => line.split(" "))
      .filter(([, status]) => status === "installed").map(([name]) => name!),
  );
}

/**
 * Refuses to go on where a package for `purpose` is missing. A system without dpkg passes: there,
 * each program's absence is reported when it is started.
 *
 * @throws {Failure} naming the packages
 */
export async function requirePackages(purpose: Purpose): Promise<void> {
  const missing = await missingPackages(purpose).catch((error) => {
    if (error instanceof Failure) return [];
    throw error;
  });
  if (missing.length === 0) return;
  const names = missing.map((entry) => entry.name).join(", ");
  throw new Failure(ExitStatus.UNAVAILABLE, `Missing packages: ${names}`, {
    mend: 'install them with "t2cp lab setup"',
  });
}

/**
 * Installs what is missing for `purpose` by apt-get, without questions. Services that a package
 * brings along are neither started nor enabled.
 *
 * @param say receives lines for the user: what is installed and why
 * @throws {Failure} without root, without apt-get, or where apt-get fails
 */
export async function installPackages(
  purpose: Purpose,
  say: (line: string) => void,
): Promise<void> {
  const missing = await missingPackages(purpose);
  if (missing.length === 0) return;
  const names = missing.map((entry) => entry.name);
  const byHand = `run as root: apt-get install ${names.join(" ")}`;
  if (Deno.uid() !== 0) {
    throw new Failure(
      ExitStatus.NO_PERMISSION,
      `Installing packages needs root: ${names.join(", ")}`,
      { mend: byHand },
    );
  }
  for (const entry of missing) say(`Installing ${entry.name}: it ${verb(entry.reason)}`);
  await withoutServiceStarts(async () => {
    const install = ["install", "-y", "--no-install-recommends", ...names];
    if (await hasPackageLists() && (await aptGet(install, byHand)).success) return;
    say("Fetching the list of packages (apt-get update)");
    await aptGet(["update"], byHand);
    const last = await aptGet(install, byHand);
    if (!last.success) {
      const text = new TextDecoder().decode(last.stderr).trim().split("\n").at(-1);
      throw new Failure(ExitStatus.UNAVAILABLE, `Command apt-get failed: ${text}`, {
        mend: byHand,
      });
    }
  });
  for (const { service } of missing) {
    if (service === undefined) continue;
    // Lab and tests start their own; the system's would come up with the next boot.
    await command(["update-rc.d", service, "disable"]);
    say(`The system's own ${service} service stays stopped and disabled`);
  }
}

/** "makes X" as it is, "the lab's X" as "is the lab's X". */
function verb(reason: string): string {
  return reason.startsWith("the ") ? `is ${reason}` : reason;
}

async function aptGet(args: string[], mend: string): Promise<Deno.CommandOutput> {
  try {
    return await command(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", ...args], {
      DEBIAN_FRONTEND: "noninteractive",
    });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure(ExitStatus.UNAVAILABLE, "This is no Debian system: apt-get is missing", {
      mend,
    });
  }
}

async function hasPackageLists(): Promise<boolean> {
  try {
    for await (const entry of Deno.readDir("/var/lib/apt/lists")) {
      if (entry.isFile && entry.name.endsWith("_Packages")) return true;
      if (entry.isFile && entry.name.includes("_Packages.")) return true;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return false;
}

const POLICY = "/usr/sbin/policy-rc.d";
const SAVED = `${POLICY}.before-t2cp`;
const MARK = "# Put here by t2cp while it installs packages";

/**
 * Runs `work` while invoke-rc.d and deb-systemd-invoke refuse to start any service, by the policy
 * file that Debian provides for this. What was there before is put back; so is what an earlier
 * call that was killed has left.
 */
async function withoutServiceStarts(work: () => Promise<void>): Promise<void> {
  const ours = await readIfThere(POLICY).then((text) => text?.includes(MARK));
  if (!ours && await readIfThere(POLICY) !== undefined) await Deno.rename(POLICY, SAVED);
  await Deno.writeTextFile(POLICY, `#!/bin/sh\n${MARK}\nexit 101\n`, { mode: 0o755 });
  try {
    await work();
  } finally {
    await Deno.remove(POLICY);
    if (await readIfThere(SAVED) !== undefined) await Deno.rename(SAVED, POLICY);
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Runs a program in a process group of its own: a Ctrl-C must not end dpkg half-way. */
function command(argv: string[], env: Record<string, string> = {}): Promise<Deno.CommandOutput> {
  return new Deno.Command(argv[0]!, {
    args: argv.slice(1),
    env: { LC_ALL: "C", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).output();
}
