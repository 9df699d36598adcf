import assert from "node:assert/strict";
import { join } from "node:path";
import { AUTH_TYPES, type AuthTypeName } from "../../lib/bfd/authentication.ts";
import { isRoot, TwoHosts } from "./two_hosts.ts";

const BIRD = "/usr/sbin/bird";

const hasBird = ((): boolean => {
  try {
    return Deno.statSync(BIRD).isFile;
  } catch {
    return false;
  }
})();

function configuration(directory: string, type: AuthTypeName): string {
  const words = type.replaceAll("-", " ");
  return `router id 10.99.0.2;
log "${join(directory, "log")}" all;
protocol device {}
protocol bfd {
  interface "link0" {
    interval 50 ms;
    multiplier 40;
    authentication ${words};
    password "a secret" { id 9; };
  };
  neighbor 10.99.0.1 dev "link0";
}
`;
}

/** BIRD on one host, t2cp on the other: their session must come up, and stay up. */
async function meet(directory: string, type: AuthTypeName): Promise<void> {
  const path = (name: string): string => join(directory, `${type}.${name}`);
  await Deno.writeTextFile(path("conf"), configuration(directory, type));
  await Deno.writeTextFile(path("key"), "a secret\n", { mode: 0o600 });
  await TwoHosts.with(async (hosts) => {
    const argv = [BIRD, "-f", "-c", path("conf"), "-s", path("control"), "-P", path("pid")];
    const quiet = { stdin: "null", stdout: "null", stderr: "null" } as const;
    const bird = hosts.command("b", argv, quiet).spawn();
    try {
      const key = ["--auth-type", type, "--auth-key-id", "9", "--auth-key-file", path("key")];
      // Neither gives the other up while the machine is busy for a moment.
      const flags = ["--peer", "10.99.0.2", "--multiplier", "40", "--stats", "0.2", ...key];
      const detector = hosts.start("a", "detect", ...flags);
      await detector.next("up");
      for (let i = 0; i < 3; i++) {
        const { sessions, discarded } = await detector.next("stats", detector.events.length);
        assert.deepEqual((sessions as { state: string }[]).map(({ state }) => state), ["Up"]);
        assert.deepEqual(discarded, {});
      }
      assert.equal((await detector.end("SIGTERM")).code, 0);
    } finally {
      bird.kill("SIGKILL");
      await bird.status;
    }
  });
}

Deno.test({
  name: `bird: every kind of authentication is understood${
    hasBird ? "" : " (package bird2 is missing)"
  }`,
  ignore: !isRoot || !hasBird,
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "t2cp-test-bird-" });
    try {
      await Promise.all(AUTH_TYPES.map((type) => meet(directory, type)));
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
