/**
 * Shadow testing: live traffic of one nginx is played to another one, by the pipeline that an admin writes.
 */
import assert from "node:assert/strict";
import { isRoot } from "./lab.ts";
import { T2CP } from "./stage.ts";

const t2cp = T2CP.map((word) => `'${word}'`).join(" ");

/** Two nginx, of which the second one has other news; `$1` is a directory, `$2` and on are flags of replay. */
const SERVERS = `
set -eu
ip link set lo up
cd "$1"
mkdir a b tmp
echo 'the same page' | tee a/index.html >b/index.html
head -c 300000 /dev/urandom | tee a/large >b/large
echo 'id=1 old news, and more of them' >a/news
echo 'id=22 new news' >b/news
touch -d '1 hour ago' b/*
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout key -out cert 2>/dev/null
server() {
  echo "daemon off; pid $1.pid; error_log $1.log; worker_processes 1; user root;
events { worker_connections 512; }
http { access_log off; keepalive_timeout 60;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
  uwsgi_temp_path tmp; scgi_temp_path tmp; ssl_certificate cert; ssl_certificate_key key;
  server { listen 127.0.0.1:$2; listen 127.0.0.1:$3 ssl; root $PWD/$1; } }" >$1.conf
  nginx -p "$PWD" -c $1.conf -e $1.log & 
}
server a 8081 8443
server b 9081 9443
for port in 8081 9081 8443 9443; do
  for i in $(seq 600); do (: </dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 0.05; done
done
{
  ${t2cp} record --follow --interface lo --service 127.0.0.1:8081 --service 127.0.0.1:8443 \\
    2>record & echo $! >pid; wait
} | ${t2cp} replay - --map :8081=:9081 --map :8443=:9443 --max-lag 30 --settle 2 \\
  "\${@:2}" >events 2>errors &
replay=$!
for i in $(seq 600); do grep -q started record && grep -q started events && break; sleep 0.05; done
at=http://127.0.0.1:8081
curl -sS $at/ >/dev/null
curl -sS $at/ $at/news $at/large $at/ -o /dev/null -o /dev/null -o /dev/null -o /dev/null
curl -sSk https://127.0.0.1:8443/ >/dev/null
for i in $(seq 600); do [ $(grep -c replay.flow events) = 3 ] && break; sleep 0.05; done
kill -TERM $(cat pid)
status=0
wait $replay || status=$?
kill $(cat a.pid) $(cat b.pid)
wait
cat events
exit $status
`;

interface Run {
  status: number;
  flows: Record<string, unknown>[];
  result: Record<string, unknown>;
}

async function shadow(...flags: string[]): Promise<Run> {
  const directory = await Deno.makeTempDir({ prefix: "t2cp-follow-" });
  try {
    const { code, stdout, stderr } = await new Deno.Command("timeout", {
      args: ["90", "unshare", "--net", "bash", "-c", SERVERS, "bash", directory, ...flags],
    }).output();
    const decoder = new TextDecoder();
    const events = decoder.decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
    const flows = events.filter(({ type }) => type === "replay.flow")
      .toSorted((a, b) => a.flow - b.flow);
    const result = events.find(({ type }) => type === "replay.result");
    assert.ok(result !== undefined, decoder.decode(stderr));
    return { status: code, flows, result };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, ignore: !isRoot, fn });
}

test("record --follow | replay: each answer of live traffic is compared, TLS is said to be opaque", async () => {
  const { status, flows, result } = await shadow("--mask", "@http");
  assert.equal(status, 1, JSON.stringify(result));
  assert.deepEqual(flows.map(({ outcome }) => outcome), ["equal", "differs", "opaque"]);
  const [, differs, opaque] = flows;
  // The answers behind the one that differs are compared again.
  assert.deepEqual([differs!["answers"], differs!["answers_differing"]], [4, 1]);
  assert.match(String(differs!["before"]), /Content-Length: $/);
  assert.equal(opaque!["protocol"], "tls");
  const { lost, late, missing_bytes: missing } = result["counters"] as Record<string, number>;
  assert.deepEqual({ lost, late, missing }, { lost: 0, late: 0, missing: 0 });
});

test("record --follow | replay: what masks hide may differ", async () => {
  const masks = ["@http", "@http-length", "^id=[0-9]+ .*"].flatMap((mask) => ["--mask", mask]);
  const { status, flows, result } = await shadow(...masks);
  assert.equal(status, 0, JSON.stringify([flows, result]));
  assert.deepEqual(flows.map(({ outcome }) => outcome), ["equal", "equal", "opaque"]);
});
