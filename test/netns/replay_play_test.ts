/**
 * `t2cp replay`, as a user runs it: captures that tcpdump makes of curl and nginx, played to nginx again.
 */
import assert from "node:assert/strict";
import { isRoot } from "./lab.ts";
import { T2CP } from "./stage.ts";

const t2cp = T2CP.map((word) => `'${word}'`).join(" ");

/** Two nginx with one page that differs, what curl has of the first one in `capture`, and a function to play it. */
const SERVERS = `
set -eu
ip link set lo up
cd "$1"
mkdir a b tmp
echo 'the same page' | tee a/index.html >b/index.html
head -c 300000 /dev/urandom | tee a/large >b/large
echo 'old news' >a/news
echo 'new news' >b/news
touch -d '1 hour ago' a/* b/*
server() {
  echo "daemon off; pid $1.pid; error_log $1.log; worker_processes 1; user root;
events { worker_connections 512; }
http { access_log off; keepalive_timeout 60;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
  uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen 127.0.0.1:$2; listen [::1]:$2; root $PWD/$1; } }" >$1.conf
  nginx -p "$PWD" -c $1.conf -e $1.log &
}
server a 8081
server b 9081
for port in 8081 9081; do
  for i in $(seq 600); do (: </dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 0.05; done
done
tcpdump -i lo --immediate-mode -U -w capture tcp port 8081 2>tcpdump & tcpdump=$!
for i in $(seq 600); do grep -q listening tcpdump && break; sleep 0.05; done
at=http://127.0.0.1:8081
for path in / /missing; do curl -sS $at$path -o /dev/null; done
curl -sS $at/ $at/news $at/large $at/ -o /dev/null -o /dev/null -o /dev/null -o /dev/null
curl -sSg 'http://[::1]:8081/large' -o /dev/null
# The last connection is captured to its end: both have sent a FIN, and nothing more comes.
ends() { tcpdump -nr capture ip6 2>/dev/null | grep -c 'Flags \\[F'; }
for i in $(seq 600); do [ $(ends) -ge 2 ] && break; sleep 0.05; done
size() { stat -c %s capture; }
for i in $(seq 200); do before=$(size); sleep 0.2; [ $(size) = $before ] && break; done
kill $tcpdump
wait $tcpdump
play() {
  status=0
  ${t2cp} replay "$@" --top-speed --settle 2 >>events 2>errors || status=$?
  echo "{\\"status\\": $status, \\"stderr\\": \\"$(head -n 1 errors | tr '"' "'")\\"}" >>events
}
`;

const END = `
kill $(cat a.pid) $(cat b.pid)
wait
cat events
`;

/** What came of one run of `play` in the script. */
interface Run {
  status: number;
  stderr: string;
  events: Record<string, unknown>[];
  /** The outcomes, by the numbers of the conversations. */
  outcomes: unknown[];
}

async function play(script: string): Promise<Run[]> {
  const directory = await Deno.makeTempDir({ prefix: "t2cp-play-" });
  try {
    const { stdout, stderr } = await new Deno.Command("timeout", {
      args: ["90", "unshare", "--net", "bash", "-c", SERVERS + script + END, "bash", directory],
    }).output();
    const decoder = new TextDecoder();
    const runs: Run[] = [];
    let events: Record<string, unknown>[] = [];
    for (const line of decoder.decode(stdout).trim().split("\n")) {
      assert.notEqual(line, "", decoder.decode(stderr));
      const event = JSON.parse(line);
      if (event.status === undefined) {
        events.push(event);
        continue;
      }
      const outcomes = events.filter(({ type }) => type === "replay.flow")
        .toSorted((a, b) => Number(a["flow"]) - Number(b["flow"])).map(({ outcome }) => outcome);
      runs.push({ ...event, events, outcomes });
      events = [];
    }
    return runs;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test({
  name: "replay: what tcpdump has captured of curl and nginx, with --map, masks and exit statuses",
  ignore: !isRoot,
  async fn() {
    const [same, other, mapped, unmapped, nobody, cut, nothing] = await play(`
play capture --to 127.0.0.1:8081 --mask @http
play capture --to 127.0.0.1:9081 --mask @http --filter ip
play capture --map '[::1]:8081=127.0.0.1:9081' --mask @http
play capture --map ':1=:2'
play capture --to 127.0.0.1:1
head -c -7 capture >cut
play cut --to 127.0.0.1:8081 --mask @http --limit 1
play capture --to 127.0.0.1:8081 --filter 'port 9'
`) as [Run, Run, Run, Run, Run, Run, Run];
    const equal = "equal";
    assert.deepEqual([same.status, same.outcomes], [0, [equal, equal, equal, equal]], same.stderr);
    const result = same.events.find(({ type }) => type === "replay.result")!;
    assert.equal(result["messages"], 7);
    assert.ok(Number(result["received"]) > 600_000);

    assert.deepEqual([other.status, other.outcomes], [1, [equal, equal, "differs"]]);
    const differs = other.events.find(({ outcome }) => outcome === "differs")!;
    assert.deepEqual([differs["answers"], differs["answers_differing"]], [4, 1]);
    assert.match(String(differs["expected"]), /^old news/);
    assert.match(String(differs["actual"]), /^new news/);

    assert.deepEqual(mapped.outcomes, ["skipped", "skipped", "skipped", equal]);
    assert.match(JSON.stringify(mapped.events), /no --map for 127\.0\.0\.1:8081, and no --to/);

    assert.deepEqual([unmapped.status, new Set(unmapped.outcomes)], [64, new Set(["skipped"])]);
    assert.match(
      unmapped.stderr,
      /No conversation of 'capture' was played to its end: no --map for/,
    );

    assert.deepEqual([nobody.status, new Set(nobody.outcomes)], [1, new Set(["refused"])]);
    assert.deepEqual([cut.status, cut.outcomes], [0, [equal]], "the rest was not read");
    assert.equal(nothing.status, 65);
    assert.match(nothing.stderr, /has no conversation to play/);
  },
});

Deno.test({
  name: "replay: a capture that is cut is played up to there, then the status is 65",
  ignore: !isRoot,
  async fn() {
    const [cut] = await play(`
head -c -7 capture >cut
play cut --to 127.0.0.1:8081 --mask @http
`) as [Run];
    assert.equal(cut.status, 65);
    assert.match(cut.stderr, /Block \d+ at byte \d+ of 'cut' ends/);
    assert.equal(cut.outcomes.length, 4);
    assert.deepEqual(new Set(cut.outcomes), new Set(["equal"]));
  },
});
